"""The offline default: a procedural world, its captions, and a small CLIP trained on both."""

from anovl.pocket.network import load_pocket

__all__ = ["load_pocket"]
