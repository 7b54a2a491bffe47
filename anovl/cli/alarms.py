"""What `localize` prints: scores, alarms, the promise of a level, and what it does not promise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, inf

from anovl._shared.messages import counted, one_line
from anovl.cli.localize_files import Localized
from anovl.evaluation import threshold
from anovl.evaluation.misses import Catch, best_rules, share_interval

VALUES = {"score": "the image score", "map": "the peak of the map"}  # by --alarm-by


def print_localized(
    done: Sequence[Localized],
    calibrated: threshold.CalibratedDetector | None,
    known: Sequence[Catch] = (),
) -> None:
    """Print images with their values, the alarms, and what is known of their errors."""
    by_map = calibrated is not None and calibrated.alarm_by == "map"
    width = max(len(one_line(str(item.image))) for item in done)
    print(f"{'image':{width}}  score   map peak")

    def rank(item: Localized) -> tuple[bool, float]:
        return bool(item.alarm), item.peak if by_map else item.score

    for item in sorted(done, key=rank, reverse=True):
        name, alarm = one_line(str(item.image)), "    alarm" * bool(item.alarm)
        print(f"{name:{width}}  {item.score:.4f}  {item.peak:.4f}{alarm}")
    print()
    if calibrated is None:
        print("Scores compare images of one object. Normal images of it set a level: --normal DIR.")
    elif calibrated.level is None:
        print(about_level(calibrated))
    else:
        said = [*_about_alarms(done, calibrated), *_about_masks(done, calibrated)]
        print("\n".join([*said, *about_misses(known, calibrated)]), end="\n\n")


def about_level(calibrated: threshold.CalibratedDetector) -> str:
    """Say when an image raises an alarm, or why none does, and what is promised."""
    if calibrated.level is None:
        n, needed = calibrated.n, threshold.images_needed(threshold.FALSE_ALARMS)
        return (
            f"No level: at most {threshold.FALSE_ALARMS:.0%} false alarms need {needed} normal "
            f"images; found {n}. These allow --false-alarms {ceil(100 / (n + 1)) / 100}.\n"
            "They set the colour scale, and maps are compared with them."
        )
    levels = zip(VALUES.values(), calibrated.thresholds, strict=True)
    above = " or ".join(f"{what} is above {level:.4f}" for what, level in levels if level < inf)
    return f"An image raises an alarm if {above}.\nPromise: {promise(calibrated.level)}"


def promise(level: threshold.Level) -> str:
    """Say which rate of false alarms a level promises, and that it promises nothing else.

    >>> print(promise(threshold.Level(0.54, n=19, false_alarms=0.05)))
    of normal images, at most 5% raise an alarm, on average over many such sets of 19 normal images
    (expected: 5.0%). Some sets give a lower level: for 1 set in 20, more than 14.6% raise an alarm.
    Not promised: that anomalous images raise one. Normal images cannot tell how many are missed.
    """
    luck = (
        ".\nThe rate to expect depends on how score and map go together. Some sets give lower "
        "levels, and more false alarms."
        if level.together
        else f"\n(expected: {level.expected:.1%}). Some sets give a lower level: for 1 set in 20, "
        f"more than {level.rate_95:.1%} raise an alarm."
    )
    return (
        f"of normal images, at most {100 * level.false_alarms:.3g}% raise an alarm, on average "
        f"over many such sets of {level.n} normal images{luck}\nNot promised: that anomalous "
        "images raise one. Normal images cannot tell how many are missed."
    )


def _about_alarms(
    done: Sequence[Localized], calibrated: threshold.CalibratedDetector
) -> Iterator[str]:
    """Count the alarms, and those that the other value would raise."""
    alarms, by = sum(bool(item.alarm) for item in done), calibrated.alarm_by
    yield f"Alarms: {alarms} of {counted(len(done), 'image')}. {about_level(calibrated)}"
    if alarms > len(done) / 2:
        yield (
            "More than half of the images raise an alarm. If most of them should be normal, they "
            "differ from\nthe normal images that set the level, and it does not hold for them."
        )
    if by != "either":
        other = "score" if by == "map" else "map"
        levels = calibrated.score_level.value, calibrated.map_level.value
        above = sum(item.score > levels[0] or item.peak > levels[1] for item in done)
        needed = threshold.images_needed(calibrated.level.false_alarms, "either")
        yield (
            f"By {VALUES[other]} (--alarm-by {other}), {above - alarms} more would raise one. "
            "Counting both gives up to twice as many\nfalse alarms; --alarm-by either counts both "
            f"and keeps the promise, with {needed} normal images or more."
        )


def _about_masks(
    done: Sequence[Localized], calibrated: threshold.CalibratedDetector
) -> Iterator[str]:
    """Say what masks hold, and count the alarms where they do not show a place."""
    alarms = [item for item in done if item.alarm]
    yield f"Masks hold the pixels above the level of maps, {calibrated.map_level.value:.4f}."
    if tiny := sum(item.mark < 1 for item in alarms):
        yield (
            f"{tiny} of {counted(len(alarms), 'alarm')}: nothing in the mask is as large as one "
            "patch of the network.\nThere the map does not show where the anomaly is: look at the "
            "image yourself."
        )


def about_misses(known: Sequence[Catch], calibrated: threshold.CalibratedDetector) -> Iterator[str]:
    """Say what is known of anomalous images that raise no alarm, and which rule misses least."""
    if not known:
        yield "How many are missed is measured with known ones: --known-anomalous DIR."
        return
    total = len(known[0].caught)
    said = f"{counted(total, 'image')} known to be anomalous"
    yield f"\nMissed, that is without an alarm, of {said} [95% interval]:"
    for one in known:
        low, high = share_interval(one.missed, total)
        cost = "one normal image too few"
        if one.false_alarms is not None:
            cost = f"{one.false_alarms.sum()} of {counted(len(one.false_alarms), 'normal image')}"
        share = f"{one.missed} ({one.missed / total:.0%}) [{low:.0%}, {high:.0%}]"
        yield f"  --alarm-by {one.alarm_by:6}  {share}; false alarms: {cost}"
    if len(known) < len(threshold.ALARM_BY):
        needed = threshold.images_needed(calibrated.level.false_alarms, "either")
        yield f"  --alarm-by either  needs {needed} normal images; found {calibrated.n}"
    yield (
        "False alarms: each normal image is judged by the level of the others. This is near the "
        "promise, and no test of it."
    )
    best = best_rules(known)
    if len(best) == len(known):
        yield f"Not told apart: {', '.join(best)}. The differences may be chance."
        return
    yield (
        f"Better: --alarm-by {' or '.join(best)}, which misses fewer, by more than chance "
        "explains.\nThis was found with the normal images that set the level. Choose by it, and up "
        "to twice as many false alarms as\npromised are possible, unless other normal images set "
        "the level."
    )
