"""What is known of the published data sets: how many images, what prompts call them, licences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Words(NamedTuple):
    """What prompts call a category: words for the thing, and "object", "texture" or None.

    None leaves it to `prompt_ensemble`.
    """

    class_name: str
    surface: str | None = None


# How many test images each category has, normal and anomalous.
MVTEC_AD = {
    **{"bottle": (20, 63), "cable": (58, 92), "capsule": (23, 109), "carpet": (28, 89)},
    **{"grid": (21, 57), "hazelnut": (40, 70), "leather": (32, 92), "metal_nut": (22, 93)},
    **{"pill": (26, 141), "screw": (41, 119), "tile": (33, 84), "toothbrush": (12, 30)},
    **{"transistor": (60, 40), "wood": (19, 60), "zipper": (32, 119)},
}
MAGNETIC_TILE = (952, 392)
KOLEKTOR_SDD = (347, 52)
# What prompts call the categories of the other sets, and whether it is a thing or a surface.
MPDD = {
    "bracket_black": Words("black bracket", "object"),
    "bracket_brown": Words("brown bracket", "object"),
    "bracket_white": Words("white bracket", "object"),
    "connector": Words("connector", "object"),
    "metal_plate": Words("metal plate", "object"),
    "tubes": Words("metal tubes", "object"),
}
MVTEC_AD_2 = {
    "can": Words("can", "object"),
    "fabric": Words("fabric", "texture"),
    "fruit_jelly": Words("fruit jelly", "object"),
    "rice": Words("rice", "texture"),
    "sheet_metal": Words("sheet metal", "texture"),
    "vial": Words("vial", "object"),
    "wallplugs": Words("wall plugs", "object"),
    "walnuts": Words("walnuts", "object"),
}
BTAD = {name: Words("industrial product", "object") for name in ("01", "02", "03")}


@dataclass(frozen=True)
class Licence:
    """What a publisher says about the use of a work, where, and when that was read."""

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
"""By the name that `load_dataset` takes. No legal advice: read the page."""
