"""What `anovl localize` prints: the scores, the alarms, and what the levels promise."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

from anovl._shared.messages import counted, one_line

if TYPE_CHECKING:
    from anovl.cli.localized_files import Localized
    from anovl.evaluation.threshold import CalibratedDetector


def print_answer(done: Sequence[Localized], calibrated: CalibratedDetector | None) -> None:
    by_map = calibrated is not None and calibrated.alarm_by == "map"
    value = {id(item): item.peak if by_map else item.score for item in done}
    ordered = sorted(done, key=lambda item: -value[id(item)])
    names = {id(item): one_line(str(item.image)) for item in done}
    width = max(map(len, names.values()))
    print(f"{'image':{width}}  {'map peak' if by_map else 'score'}")
    for item in ordered:
        mark = "  alarm" if item.alarm else ""
        print(f"{names[id(item)]:{width}}  {value[id(item)]:.4f}{mark}")
    print()
    if calibrated is None:
        print("Scores compare images of one object. Normal images of it set a level: --normal DIR.")
    elif calibrated.level is None:
        _print_missing(calibrated)
    else:
        _print_level(calibrated, done)


def _print_missing(calibrated: CalibratedDetector) -> None:
    from anovl.baselines.pca_normal import PcaNormal, normal_needed
    from anovl.evaluation.threshold import FALSE_ALARMS, images_needed

    level, best = images_needed(FALSE_ALARMS), ceil(100 / (calibrated.n + 1)) / 100
    needs = f"{level} normal images; found {calibrated.n}"
    if isinstance(calibrated.detector, PcaNormal):
        needed, found = normal_needed(level), calibrated.detector.pictures + calibrated.n
        needs = f"{needed} normal images, {needed - level} for the fit and {level} for the level; "
        needs += f"found {found}"
    print(
        f"No level: a promise of {FALSE_ALARMS:.0%} false alarms needs {needs}. "
        f"These allow --false-alarms {best}.\n"
        "Maps are compared with them, and so is the colour scale."
    )


def _print_level(calibrated: CalibratedDetector, done: Sequence[Localized]) -> None:
    level, map_level = calibrated.level, calibrated.map_level
    alarms = [item for item in done if item.alarm]
    names = {"score": "the image score", "map": "the peak of the map"}
    own = names[calibrated.alarm_by]
    [other] = [name for key, name in names.items() if key != calibrated.alarm_by]
    print(
        f"Alarms: {len(alarms)} of {counted(len(done), 'image')}, highest first: {own} is "
        f"above {level.value:.4f}.\n"
        f"The level was set by {level.n} normal images. Promise: at most {level.false_alarms:.3g} "
        f"of normal images raise an alarm,\n"
        f"on average over such sets of images ({level.expected:.3f}). One set in twenty is "
        f"unlucky: its rate is above {level.unlucky:.3f}.\n"
        f"The promise is for {own} alone. With {other} (--alarm-by) it holds as well, for itself;\n"
        "alarms of either one would come at up to twice the rate.\n"
        f"A mask is what lies above the map's level, {map_level.value:.4f}."
    )
    _print_without_place(alarms)


def _print_without_place(alarms: Sequence[Localized]) -> None:
    """Count the alarms of which the mask is no place: it is empty, or smaller than a patch."""
    empty = sum(item.mark == 0 for item in alarms)
    tiny = sum(0 < item.mark < 1 for item in alarms)
    if empty:
        print(
            f"{empty} of {len(alarms)} alarms {'has' if empty == 1 else 'have'} no place above the "
            f"map's level: {'its' if empty == 1 else 'their'} mask is empty."
        )
    if tiny:
        print(
            f"{tiny} of {len(alarms)} alarms {'has' if tiny == 1 else 'have'} tiny marks only, "
            "each smaller than one patch of the network."
        )
    if empty or tiny:
        shown = "picture" if alarms[0].panel is None else "panel"
        print(f"There the map does not say where the anomaly is: look at the {shown} yourself.")
