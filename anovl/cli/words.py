"""Options for the words of prompts, and what is made of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from anovl.cli.options import refuse_idle, split_list

if TYPE_CHECKING:
    from anovl.data.dataset import Dataset
    from anovl.prompts import PromptEnsemble


def words_count(options: argparse.Namespace, methods: Sequence[str]) -> bool:
    """Tell whether any method uses words; where none does, refuse the options that give some."""
    from anovl.baselines import WORDLESS

    if not methods or not set(methods) <= set(WORDLESS):
        return True
    idle = ["object", "names", "surface", "prompts", "no_cache"]
    refuse_idle(options, idle, f"on {', '.join(methods)}, which use no words")
    return False


def add_words(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--surface",
        action="store_true",
        help="it is a surface, such as cloth or tile: prompts say textural photo, surface picture",
    )
    add(
        "--prompts",
        metavar="FILE.json",
        help='your own words: {"states": {"normal": ["intact {}"], "anomalous": ["{} with a crack"]'
        '}, "templates": ["a {domain} of the {}"], "domains": ["industrial image"]}; what is left '
        "out stays the paper's. Choose them on other pictures than those that are judged",
    )


def words_from_options(options: argparse.Namespace, class_name: str) -> str | PromptEnsemble:
    """Return what a detector takes for a thing: its name, or prompts where options ask for them."""
    from anovl.prompts import prompt_ensemble

    if not (lists := _prompt_lists(options)) and not options.surface:
        return class_name
    surface = "texture" if options.surface else None
    return prompt_ensemble(class_name, surface=surface, **lists)


def reworded(dataset: Dataset, options: argparse.Namespace) -> Dataset:
    """Return a data set with the words of --names, --object, --surface and --prompts."""
    from anovl.data.published import Words

    lists, given = _prompt_lists(options), _class_names(dataset, options)
    words = {}
    for category in dataset.categories:
        own = dataset.words.get(category, Words(category))
        asked = Words(given.get(category, own.class_name), own.surface)
        asked = asked._replace(surface="texture") if options.surface else asked
        if asked != own:
            words[category] = asked
    return dataset.with_words(words, lists) if words or lists else dataset


def _class_names(dataset: Dataset, options: argparse.Namespace) -> dict[str, str]:
    """The class names that --names or --object give to categories.

    Names may be of categories that --categories leaves out: all jobs of an array get the same ones.
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
        raise ValueError("--object and --names say the same thing: leave one of them out")
    if not options.object.strip():
        raise ValueError('--object must name what the images show, such as --object "metal nut"')
    if len(categories) > 1:
        raise ValueError(
            f"--object names the thing of one category, and there are {len(categories)}: use "
            f'--names {categories[0]}="{options.object}",…, or choose one with --categories'
        )
    return {categories[0]: options.object}


def _prompt_lists(options: argparse.Namespace) -> dict[str, Any]:
    from anovl.cli.prompt_file import read_prompt_file

    if options.prompts is None:
        return {}
    lists = read_prompt_file(options.prompts)
    if options.surface and "domains" in lists:
        raise ValueError(
            f"--surface stands for domains, and {options.prompts} has its own: "
            "leave one of them out"
        )
    return lists


def class_names(text: str) -> dict[str, str]:
    """Split `01=metal plate,02=screw` into words by category; quotes as in `name_list`."""
    pairs = [tuple(map(str.strip, part.partition("=")[::2])) for part in split_list(text)]
    if not all(category and words for category, words in pairs):
        raise argparse.ArgumentTypeError(
            'expected CATEGORY=WORDS with commas, such as 01="metal plate",02=screw; '
            f"found {text!r}"
        )
    if len(dict(pairs)) < len(pairs):
        raise argparse.ArgumentTypeError(f"a category is named twice in {text!r}")
    return dict(pairs)
