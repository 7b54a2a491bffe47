"""Where a data set lies, and whether all of it is there."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from anovl.data.entries import Entries
from anovl.data.layout import folders


def check_folder(root: Path) -> None:
    """Raise FileNotFoundError for a folder that is not there."""
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}; check the path")


def find_home(root: Path, name: str, is_home: Callable[[Path], bool], *, such_as: str) -> Path:
    """Return the root, or the one folder just below it, that looks like the data set.

    `such_as` is a folder or a file that tells it. Raises FileNotFoundError where it is not there,
    ValueError where it is there more than once.
    """
    check_folder(root)
    found = [root] if is_home(root) else [path for path in folders(root) if is_home(path)]
    if not found:
        raise FileNotFoundError(
            f"neither {root} nor a folder just below it has the layout of {name}, expected "
            f"{such_as}, spelt like that; give the folder with its categories, fetch it with "
            f"`python -m anovl download {name} --to {root}`, or load another layout as 'folder'"
        )
    if len(found) > 1:
        raise ValueError(f"{name} is there more than once, name one: {', '.join(map(str, found))}")
    return found[0]


def check_present(
    home: Path, wanted: Iterable[str], known: Iterable[str], what: str, *, partly: bool = True
) -> None:
    """Raise FileNotFoundError, with the way out, when folders of a data set are missing."""
    missing = [name for name in wanted if not (home / name).is_dir()]
    if missing:
        here = [name for name in known if (home / name).is_dir()]
        choose = f", or choose categories from those here: {', '.join(here)}" if partly else ""
        raise FileNotFoundError(
            f"{home} lacks {', '.join(missing)} of {what}: copy or unpack it again{choose}"
        )


def only_name(categories: Sequence[str] | None, default: str, root: Path) -> str:
    """Return the one name for a folder that is a single category; ValueError for more names."""
    if categories is None:
        return default
    if isinstance(categories, str) or len(categories) != 1:
        raise ValueError(
            f"{root} is a single category; name it with one word in categories, "
            f"found {categories if isinstance(categories, str) else ', '.join(categories)}"
        )
    return categories[0]


def warn_of_other_counts(
    what: str, home: Path, found: Entries, published: Mapping[str, tuple[int, int]]
) -> None:
    """Warn when the number of test images is not the published one."""
    labels = {name: [entry.label for entry in entries] for name, entries in found.items()}
    other = [
        f"{name} {of.count(0)} + {of.count(1)} instead of {' + '.join(map(str, published[name]))}"
        for name, of in labels.items()
        if (of.count(0), of.count(1)) != published[name]
    ]
    if other:
        warnings.warn(
            f"{home} has not the test images of {what} (normal + anomalous: {'; '.join(other)}), "
            "so its numbers do not compare with published ones",
            stacklevel=5,
        )
