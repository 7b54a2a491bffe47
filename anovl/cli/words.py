"""Options for the words of prompts, and the prompts that they stand for."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anovl._shared.messages import unknown
from anovl.cli.options import path_text, split_list

if TYPE_CHECKING:
    from anovl.data.dataset import Dataset
    from anovl.prompts import PromptEnsemble

KEYS = ("states", "templates", "domains")  # of a prompt file


def uses_words(methods: Sequence[str]) -> bool:
    """Tell whether any of the methods uses prompts."""
    from anovl.baselines import WORDLESS

    return not set(methods) <= set(WORDLESS)


def add_words(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--surface",
        action="store_true",
        help="a surface, such as cloth or tile: prompts say textural photo, surface picture",
    )
    group.add_argument(
        "--prompts",
        type=path_text,
        metavar="FILE.json",
        help='{"states": {"normal": ["intact {}"], "anomalous": ["{} with a crack"]}, "templates": '
        '["a {domain} of the {}"], "domains": ["industrial image"]}, or parts of it. Choose words '
        "on other images than those that you judge",
    )


def prompts_of(options: argparse.Namespace) -> str | PromptEnsemble:
    """Return the class name of --object, or its prompts with --surface and --prompts."""
    from anovl.prompts import prompt_ensemble

    name = _class_name(options)
    lists = _prompt_lists(options)
    if not lists and not options.surface:
        return name
    return prompt_ensemble(name, surface="texture" if options.surface else None, **lists)


def reworded(dataset: Dataset, options: argparse.Namespace) -> Dataset:
    """Return a data set with the words of --names, --object, --surface and --prompts."""
    from anovl.data.published import Words

    lists, given = _prompt_lists(options), _class_names(dataset, options)
    words = {}
    for category in dataset.categories:
        own = dataset.words.get(category, Words(category))
        surface = "texture" if options.surface else own.surface
        asked = Words(given.get(category, own.class_name), surface)
        if asked != own:
            words[category] = asked
    return dataset.with_words(words, lists) if words or lists else dataset


def _class_name(options: argparse.Namespace) -> str:
    if not (options.object or "").strip():
        raise ValueError('--object must name what the images show, such as --object "metal nut"')
    return options.object


def _class_names(dataset: Dataset, options: argparse.Namespace) -> dict[str, str]:
    """The class names that --names or --object give to categories.

    --names may name categories that --categories leaves out: then all jobs of an array can have
    the same option.
    """
    from anovl.data import load_dataset
    from anovl.data.dataset import select

    categories = dataset.categories
    if options.object is None:
        names, known = options.names or {}, categories
        if options.categories and not set(names) <= set(known):
            known = load_dataset(options.dataset, root=options.data_root).categories
        select(list(names) or None, known, f"category of {dataset.name} in --names")
        return {category: words for category, words in names.items() if category in categories}
    if options.names:
        raise ValueError("--object and --names both give class names: leave one of them out")
    if len(categories) > 1:
        raise ValueError(
            f"--object names the object of one category, and there are {len(categories)}: use "
            f'--names {categories[0]}="{options.object}",…, or choose one with --categories'
        )
    return {categories[0]: _class_name(options)}


def class_names(text: str) -> dict[str, str]:
    """Split `01=metal plate,02=screw` into class names by category; quotes as in `name_list`."""
    pairs = [tuple(map(str.strip, part.partition("=")[::2])) for part in split_list(text)]
    if not all(category and words for category, words in pairs):
        raise argparse.ArgumentTypeError(
            'expected CATEGORY=WORDS with commas, such as 01="metal plate",02=screw; '
            f"found {text!r}"
        )
    if len(dict(pairs)) < len(pairs):
        raise argparse.ArgumentTypeError(f"a category is named twice in {text!r}")
    return dict(pairs)


def _prompt_lists(options: argparse.Namespace) -> dict[str, Any]:
    if options.prompts is None:
        return {}
    lists = read_prompt_file(options.prompts)
    if options.surface and "domains" in lists:
        raise ValueError(
            f"--surface and {options.prompts} both give domains: leave one of them out"
        )
    return lists


def read_prompt_file(path: str | Path) -> dict[str, Any]:
    """Read the lists of a JSON file as keywords of `prompt_ensemble`.

    The paper's lists stand for missing ones, also for one of the two lists of states.

        {"states": {"normal": ["intact {}"], "anomalous": ["broken {}", "{} with a crack"]},
         "templates": ["a {domain} of the {}"],
         "domains": ["infrared image"]}

    Raises FileNotFoundError for a missing file, ValueError for another form and for lists that
    cannot be prompts; both name the file.
    """
    from anovl.prompts import prompt_ensemble

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} with prompts; check the path")
    try:
        lists = _checked(json.loads(path.read_text(encoding="utf-8")))
        prompt_ensemble("thing", **lists)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return lists


def _checked(found: Any) -> dict[str, Any]:
    from anovl.prompts import ANOMALOUS_STATES, NORMAL_STATES

    if not isinstance(found, dict) or not found:
        raise ValueError(f"expected an object with {', '.join(KEYS)}, or one of them")
    if odd := [key for key in found if key not in KEYS]:
        raise ValueError(unknown("key", odd[0], KEYS))
    lists = dict(found)
    if "states" in lists:
        both = {"normal": NORMAL_STATES, "anomalous": ANOMALOUS_STATES}
        states = lists["states"]
        if not isinstance(states, dict) or not states or not set(states) <= set(both):
            raise ValueError('"states" must hold two lists, "normal" and "anomalous", or one')
        lists["states"] = tuple((both | states).values())
    templates = lists.get("templates", ["{domain}"])
    if "domains" in lists and not any("{domain}" in str(template) for template in templates):
        raise ValueError('"domains" are not used: no template says {domain}')
    return lists
