"""How a pocket CLIP does on the scenes for choosing, during and after its training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from torch import nn

from anovl.clip import Clip
from anovl.data.synthetic import pocket_validation
from anovl.models.pocket import IMAGE_SIZE, PocketTokenizer, load_pocket
from anovl.prompts import encode_prompts
from anovl_companion.measure.feature_cache import encode_dataset, score_prompts

VALIDATED = ("image_auroc", "vv_pixel_auroc", "qk_pixel_auroc")


def validate(
    model: nn.Module, tokenizer: PocketTokenizer, *, per_category: int = 4
) -> dict[str, dict[str, float]]:
    """Measure a pocket model on validation scenes: for "seen" and "unseen" categories, `VALIDATED`.

    Image AUROC of the class token, and position-debiased pixel AUROC of v-v and of q-k patches,
    all by the domain-aware prompts. `per_category` is the number of normal scenes of a category,
    and of anomalous ones.
    """
    clip = Clip(model, tokenizer, image_size=IMAGE_SIZE, name="pocket in training")
    data = pocket_validation(per_category=per_category)
    texts = {category: encode_prompts(clip, category) for category in data.categories}
    vv, qk = (
        score_prompts(encode_dataset(clip, data, attention=kind), texts, resamples=0)
        for kind in ("vv", "qk")
    )
    values = ((vv, "auroc_sp"), (vv, "auroc_px_debiased"), (qk, "auroc_px_debiased"))
    found = {}
    for group, members in data.groups.items():
        means = [fmean(one.by_category[c][metric] for c in members) for one, metric in values]
        found[group] = dict(zip(VALIDATED, means, strict=True))
    return found


def rank_trainings(
    folders: Sequence[str | Path], *, per_category: int = 16
) -> list[tuple[Path, float]]:
    """Order trained models, the best one first, with the number that decides.

    That is the mean of image AUROC and position-debiased pixel AUROC of v-v on the seen categories
    of validation scenes. The first of two trainings ships as "pocket", the other as "pocket-2".

    Raises FileNotFoundError for a folder without a trained model.
    """
    scores = {}
    for folder in map(Path, folders):
        model, tokenizer, _ = load_pocket(folder)
        seen = validate(model, tokenizer, per_category=per_category)["seen"]
        scores[folder] = (seen["image_auroc"] + seen["vv_pixel_auroc"]) / 2
    return sorted(scores.items(), key=lambda item: -item[1])
