"""The reader's own AnoVL, put together from the notebooks, is the library's."""

from __future__ import annotations

import ast

import nbformat
import numpy as np

import anovl
from anovl_companion.my_anovl import HEADER
from anovl_companion.run_notebooks import HERE

PARTS = {
    "01": ("probability",),
    "02": ("local_patches",),
    "04": ("adapter", "loss_terms", "one_step", "adapt_one", "my_map"),
}


def functions(number: str) -> dict[str, str]:
    """The first definition of each function in the code cells of a notebook."""
    cells = nbformat.read(next(HERE.glob(f"{number}_*.ipynb")), as_version=4).cells
    source = "\n\n".join(cell.source for cell in cells if cell.cell_type == "code")
    found = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return {node.name: ast.unparse(node) for node in reversed(found)}


def prototypes(clip: anovl.Clip, class_name: str):
    return anovl.encode_prompts(clip, anovl.prompt_ensemble(class_name)).prototypes


def test_the_parts_of_the_notebooks_give_the_map_of_the_library():
    mine = {"prototypes": prototypes}
    sources = [functions(number)[name] for number, names in PARTS.items() for name in names]
    exec(HEADER + "\n\n".join(sources), mine)
    clip = anovl.load_clip("pocket")
    sample = next(anovl.load_dataset("pocket", categories=["gear"], per_category=1).samples("gear"))
    ours = mine["my_map"](clip, sample.image, "gear").numpy()
    library = anovl.AnoVL(clip, tta=True)(sample.image, "gear", size=clip.image_size)
    np.testing.assert_allclose(ours, library.map, rtol=0, atol=1e-6)
    assert np.abs(ours - library.map_before_tta).max() > 1e-4
