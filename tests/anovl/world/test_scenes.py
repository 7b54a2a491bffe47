"""The pocket world: pictures decided by their arguments, twins, damage, marks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from anovl.world.defects import DRAW, KINDS, add_defect
from anovl.world.marks import MARKS, two_tones
from anovl.world.scenes import PLACES, SEEN, UNSEEN, draw_scene, draw_twins


@pytest.mark.parametrize("category", SEEN + UNSEEN)
def test_a_scene_is_decided_by_its_arguments(category):
    first, again = (draw_scene(category, seed=5, kind="crack", size=48) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert not np.array_equal(first.image, draw_scene(category, seed=6, size=48).image)
    assert first.mask.any() and first.place in PLACES


@pytest.mark.parametrize("kind", KINDS)
def test_twins_differ_where_the_damage_is_and_hardly_elsewhere(kind):
    near = far = 0.0
    for category in ("wood", "bottle", "tile"):
        good, bad = (draw_scene(category, seed=11, kind=k, size=112) for k in ("good", kind))
        change = np.abs(good.image.astype(float) - bad.image).mean(axis=2)
        near, far = near + change[bad.mask].mean(), far + change[~bad.mask].mean()
        assert not good.mask.any()
    assert near > 10 * far


@pytest.mark.parametrize("category", ("leather", "gear"))
def test_twins_drawn_together_are_the_scenes_drawn_one_by_one(category):
    twins = draw_twins(category, seed=9, kind="hole", size=48)
    for scene, kind in zip(twins, ("good", "hole"), strict=True):
        alone = draw_scene(category, seed=9, kind=kind, size=48)
        np.testing.assert_array_equal(scene.image, alone.image)
        np.testing.assert_array_equal(scene.mask, alone.mask)


@pytest.mark.parametrize("kind", KINDS)
def test_close_ups_of_twins_show_the_same_window_with_damage_in_one_of_them(kind):
    for seed in range(5):
        good, bad = draw_twins("wood", seed=seed, kind=kind, close_up=40)
        assert good.image.shape == bad.image.shape == (40, 40, 3)
        assert bad.mask.any() and not good.mask.any() and bad.place in PLACES
        # Far from the damage, blur and JPEG aside, they are the same picture.
        far = ~binary_dilation(bad.mask, iterations=3)
        same = np.abs(good.image.astype(int) - bad.image).max(axis=2) <= 40
        assert same[far].mean() > 0.9


@pytest.mark.parametrize("mark", (two_tones, *MARKS), ids=lambda mark: mark.__name__)
def test_harmless_marks_change_a_picture_and_keep_it_one(mark):
    picture, changed = np.full((56, 56, 3), 0.6, np.float32), 0
    for seed in range(6):
        marked = mark(np.random.default_rng(seed), picture)
        again = mark(np.random.default_rng(seed), picture)
        np.testing.assert_array_equal(marked, again)
        assert marked.shape == picture.shape and marked.min() >= 0 and marked.max() <= 1
        changed += not np.array_equal(marked, picture)
    assert changed >= 3


def test_damage_lies_anywhere_up_to_the_border():
    masks = np.mean([draw_scene("wood", seed=s, kind="stain", size=32).mask for s in range(150)], 0)
    border = np.concatenate([masks[0], masks[-1], masks[:, 0], masks[:, -1]]).mean()
    assert border > 0.4 * masks[8:24, 8:24].mean()


def test_a_defect_on_an_object_stays_on_it_and_other_pictures_can_be_damaged():
    picture, where = np.full((40, 40, 3), 0.5, np.float32), np.zeros((40, 40), bool)
    where[10:30, 10:30] = True
    for kind in KINDS:
        damaged, mask = add_defect(picture, np.random.default_rng(1), kind=kind, where=where)
        assert mask.any() and not mask[~where].any()
        np.testing.assert_array_equal(damaged[~where], picture[~where])


@pytest.mark.parametrize("kind", ["scratch", "crack", "thread"])
def test_a_line_of_damage_passes_near_the_place_that_it_was_given(kind):
    picture, place = np.full((112, 112, 3), 0.6, np.float32), (70.5 / 112 - 0.5, 40.5 / 112 - 0.5)
    for seed in range(20):
        _, cover = DRAW[kind](np.random.default_rng(seed), picture, place, 1, 1)
        rows, columns = np.nonzero(cover > 0.3)
        assert np.hypot(rows - 40, columns - 70).min() < 8


def test_every_damaged_picture_shows_some_damage():
    for category in ("screw", "pill", "grid", "domino"):
        for seed in range(24):
            kind = KINDS[seed % len(KINDS)]
            assert draw_scene(category, seed=seed, kind=kind, ease=1.0).mask.any()


def test_bad_requests_name_what_there_is():
    with pytest.raises(ValueError, match="'car'"):
        draw_scene("car", seed=0)
    with pytest.raises(ValueError, match="'rust'"):
        draw_scene("wood", seed=0, kind="rust")
    with pytest.raises(ValueError, match=r"\(4, 5, 3\)"):
        add_defect(np.zeros((4, 5, 3)), np.random.default_rng(0), kind="hole")
    with pytest.raises(ValueError, match="nowhere"):
        empty = np.zeros((4, 4), bool)
        add_defect(np.zeros((4, 4, 3)), np.random.default_rng(0), kind="hole", where=empty)
