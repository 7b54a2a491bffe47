"""The methods that AnoVL is compared with, all with its signature: `localize(images, class_name)`.

Other methods that localize with CLIP, and the family of attention repairs to which AnoVL belongs
(`anovl.baselines.attention_variants`), use AnoVL's prompts, so that only the method differs; for a
paper's own prompts, give a `PromptEnsemble` as the class name. Plain CLIP is AnoVL with ordinary
attention. Methods without words are in `anovl.baselines.controls`. `anovl.baselines.pca_normal`
learns from normal pictures, and is not zero-shot.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from anovl._shared.messages import unknown

if TYPE_CHECKING:
    from anovl.clip import Clip
    from anovl.detector import Detector

CONTROLS = ("centre", "shuffled", "outlier", "dog", "brightness")
"""Methods that do not compare the picture with words: a claim has to beat them."""

METHODS = ("clip", "transmm", "maskclip", "clip-surgery", "winclip", "anovl", "anovl-tta",
           *CONTROLS)  # fmt: skip
"""The names of all methods in tables; they can be listed without loading torch."""

VARIANTS = ("anovl-qq", "anovl-kk", "second-stream-qk", "second-stream-own", "gem", "values-only",
            "sclip", "clearclip", "naclip", "qkv")  # fmt: skip
"""The rest of the family of attention repairs, for the table that compares its members."""

FEW_SHOT = ("pca-normal", "pca-normal-qk")
"""Methods that need normal pictures: not zero-shot, as their names in tables say."""

WORDLESS = ("centre", "outlier", "dog", "brightness", *FEW_SHOT)
"""Methods that use no words: the class name and options of prompts change nothing."""


def _makers() -> dict[str, Callable[..., Detector]]:
    from anovl.baselines import controls
    from anovl.baselines.attention_variants import FAMILY, AttentionVariant
    from anovl.baselines.pca_normal import PcaNormal
    from anovl.baselines.transmm import TransMM
    from anovl.baselines.winclip import WinCLIP
    from anovl.detector import AnoVL

    family = {name: partial(AttentionVariant, repair=repair) for name, repair in FAMILY.items()}
    return family | {
        "clip": partial(AnoVL, attention="qk"),
        "transmm": TransMM,
        "winclip": WinCLIP,
        "anovl": AnoVL,
        "anovl-tta": partial(AnoVL, tta=True),
        "centre": lambda clip, **options: controls.Centre(clip.image_size, **options),
        "shuffled": lambda clip, **options: controls.Shuffled(AnoVL(clip, **options)),
        "outlier": lambda clip, **options: controls.PatchOutlier(clip.image_size, **options),
        "dog": lambda clip, **options: controls.DifferenceOfGaussians(clip.image_size, **options),
        "brightness": lambda clip, **options: controls.Brightness(clip.image_size, **options),
        "anovl-qq": partial(AnoVL, attention="qq"),
        "anovl-kk": partial(AnoVL, attention="kk"),
        "pca-normal": PcaNormal,
        "pca-normal-qk": partial(PcaNormal, attention="qk"),
    }


def make_detector(name: str, clip: Clip, **options: Any) -> Detector:
    """Make a method by its name in tables; the options are those of its class.

    >>> METHODS[:5]
    ('clip', 'transmm', 'maskclip', 'clip-surgery', 'winclip')

    Raises ValueError for an unknown name, or for options that would make it another method.
    """
    if name not in (known := (*METHODS, *VARIANTS, *FEW_SHOT)):
        raise ValueError(unknown("method", name, known))
    detector = _makers()[name](clip, **options)
    if detector.name.split(" (")[0] != name:  # "pca-normal (not zero-shot: …)"
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
