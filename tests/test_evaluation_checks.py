"""Settings of evaluation that cannot be meant are refused, each with what to do."""

from __future__ import annotations

import pytest

from mrm.cli import compose_run_config
from mrm.config_checks import check_config
from mrm.errors import ConfigError
from mrm.evaluation_checks import evaluated_sets, first_counting_epoch

STOP = "evaluation.early_stopping"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["evaluation.sets=[held_ot,held_out]"], "no data set 'held_ot' in use; known: held_out, test_.*Did you mean 'held_out'"),
        (["evaluation.sets=[held_out,open]"], "open has role=open, it is trained on"),
        (["evaluation.sets=[held_out,held_out]"], "names a set twice"),
        (["evaluation.sets=[test_t2i]"], "data.datasets.held_out: has role=val, but evaluation.sets does not name it"),
        (["evaluation.every_n_steps=0"], "evaluation.every_n_steps=0: must be at least 1, or null"),
        (["evaluation.every_n_epochs=null"], "nothing is ever evaluated"),
        (["evaluation.every_n_epochs=50"], "every_n_epochs=50: nothing is ever evaluated, trainer.max_epochs=3"),
        (["data.datasets.held_out.use=false", "evaluation.every_n_steps=5"], "nothing to evaluate; give a data set role=val"),
        ([f"{STOP}.patience=2"], f"{STOP}: has no effect with {STOP}.metric=null"),
        (["evaluation.best.use=true"], "evaluation.best: has no effect with evaluation.best.metric=null"),
        (["evaluation.best.metric=val/held_out/acuracy"], "must be one of val/accuracy, .*Did you mean 'val/held_out/accuracy'"),
        (["evaluation.best.metric=val/loss", "evaluation.best.keep=0"], "evaluation.best.keep=0: must be at least 1"),
        (
            ["evaluation.sets=[held_out,test_t2i]", "evaluation.best.metric=val/test_t2i/accuracy"],
            "by a test set nothing may be chosen, or its figure in the end would be too good; give a data set role=val",
        ),
        (
            ["data.datasets.held_out.use=false", "evaluation.sets=[test_t2i]", f"{STOP}.metric=val/accuracy"],
            "by a test set nothing may be chosen.*Known here: none",
        ),
        ([f"{STOP}.metric=val/accuracy", f"{STOP}.patience=0"], "patience=0: must be at least 1"),
        ([f"{STOP}.metric=val/accuracy", f"{STOP}.min_delta=-1"], "min_delta=-1.0: must be at least 0"),
        (  # the last round of dt2it_full is after epoch 1: only epochs 2 to 4 count
            [f"{STOP}.metric=val/accuracy", f"{STOP}.patience=2", "trainer.max_epochs=5"],
            "can never stop this run: of 5 epochs, behind the last round of curation, after epoch 1, 3 end with an evaluation",
        ),
        (["data.datasets.held_out.weight=2"], "has no effect on a val set; leave it at 1"),
    ],
)  # fmt: skip
def test_check_evaluation_that_cannot_be_meant_is_refused(words: list[str], expected: str) -> None:
    config = compose_run_config(["experiment=dt2it_full", *words])
    with pytest.raises(ConfigError, match=expected):
        check_config(config)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["evaluation.sets=[held_out,test_t2i]", "evaluation.best.metric=val/accuracy"],
        ["data.datasets.held_out.use=false"],
        [f"{STOP}.metric=val/accuracy", f"{STOP}.patience=2", "trainer.max_epochs=6"],
        [f"{STOP}.metric=val/held_out/loss", "evaluation.every_n_steps=50", "evaluation.every_n_epochs=null"],
    ],
)
def test_check_evaluation_that_can_be_done_is_taken(words: list[str]) -> None:
    check_config(compose_run_config(["experiment=dt2it_full", *words]))


def test_evaluated_sets_are_those_of_role_val_unless_named() -> None:
    assert evaluated_sets(compose_run_config([])) == (["held_out"], [])
    named = compose_run_config(["evaluation.sets=[test_t2i,held_out]"])
    assert evaluated_sets(named) == (["held_out"], ["test_t2i"])


def test_first_counting_epoch_is_behind_the_last_round() -> None:
    assert first_counting_epoch(compose_run_config(["experiment=dt2it_full"])) == 2
    assert first_counting_epoch(compose_run_config(["experiment=dt2it_no_curation"])) == 0
