"""What AnoVL is compared with, behind its signature: `method.localize(images, category)`.

Ways in which others make CLIP point at a place, and the family of attention repairs to which AnoVL
belongs (`anovl.baselines.attention_variants`). They use AnoVL's prompts, so that only the way of
looking differs; for a paper's own prompts, give a `PromptEnsemble` as the category. Plain CLIP is
AnoVL with ordinary attention. Methods that know no words are in `anovl.baselines.controls`; one
that learns from normal pictures, and is not zero-shot, in `anovl.baselines.pca_normal`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any

from anovl.baselines.attention_variants import FAMILY, AttentionVariant
from anovl.baselines.clip_surgery import ClipSurgery
from anovl.baselines.controls import Centre, DifferenceOfGaussians, PatchOutlier, Shuffled
from anovl.baselines.pca_normal import PcaNormal
from anovl.baselines.transmm import TransMM
from anovl.baselines.winclip import WinCLIP
from anovl.clip import Clip
from anovl.detector import AnoVL, Detector

METHODS: dict[str, Callable[..., Detector]] = {
    "clip": partial(AnoVL, attention="qk"),
    "transmm": TransMM,
    "maskclip": partial(AttentionVariant, repair=FAMILY["maskclip"]),
    "clip-surgery": ClipSurgery,
    "winclip": WinCLIP,
    "anovl": AnoVL,
    "anovl-tta": partial(AnoVL, tta=True),
    "centre": lambda clip, **options: Centre(clip.image_size, **options),
    "shuffled": lambda clip, **options: Shuffled(AnoVL(clip, **options)),
    "outlier": lambda clip, **options: PatchOutlier(clip.image_size, **options),
    "dog": lambda clip, **options: DifferenceOfGaussians(clip.image_size, **options),
}
VARIANTS: dict[str, Callable[..., Detector]] = {
    "anovl-qq": partial(AnoVL, attention="qq"),
    "anovl-kk": partial(AnoVL, attention="kk"),
} | {
    name: partial(AttentionVariant, repair=repair)
    for name, repair in FAMILY.items()
    if name not in (*METHODS, "anovl-qq", "anovl-kk")
}
"""The rest of the family of attention repairs, for the table that compares its members."""
FEW_SHOT: dict[str, Callable[..., Detector]] = {
    "pca-normal": PcaNormal,
    "pca-normal-qk": partial(PcaNormal, attention="qk"),
}
"""Methods that need normal pictures: not zero-shot, and their names in tables say so."""


def make_detector(name: str, clip: Clip, **options: Any) -> Detector:
    """Make a method by its name in tables; the options are those of its class.

    >>> list(METHODS)[:5]
    ['clip', 'transmm', 'maskclip', 'clip-surgery', 'winclip']

    Raises ValueError for an unknown name, or for options that would make it another method.
    """
    known = METHODS | VARIANTS | FEW_SHOT
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no method {name!r}: {hint}There are {', '.join(known)}")
    detector = known[name](clip, **options)
    if detector.name.split(" (")[0] != name:
        raise ValueError(f"with these options, {name!r} is {detector.name!r}: ask for that name")
    return detector


# How the published code runs on a data set, where that differs: image scores over 22 views, or
# square tiles (with which test-time adaptation has the linear adapter).
PROTOCOLS: dict[str, dict[str, Any]] = {"mvtec": {"views": 22}, "visa": {"tiles": True}}
_WITH_PROTOCOL = ("clip", "anovl", "anovl-tta", "shuffled")


def published_options(method: str, dataset: str) -> dict[str, Any]:
    """Return the options for `make_detector` with which a method keeps a data set's protocol.

    Methods compared with AnoVL keep it too where they can; the others, and other data sets, have
    none.

    >>> published_options("anovl-tta", "visa"), published_options("dog", "visa")
    ({'tiles': True}, {})

    Source: published code (its scripts for MVTec AD and for VisA).
    """
    return dict(PROTOCOLS.get(dataset, {})) if method in _WITH_PROTOCOL else {}
