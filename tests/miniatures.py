"""Small copies of the published data sets, in their layouts."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from helpers import write_picture
from PIL import Image

from anovl.data.published import LIKE_MVTEC


def miniature_mvtec(root: Path) -> None:
    """All 15 categories, grey or RGB, with two good images and two kinds of defect."""
    miniature_like_mvtec(root, LIKE_MVTEC["mvtec"], kinds=("cut", "hole"))
    for path in root.glob("*/t*/*/*.png"):  # of train and test
        if path.relative_to(root).parts[0] not in ("grid", "screw", "zipper"):
            Image.open(path).convert("RGB").save(path)


def miniature_visa(root: Path) -> None:
    """Two categories of oblong images; masks with class indices; a list with training images."""
    rows = ["object,split,label,image,mask"]
    for category in ("candle", "macaroni1"):
        images, masks = f"{category}/Data/Images", f"{category}/Data/Masks/Anomaly"
        for number, split in ((7, "train"), (3, "test"), (1, "test")):
            write_picture(root / images / f"Normal/{number:04d}.JPG", value=128, size=(12, 8))
            rows.append(f"{category},{split},normal,{images}/Normal/{number:04d}.JPG,")
        for name in ("000", "001"):
            write_picture(root / images / f"Anomaly/{name}.JPG", value=60, size=(12, 8))
            write_picture(root / masks / f"{name}.png")
            rows.append(f"{category},test,anomaly,{images}/Anomaly/{name}.JPG,{masks}/{name}.png")
    (root / "split_csv").mkdir(parents=True)
    (root / "split_csv/1cls.csv").write_text("\n".join(rows) + "\n")


def miniature_magnetic_tile(root: Path) -> None:
    """Every kind, with two images of different sizes; empty masks beside the good ones."""
    for kind in ("Free", "Blowhole", "Break", "Crack", "Fray", "Uneven"):
        for name, size in (("exp1_num_1", (12, 8)), ("exp1_num_2", (9, 10))):
            image = root / f"MT_{kind}/Imgs/{name}.jpg"
            write_picture(image, value=128, size=size)
            write_picture(image.with_suffix(".png"), size=size)
            if kind == "Free":
                Image.new("L", size).save(image.with_suffix(".png"))


def miniature_like_mvtec(
    root: Path, categories, *, normal="good", test="test", truth="ground_truth", kinds=("bad",)
) -> None:
    """Categories in MVTec AD's layout: two normal images, one of each kind, one for training."""
    for category in categories:
        for name in ("000", "001"):
            write_picture(root / category / test / normal / f"{name}.png", value=128)
        for kind in kinds:
            write_picture(root / category / test / kind / "000.png", value=60)
            write_picture(root / category / truth / kind / "000_mask.png")
        write_picture(root / category / "train" / normal / "000.png", value=128)


def miniature_mpdd(root: Path) -> None:
    miniature_like_mvtec(root, LIKE_MVTEC["mpdd"], kinds=("hole", "scratches"))


def miniature_btad(root: Path) -> None:
    """Bitmaps; the masks of the second product are PNG, called after the image's whole name."""
    miniature_like_mvtec(root, LIKE_MVTEC["btad"], normal="ok", kinds=("ko",))
    for category in LIKE_MVTEC["btad"]:
        image = root / category / "test/ko/000.png"
        Image.open(image).save(image.with_suffix(".bmp"))
        image.unlink()
        mask = root / category / "ground_truth/ko/000_mask.png"
        mask.rename(mask.with_name("000.bmp.png" if category == "02" else "000.png"))


def miniature_mvtec_ad_2(root: Path) -> None:
    """With the private tests, which have no masks and are not read."""
    names = {"test": "test_public", "truth": "test_public/ground_truth"}
    miniature_like_mvtec(root, LIKE_MVTEC["mvtec-ad-2"], **names)
    for category in LIKE_MVTEC["mvtec-ad-2"]:
        write_picture(root / category / "test_private/000.png", value=90)
        write_picture(root / category / "validation/good/000.png", value=128)


def miniature_kolektor_sdd(root: Path) -> None:
    """Two commutators, of which the second has one defective surface."""
    for folder in ("kos01", "kos02"):
        for part in ("Part0", "Part1"):
            write_picture(root / folder / f"{part}.jpg", value=128)
            label = root / folder / f"{part}_label.bmp"
            write_picture(label, value=0)
            if (folder, part) != ("kos02", "Part1"):
                Image.new("L", (12, 8)).save(label)


def miniature_elpv(root: Path) -> None:
    """Cells of both crystals, of all four probabilities."""
    rows = []
    probabilities = (0.0, 0.3333333333333333, 0.6666666666666666, 1.0)
    for number, (crystal, probability) in enumerate(product(("mono", "poly"), probabilities), 1):
        path = f"images/cell{number:04d}.png"
        write_picture(root / path, value=100 + number)
        rows.append(f"{path}  {probability}  {crystal}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")


MINIATURES = {
    "mvtec": miniature_mvtec,
    "visa": miniature_visa,
    "magnetic-tile": miniature_magnetic_tile,
    "kolektor-sdd": miniature_kolektor_sdd,
    "btad": miniature_btad,
    "mpdd": miniature_mpdd,
    "mvtec-ad-2": miniature_mvtec_ad_2,
    "elpv": miniature_elpv,
}
