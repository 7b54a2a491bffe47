"""Recipes: their names, and their record beside the weights."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from anovl_companion.training.recipe import RECIPES, Recipe, named_recipe, read_recipe, write_recipe


def test_the_longer_recipe_is_the_one_that_was_tried_on_a_gpu():
    recipe = named_recipe("gpu", seed=1)
    assert (recipe.seed, recipe.pictures, recipe.steps) == (1, 256, 5584)
    assert (recipe.steps_hold, recipe.warm_up, recipe.easy_steps) == (2792, 200, None)
    same = {"lr": 2e-3, "weight_decay": 0.05, "average": 0.998, "captions": 2}
    assert same.items() <= vars(recipe).items() and same.items() <= vars(Recipe()).items()


def test_an_unknown_recipe_names_those_there_are():
    with pytest.raises(ValueError, match=r"unknown recipe: 'laptob'. Did you mean 'laptop'\?"):
        named_recipe("laptob")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_written_with_its_name_and_read_again(tmp_path, name):
    write_recipe(named_recipe(name, seed=5), tmp_path)
    assert json.loads((tmp_path / "recipe.json").read_text())["name"] == name
    assert read_recipe(tmp_path) == named_recipe(name, seed=5)


def test_a_recipe_of_ones_own_has_no_name(tmp_path):
    own = replace(Recipe(), twins=3)
    write_recipe(own, tmp_path)
    assert json.loads((tmp_path / "recipe.json").read_text())["name"] is None
    assert read_recipe(tmp_path) == own


def test_a_recipe_that_cannot_be_read_says_why(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"recipe\.json is missing"):
        read_recipe(tmp_path)
    (tmp_path / "recipe.json").write_text('{"seed": 1, "colour": "red"}')
    with pytest.raises(ValueError, match=r"not a recipe of this version.*colour"):
        read_recipe(tmp_path)
