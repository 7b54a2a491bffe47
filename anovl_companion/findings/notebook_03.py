"""The findings of notebook 03."""

from __future__ import annotations

from functools import partial

from anovl_companion.findings.base import Estimate, Finding, Numbers, gain, value
from anovl_companion.shared_run.reader import MARGIN, SharedRun

IMAGE, PIXEL = "auroc_sp", "auroc_px_debiased"
WORDS = {"table": "words"}


def changes(run: SharedRun, variant: str, over: str = "domains") -> Numbers:
    """Image AUROC with the words `over` and with others, and what these change."""
    return {
        "was": value(run, over, IMAGE, **WORDS),
        "now": value(run, variant, IMAGE, **WORDS),
        "image": gain(run, variant, over, IMAGE, **WORDS),
        "pixel": gain(run, variant, over, PIXEL, **WORDS),
    }


def squeezed(run: SharedRun) -> Numbers:
    """Levels that are left in a span of 0.02 in half precision, and the change of pixel AUROC."""
    found = {}
    for dtype in ("float16", "bfloat16"):
        name, full = (f"span of 0.02, {one}" for one in (dtype, "float32"))
        found[f"levels_{dtype}"] = value(run, name, "levels", **WORDS)
        found[dtype] = gain(run, name, full, PIXEL, **WORDS)
    return found


def ends(run: SharedRun) -> Numbers:
    """The lowest and the highest image score of all pictures."""
    images = run.images()
    scores = images[images["method"] == "anovl"]["score"]
    return {"low": Estimate(scores.min()), "high": Estimate(scores.max())}


FINDINGS: dict[str, Finding] = {
    "03-one-word": Finding(
        says=(
            "For whole pictures 924 prompts beat one word on each side: image AUROC {now:interval} "
            "against {was:interval} ({image:points}). For maps it is {pixel:points} "
            "({pixel:word}). Seven bare states on each side already reach {states} ({rest:points} "
            "from them to all, {rest:word})."
        ),
        numbers=lambda run: {
            **changes(run, "domains", over="word"),
            "states": value(run, "states", IMAGE, **WORDS),
            "rest": gain(run, "domains", "states", IMAGE, **WORDS),
        },
        holds=lambda n: n["image"].verdict == "above",
        again="{now} against {was}; maps {pixel:points} ({pixel:word})",
        otherwise="Image AUROC: one word on each side {was:interval}, all prompts {now:interval}.",
        real_clip="The gain may differ: web captions use one word in many senses.",
        refuted_by="words.csv: `word` level with `domains` in `auroc_sp`",
    ),
    "03-crowd": Finding(
        says="All image scores of the run lie between {low} and {high}.",
        numbers=ends,
        holds=lambda n: n["high"].value - n["low"].value < 0.2,
        again="{low} to {high}",
        otherwise="Lowest image score: {low}; highest: {high}.",
        real_clip="They crowd more: texts and pictures lie in two narrow cones.",
        refuted_by="images.csv: `score` of `anovl` beyond these ends",
    ),
    "03-precision": Finding(
        says=(
            "Squeezed to a span of 0.02, maps have {levels_float16:count} different values in "
            "float16 and {levels_bfloat16:count} in bfloat16. In float16 pixel AUROC is "
            "{float16:word} to that in float32; bfloat16 changes it by {bfloat16:points}."
        ),
        numbers=squeezed,
        holds=lambda n: (n["float16"].verdict, n["bfloat16"].verdict) == ("equal", "below"),
        again="{bfloat16:points} with bfloat16",
        otherwise="Pixel AUROC in a span of 0.02, bfloat16 minus float32: {bfloat16:points}.",
        real_clip="The span is then real: compute the softmax in float32.",
        refuted_by="words.csv: `span of 0.02, bfloat16` level with `span of 0.02, float32`",
    ),
    "03-domains": Finding(
        says=(
            "Templates that say *photo* change image AUROC of the bare states by {loss:points}. "
            "Domain words bring it from {was:interval} to {now:interval} ({image:points}); in "
            "pixel AUROC it is {pixel:points} ({pixel:word}). One domain, *industrial photo*, "
            "against all three: {one:points} ({one:word})."
        ),
        numbers=lambda run: {
            **changes(run, "domains", over="templates"),
            "loss": gain(run, "templates", "states", IMAGE, **WORDS),
            "one": gain(run, "domain: industrial photo", "domains", IMAGE, **WORDS),
        },
        holds=lambda n: n["image"].verdict == "above" and n["loss"].verdict == "below",
        again="{was} to {now}, {image:points}",
        otherwise="Image AUROC without domain words: {was:interval}; with them: {now:interval}.",
        real_clip="Open: nobody wrote its captions so that these words matter.",
        refuted_by="words.csv: `templates` level with `domains` in `auroc_sp`",
    ),
    "03-name": Finding(
        says=(
            "For whole pictures the name matters little: a wrong name changes image AUROC by "
            "{image:points} ({image:word}), no name by {none:points} ({none:word}). Without a name "
            "pixel AUROC changes by {maps:points} ({maps:word})."
        ),
        numbers=lambda run: {
            **changes(run, "name: wrong"),
            "none": gain(run, "name: none", "domains", IMAGE, **WORDS),
            "maps": gain(run, "name: none", "domains", PIXEL, **WORDS),
        },
        holds=lambda n: max(abs(n["image"].value), abs(n["none"].value)) < 0.02,
        again="{image:points} and {none:points}",
        otherwise="Image AUROC with the right name: {was:interval}; a wrong one: {now:interval}.",
        real_clip="It matters more where a defect of one thing is a feature of another.",
        refuted_by="words.csv: `name: wrong` two points from `domains` in `auroc_sp`",
    ),
    "03-wording": Finding(
        says=(
            "States that no caption has still tell pictures apart, but less well: image AUROC "
            "{now:interval} against {was:interval}. In pixel AUROC they change {pixel:points} "
            "({pixel:word})."
        ),
        numbers=partial(changes, variant="held-out states"),
        holds=lambda n: n["image"].verdict == "below" and n["now"].low > 0.5 + MARGIN,
        again="{now} against {was}; maps {pixel:points}",
        otherwise="Image AUROC with published states: {was:interval}; others: {now:interval}.",
        real_clip="It read most wordings in training, so less is lost.",
        refuted_by="words.csv: `held-out states` level with `domains` in `auroc_sp`",
    ),
    "03-not": Finding(
        says=(
            "With *not damaged* as the normal state, image AUROC falls from {was:interval} to "
            "{now:interval}."
        ),
        numbers=partial(changes, variant="normal is 'not anomalous'"),
        holds=lambda n: n["image"].verdict == "below",
        again="{was} to {now}",
        otherwise="Image AUROC with *not damaged* as the normal state: {now:interval}.",
        real_clip="It knows the word, so this row tests whether it reads negation.",
        refuted_by="words.csv: `normal is 'not anomalous'` level with `domains`",
    ),
}
