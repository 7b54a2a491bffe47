"""Published data sets: their categories, numbers of images, words for prompts, and licences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Words(NamedTuple):
    """The words of prompts for a category, and its surface: "object", "texture" or None.

    None leaves the surface to `prompt_ensemble`.
    """

    class_name: str
    surface: str | None = None


# Test images of each category: normal, anomalous.
MVTEC_AD = {
    **{"bottle": (20, 63), "cable": (58, 92), "capsule": (23, 109), "carpet": (28, 89)},
    **{"grid": (21, 57), "hazelnut": (40, 70), "leather": (32, 92), "metal_nut": (22, 93)},
    **{"pill": (26, 141), "screw": (41, 119), "tile": (33, 84), "toothbrush": (12, 30)},
    **{"transistor": (60, 40), "wood": (19, 60), "zipper": (32, 119)},
}
COUNTS = {
    "mvtec": MVTEC_AD,
    "magnetic-tile": {"one category": (952, 392)},
    "kolektor-sdd": {"one category": (347, 52)},
}


LIKE_MVTEC: dict[str, Mapping[str, Words | None]] = {
    "mvtec": dict.fromkeys(MVTEC_AD),
    "btad": dict.fromkeys(("01", "02", "03"), Words("industrial product", "object")),
    "mpdd": {
        "bracket_black": Words("black bracket", "object"),
        "bracket_brown": Words("brown bracket", "object"),
        "bracket_white": Words("white bracket", "object"),
        "connector": Words("connector", "object"),
        "metal_plate": Words("metal plate", "object"),
        "tubes": Words("metal tubes", "object"),
    },
    "mvtec-ad-2": {
        "can": Words("can", "object"),
        "fabric": Words("fabric", "texture"),
        "fruit_jelly": Words("fruit jelly", "object"),
        "rice": Words("rice", "texture"),
        "sheet_metal": Words("sheet metal", "texture"),
        "vial": Words("vial", "object"),
        "wallplugs": Words("wall plugs", "object"),
        "walnuts": Words("walnuts", "object"),
    },
}
"""The categories of each set in the layout of MVTec AD; None where prompts say the name itself."""
TEST_FOLDERS = {"mvtec-ad-2": "test_public"}
"""Where not `test`. The private tests of MVTec AD 2 have no masks: only MVTec scores them."""


@dataclass(frozen=True)
class Licence:
    """The licence of a work as its publisher states it, on which page, and when that was read."""

    title: str
    licence: str
    page: str
    read: str = "2026-11-29"


LICENCES = {
    "mvtec": Licence(
        "MVTec AD (MVTec Software GmbH)",
        "CC BY-NC-SA 4.0: not for commercial use; cite its authors",
        "the page 'MVTec Anomaly Detection Dataset' on mvtec.com, under Downloads",
    ),
    "visa": Licence(
        "VisA (Amazon)",
        "CC BY 4.0 by its own page, CC BY-NC-SA by anomalib's documentation: cite its authors",
        "the README of amazon-science/spot-diff on GitHub",
    ),
    "magnetic-tile": Licence(
        "Magnetic Tile Defects (Huang, Qiu, Yuan, The Visual Computer 2018)",
        "none is stated; its authors welcome use and ask to be cited",
        "abin24/Magnetic-tile-defect-datasets. on GitHub (Code, Download ZIP)",
    ),
    "kolektor-sdd": Licence(
        "KolektorSDD (Tabernik, Šela, Skvarč, Skočaj, Journal of Intelligent Manufacturing 2020)",
        "CC BY-NC-SA 4.0: not for commercial use; cite its authors",
        "https://www.vicos.si/resources/kolektorsdd/",
    ),
    "btad": Licence(
        "BTAD, beanTech Anomaly Detection (Mishra et al., ISIE 2021)",
        "none was found on its page; ask its authors, and cite them",
        "http://avires.dimi.uniud.it/papers/btad/",
    ),
    "mpdd": Licence(
        "MPDD, Metal Parts Defect Detection (Jezek et al., ICUMT 2021)",
        "none is stated in its README; ask its authors, and cite them",
        "the README of stepanje/MPDD on GitHub",
    ),
    "mvtec-ad-2": Licence(
        "MVTec AD 2 (MVTec Software GmbH)",
        "CC BY-NC-SA 4.0: not for commercial use; cite its authors",
        "https://www.mvtec.com/research-teaching/datasets/mvtec-ad-2 (asks for a registration)",
    ),
    "elpv": Licence(
        "ELPV, solar cells in electroluminescence (Buerhop-Lutz, Deitsch et al.)",
        "CC BY-NC-SA 4.0: not for commercial use; cite its authors",
        "the package elpv-dataset, its README and LICENSE.md",
    ),
}
"""By the name for `load_dataset`. This is no legal advice: read the page."""
