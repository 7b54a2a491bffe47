"""Words of prompts: from --object, --names, --surface and --prompts to prompt ensembles."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anovl.cli.options import name_list

if TYPE_CHECKING:
    from anovl.data.dataset import Dataset
    from anovl.prompts import PromptEnsemble


def prompts_of(options: argparse.Namespace) -> PromptEnsemble:
    """Return the prompts of --object, with --surface and --prompts."""
    from anovl.prompts import prompt_ensemble

    surface = "texture" if options.surface else None
    return prompt_ensemble(options.object, surface=surface, **_prompt_lists(options))


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


def _class_names(dataset: Dataset, options: argparse.Namespace) -> dict[str, str]:
    """Return the class names that --names or --object give to categories.

    --names may name categories that --categories leaves out, so that all jobs of an array can have
    the same option.
    """
    from anovl.data import load_dataset
    from anovl.data.dataset import select

    names, known = options.names or {}, dataset.categories
    if options.object is not None:
        if names or len(known) > 1:
            raise ValueError(
                f"--object is the class name of one category, found {len(known)}: give "
                f'--names {known[0]}="{options.object}",… alone, or choose with --categories'
            )
        return {known[0]: options.object}
    if options.categories and not names.keys() <= set(known):
        known = load_dataset(options.dataset, root=options.data_root).categories
    select(list(names) or None, known, f"category of {dataset.name} in --names")
    return names


def class_names(text: str) -> dict[str, str]:
    """Split a list into class names by category; quotes as in `name_list`.

    >>> class_names("01=metal plate,02=screw")
    {'01': 'metal plate', '02': 'screw'}
    """
    pairs = [tuple(map(str.strip, part.partition("=")[::2])) for part in name_list(text)]
    names = dict(pairs)
    if len(names) < len(pairs) or not all(category and words for category, words in pairs):
        raise argparse.ArgumentTypeError(
            'expected CATEGORY=WORDS with commas, each category once, such as 01="metal plate",'
            f"02=screw; found {text!r}"
        )
    return names


def _prompt_lists(options: argparse.Namespace) -> dict[str, Any]:
    lists = {} if options.prompts is None else read_prompt_file(options.prompts)
    if options.surface and "domains" in lists:
        raise ValueError(f"--surface and {options.prompts} both give domains: leave one out")
    return lists


def read_prompt_file(path: str | Path) -> dict[str, Any]:
    """Read the lists of a JSON file as keywords of `prompt_ensemble`.

    The paper's lists stand for missing ones, also for one of the two lists of states.

        {"states": {"normal": ["intact {}"], "anomalous": ["broken {}", "{} with a crack"]},
         "templates": ["a {domain} of the {}"],
         "domains": ["infrared image"]}

    Raises OSError for a file that cannot be read, ValueError for another form and for lists that
    cannot be prompts; both name the file.
    """
    from anovl.prompts import ANOMALOUS_STATES, NORMAL_STATES, prompt_ensemble

    try:
        lists = json.loads(Path(path).read_text(encoding="utf-8"))
        _check_keys(lists, ("states", "templates", "domains"))
        if "states" in lists:
            both = {"normal": NORMAL_STATES, "anomalous": ANOMALOUS_STATES}
            _check_keys(lists["states"], both)
            lists["states"] = tuple((both | lists["states"]).values())
        prompt_ensemble("thing", **lists)
        if "domains" in lists and "{domain}" not in str(lists.get("templates", "{domain}")):
            raise ValueError('"domains" are not used: no template says {domain}')
    except ValueError as error:
        raise ValueError(f"{path} holds no prompts: {error}") from None
    return lists


def _check_keys(found: Any, known: Iterable[str]) -> None:
    if not isinstance(found, dict) or not found or not found.keys() <= set(known):
        raise ValueError(f"expected an object with {' or '.join(known)}; found {found!r:.200}")
