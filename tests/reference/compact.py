"""Copy the compared arrays of the full reference folder into this one (see README.md)."""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
KEPT = {
    "forward": [
        *("images_u8", "cls_feature", "vv_tokens", "ori_tokens"),
        *(f"{kind}_last{d}" for d in (1, 2, 3) for kind in ("cls", "vv_tokens")),
        *("patch_prob_no_adapter", "map_no_adapter", "rand_map_no_adapter"),
        *("view_scores_identity_order", "image_score_22view", "image_score_1view"),
    ],
    "text": ["bottle_prototypes", "carpet_prototypes", "bottle_all"],
    "token_ids": ["ids"],
    "tta": [
        *("tta_map", "tta_losses", "tta_map_fresh_opt", "tta_losses_fresh_opt"),
        *("rand_tta_map", "rand_tta_losses"),
    ],
    "visa": [
        *("images_u8", "candle_prototypes", "image_score"),
        *("map_no_adapter", "tta_map", "tta_losses"),
    ],
}


def compact(source: Path) -> None:
    """Write the compact files from the full reference at `source`."""
    for name, keys in KEPT.items():
        with np.load(source / "small" / f"{name}.npz") as full:
            arrays = {key: full[key] for key in keys}
            if name == "forward":
                arrays["views_quarter"] = full["views_image1"][:, :, ::4, ::4]
        np.savez_compressed(HERE / f"{name}.npz", **arrays)
    (HERE / "config.json").write_bytes((source / "small" / "config.json").read_bytes())
    weights = json.loads((source / "hashes.json").read_text())
    prompts = json.loads((source / "prompts.json").read_text())["rendered_sha256_newline_joined"]
    hashes = {"weights": weights, "prompts [normal, abnormal]": prompts}
    (HERE / "hashes.json").write_text(json.dumps(hashes, indent=1) + "\n")


if __name__ == "__main__":
    compact(Path(sys.argv[1]))
