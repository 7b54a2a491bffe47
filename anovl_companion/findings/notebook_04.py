"""The findings of notebook 04."""

from __future__ import annotations

from anovl_companion.findings.base import Estimate, Finding, Numbers, gain, value
from anovl_companion.measure.tta_variants import NONE, PUBLISHED, REVERSED, SHIFT
from anovl_companion.shared_run.reader import MARGIN, SharedRun

TABLE = {"table": "tta"}
NOT_RESET = "optimizer not reset"


def over(run: SharedRun, variant: str, metric: str, reference: str = NONE) -> Estimate:
    """The gain of a variant in the table "tta", by default over no adaptation."""
    return gain(run, variant, reference, metric, **TABLE)


def within(run: SharedRun) -> Numbers:
    """How five steps change the order inside single pictures."""
    better, worse, n = run.pictures_better(PUBLISHED, NONE, **TABLE)
    return {
        "better": Estimate(better / n, n=n),
        "worse": Estimate(worse / n, n=n),
        "gain": over(run, PUBLISHED, "within"),
    }


def order(run: SharedRun) -> Numbers:
    """What the order of images changes when AdamW is not reset."""
    one, other = (run.table("tta").within(name) for name in (NOT_RESET, REVERSED))
    moved = abs(one - other)
    return {
        "changed": Estimate(float((moved > 0).mean()), n=len(moved)),
        "most": Estimate(float(moved.max())),
        "gain": over(run, NOT_RESET, "aupro", PUBLISHED),
    }


FINDINGS: dict[str, Finding] = {
    "04-within": Finding(
        says=(
            "Hardly, and more often not. Five steps raise the AUROC within {better:of} anomalous "
            "pictures and lower it within {worse:of}. The mean change is {gain:points}."
        ),
        numbers=within,
        # Twice the standard deviation of heads minus tails: more pictures lose than a coin decides.
        holds=lambda n: (
            n["gain"].verdict != "above"
            and n["worse"].value - n["better"].value
            > 2 * ((n["worse"].value + n["better"].value) / n["worse"].n) ** 0.5
        ),
        again="better {better:of}, worse {worse:of}, {gain:points}",
        otherwise="Five steps: better {better:of}, worse {worse:of}, mean change {gain:points}.",
        real_clip="Shorter tokens make the same noise louder, and louder noise turns this round.",
        refuted_by="tta.csv: `5 steps` above `no adaptation` in `within`",
    ),
    "04-pooled": Finding(
        says=(
            "Pooled over the pictures of a category, the same five steps gain {aupro:points} of "
            "AUPRO and {auroc:points} of debiased pixel AUROC."
        ),
        numbers=lambda run: {
            "aupro": over(run, PUBLISHED, "aupro"),
            "auroc": over(run, PUBLISHED, "auroc_px_debiased"),
        },
        holds=lambda n: n["aupro"].verdict == "above",
        again="{aupro:points} of AUPRO, {auroc:points} of AUROC",
        otherwise="Pooled: {aupro:points} of AUPRO, {auroc:points} of debiased pixel AUROC.",
        real_clip="The paper reports a gain; notebook 05 has its numbers, with and without TTA.",
        refuted_by="tta.csv: `5 steps` level with `no adaptation` in `aupro`",
    ),
    "04-entropy": Finding(
        says=(
            "A share of {below} of all map values lies below ½. Entropy alone changes AUPRO by "
            "{entropy:points}. With 0.2 added to each p it changes AUPRO by {shifted:points}."
        ),
        numbers=lambda run: {
            "below": value(run, NONE, "below_half", **TABLE),
            "entropy": over(run, "only entropy", "aupro"),
            "shifted": over(run, f"only entropy, p + {SHIFT}", "aupro"),
        },
        holds=lambda n: (
            n["below"].value > 0.9
            and n["entropy"].verdict == "above"
            and n["shifted"].verdict == "below"
        ),
        again="{below} below ½, {entropy:points}, shifted {shifted:points}",
        otherwise="Below ½: {below}. Entropy alone: {entropy:points}; shifted: {shifted:points}.",
        real_clip="On which side of ½ its patches lie depends on the words: look at this first.",
        refuted_by="tta.csv: `only entropy, p + 0.2` not below `no adaptation` in `aupro`",
    ),
    "04-terms": Finding(
        says=(
            "Single terms do more than all three. *Clean* alone gains {clean:points} of AUPRO, "
            "and {within:points} within the picture. *Noisy* alone changes AUPRO by {noisy:points}."
        ),
        numbers=lambda run: {
            "clean": over(run, "only clean", "aupro"),
            "within": over(run, "only clean", "within"),
            "noisy": over(run, "only noisy", "aupro"),
        },
        holds=lambda n: n["clean"].verdict == "above" and n["noisy"].verdict == "below",
        again="clean {clean:points}, within {within:points}, noisy {noisy:points}",
        otherwise="Clean alone: {clean:points} of AUPRO; noisy alone: {noisy:points}.",
        real_clip="The same signs, as long as most patches of a picture are normal.",
        refuted_by="tta.csv: `only clean` level with `no adaptation` in `aupro`",
    ),
    "04-noise": Finding(
        says=(
            "The noise is too faint here. Against the published noise, no noise changes AUPRO by "
            "{silent:points}. Ten times the noise changes it by {loud:points}, and the AUROC "
            "within pictures by {within:points}."
        ),
        numbers=lambda run: {
            "silent": over(run, "noise 0", "aupro", PUBLISHED),
            "loud": over(run, "noise 0.55", "aupro", PUBLISHED),
            "within": over(run, "noise 0.55", "within", PUBLISHED),
        },
        holds=lambda n: n["silent"].verdict == "below" and n["loud"].verdict == "above",
        again="{silent:points} without, {loud:points} with ten times the noise",
        otherwise="Against the published noise: none {silent:points}, ten times {loud:points}.",
        real_clip="The noise counts relative to a token's length: measure the angle first.",
        refuted_by="tta.csv: `noise 0.55` level with `5 steps` in `aupro`",
    ),
    "04-pseudo": Finding(
        says=(
            "Pseudo-labels gain {published:points} of AUPRO over the published loss. Their control "
            "is *clean* alone, which calls every patch normal. The difference to it is "
            "{control:points} ({control:word})."
        ),
        numbers=lambda run: {
            "published": over(run, "pseudo-labels", "aupro", PUBLISHED),
            "control": over(run, "pseudo-labels", "aupro", "only clean"),
        },
        holds=lambda n: n["published"].verdict == "above" and n["control"].verdict != "above",
        again="{published:points}; against clean alone {control:points} ({control:word})",
        otherwise="Over the published loss: {published:points}; over clean: {control:points}.",
        real_clip="Better maps give better labels, so labels may beat their control there.",
        refuted_by="tta.csv: `pseudo-labels` above `only clean` in `aupro`",
    ),
    "04-order": Finding(
        says=(
            "With one AdamW for the whole category, the order of images changes the AUROC within "
            "{changed:of} pictures, by {most} at most. Against a reset, AUPRO changes by "
            "{gain:points} ({gain:word})."
        ),
        numbers=order,
        holds=lambda n: n["changed"].value > 0.5 and n["most"].value > MARGIN,
        again="{changed:of} pictures, by {most} at most; AUPRO {gain:points} ({gain:word})",
        otherwise="Without a reset, order changes {changed:of} pictures, by {most} at most.",
        real_clip="The same: this is a fact of the published code.",
        refuted_by="tta.csv: equal columns of `optimizer not reset` in both orders",
    ),
}
