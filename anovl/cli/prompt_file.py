"""Your own words for prompts, in a JSON file: states, templates and domains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anovl._shared.messages import unknown
from anovl.prompts import ANOMALOUS_STATES, NORMAL_STATES, prompt_ensemble

KEYS = ("states", "templates", "domains")
STATES = {"normal": NORMAL_STATES, "anomalous": ANOMALOUS_STATES}


def read_prompt_file(path: str | Path) -> dict[str, Any]:
    """Read the lists of a JSON file as keywords of `prompt_ensemble`; what it lacks is the paper's.

    That holds for each of the two lists of states, too.

        {"states": {"normal": ["intact {}"], "anomalous": ["broken {}", "{} with a crack"]},
         "templates": ["a {domain} of the {}"],
         "domains": ["infrared image"]}

    Raises FileNotFoundError for a missing file, ValueError for one that is not of this form, and
    for lists that cannot be prompts.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} with prompts; check the path")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    try:
        lists = _checked(found)
        prompt_ensemble("thing", **lists)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return lists


def _checked(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict) or not found:
        raise ValueError(f"expected an object with {', '.join(KEYS)}, or one of them")
    for key in found:
        if key not in KEYS:
            raise ValueError(unknown("key", key, KEYS))
    lists = dict(found)
    if "states" in lists:
        states = lists["states"]
        if not isinstance(states, dict) or not states or not set(states) <= set(STATES):
            raise ValueError('"states" must hold two lists, "normal" and "anomalous", or one')
        lists["states"] = tuple((STATES | states).values())
    templates = lists.get("templates", ["{domain}"])
    if "domains" in lists and not any("{domain}" in str(template) for template in templates):
        raise ValueError('"domains" are not used: no template says {domain}')
    return lists
