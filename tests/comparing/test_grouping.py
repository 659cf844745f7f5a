"""Groups, their labels, and the keys that differ."""

from __future__ import annotations

import random

from mrm.comparing.grouping import align, differing_keys, telling_keys
from tests.comparing.making import FLIP, made_run


def test_align_groups_runs_that_differ_in_the_seed_alone() -> None:
    alignment = align([made_run("full", 2), made_run("full", 1), made_run("no_t2i", 1, config={"data.use": False})])
    assert [group.label for group in alignment.groups] == ["full", "no_t2i"]
    assert alignment.groups[0].seeds == (1, 2)
    assert alignment.differing == {"experiment": ("full", "no_t2i"), "data.use": ("–", "False")}


def test_align_labels_name_the_keys_that_an_experiment_does_not_tell() -> None:
    runs = [made_run(name, 1, config={FLIP: rate}) for name in ("full", "base") for rate in (0.4, 0.05, 0.1)]
    random.Random(0).shuffle(runs)
    labels = [group.label for group in align(runs, order=["full"]).groups]
    assert labels == [
        "full, flip_rate=0.05", "full, flip_rate=0.1", "full, flip_rate=0.4",
        "base, flip_rate=0.05", "base, flip_rate=0.1", "base, flip_rate=0.4",
    ]  # fmt: skip


def test_align_short_names_of_keys_grow_until_they_differ() -> None:
    runs = [made_run("full", 1, config={"a.x.lr": a, "b.x.lr": b}) for a, b in ((1, 1), (1, 2), (2, 1))]
    labels = [group.label for group in align(runs).groups]
    assert labels == ["full, a.x.lr=1, b.x.lr=1", "full, a.x.lr=1, b.x.lr=2", "full, a.x.lr=2, b.x.lr=1"]


def test_align_labels_of_many_keys_name_as_many_as_tell_groups_apart() -> None:
    small = {"model.backbone": "tiny", "model.dtype": "float32", "model.pixels": 1, "optim.betas": "[0.9]"}
    large = {"model.backbone": "8b", "model.dtype": "bfloat16", "model.pixels": 2, "optim.betas": "[0.95]"}
    alignment = align([made_run("full", 1, config=small), made_run("full", 1, config=large)])
    assert [group.label for group in alignment.groups] == ["full, backbone=8b", "full, backbone=tiny"]
    assert len(alignment.differing) == 4


def test_align_labels_are_never_equal() -> None:
    runs = [made_run("full", 1, config={"data.path": "x" * 60 + end}) for end in "ab"]
    labels = [group.label for group in align(runs).groups]
    assert len(set(labels)) == 2 and labels[1].endswith("#2")


def test_align_does_not_depend_on_the_order_of_runs() -> None:
    runs = [made_run("full", seed, config={FLIP: rate}) for seed in (1, 2, 3) for rate in (0.1, 0.2)]
    turned = list(reversed(runs))
    assert [(g.label, g.seeds) for g in align(runs).groups] == [(g.label, g.seeds) for g in align(turned).groups]


def test_telling_keys_are_those_within_an_experiment() -> None:
    alignment = align([made_run("a", 1, config={"k": 1}), made_run("b", 1, config={"k": 2})])
    assert telling_keys(alignment.groups) == []
    assert set(differing_keys(alignment.groups)) == {"experiment", "k"}
