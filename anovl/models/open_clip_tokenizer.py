"""open_clip's tokenizer from its file alone: importing all of open_clip takes seconds.

With it come torchvision, timm and, where it is installed, transformers; a tokenizer needs none.
"""

from __future__ import annotations

from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

_spec = spec_from_file_location(
    f"{__name__}_file", Path(find_spec("open_clip").origin).with_name("tokenizer.py")
)
_file = module_from_spec(_spec)
_spec.loader.exec_module(_file)

TOKENIZER = _file._tokenizer  # the one that the file makes for itself: another takes time
