"""Which runs are taken, and that what is left out is named."""

from __future__ import annotations

import pytest

from mrm.comparing.selecting import choose, select
from mrm.errors import ConfigError
from tests.comparing.making import made_run

RUNS = [
    made_run("full", 1, sweep="a"),
    made_run("full", 2),
    made_run("no_t2i", 1, sweep="a"),
    made_run("none", 1),
]


def labels(runs) -> list[str]:
    return [f"{run.experiment}{run.seed}" for run in runs]


def test_select_takes_experiments_by_name_and_pattern_a_sweep_and_single_runs() -> None:
    assert labels(select(RUNS)) == ["full1", "full2", "no_t2i1", "none1"]
    assert labels(select(RUNS, experiments=["full"])) == ["full1", "full2"]
    assert labels(select(RUNS, experiments=["no*"])) == ["no_t2i1", "none1"]
    assert labels(select(RUNS, sweeps=["a"])) == ["full1", "no_t2i1"]
    assert labels(select(RUNS, experiments=["full"], sweeps=["a"])) == ["full1"]
    assert labels(select(RUNS, experiments=["full"], ids=["none-s1-0"])) == ["full1", "full2", "none1"]
    assert labels(select(RUNS, ids=["full-s2"])) == ["full2"]


def test_select_names_all_that_is_not_there_and_what_is_meant() -> None:
    with pytest.raises(ConfigError) as error:
        select(RUNS, experiments=["ful"], sweeps=["b"], ids=["full-s", "nothing"])
    told = str(error.value)
    assert "experiment='ful'" in told and "Did you mean 'full'?" in told
    assert "sweep='b'" in told and "runs='nothing'" in told
    assert "'full-s' is 2 runs" in told


def test_select_tells_how_many_runs_each_name_has_where_none_meets_both() -> None:
    runs = [*RUNS, made_run("no_t2i", 2, sweep="a")]
    with pytest.raises(ConfigError) as error:
        select(runs, experiments=["full", "none"], sweeps=["b", "c"], ids=["none-s1-0"])
    assert "sweep='b': no run is of it" in str(error.value)
    runs += [made_run("no_t2i", seed, sweep="b") for seed in (3, 4, 5)]
    for ids in ([], ["none-s1-0"]):
        with pytest.raises(ConfigError) as error:
            select(runs, experiments=["full", "none"], sweeps=["b"], ids=ids)
        told = str(error.value)
        assert "experiment='full' is of 2 run(s), experiment='none' is of 1 run(s), sweep='b' of 3" in told
        assert "none is of both an experiment and a sweep" in told


def test_choose_leaves_out_unfinished_and_older_runs_and_names_them() -> None:
    old, new = made_run("full", 1, number=1), made_run("full", 1, number=2)
    other = made_run("full", 1, number=3, config={"optim.lr": 1e-3})
    running = made_run("full", 2, number=4, status="RUNNING")
    chosen = choose([running, new, other, old])
    assert chosen.runs == [new, other]
    assert chosen.repeated == [(old, new)]
    assert chosen.unfinished == [running]


def test_choose_unfinished_takes_them_but_for_repeats_a_finished_run_counts() -> None:
    done, again = made_run("full", 1, number=1), made_run("full", 1, number=2, status="FAILED")
    running = made_run("full", 2, number=4, status="RUNNING")
    chosen = choose([running, done, again], unfinished=True)
    assert chosen.runs == [done, running] and chosen.repeated == [(again, done)]
    assert chosen.taken_unfinished == [running]
    with pytest.raises(ConfigError, match="none of 1 has finished.*unfinished=true"):
        choose([running])
