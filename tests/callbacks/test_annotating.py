"""Queued pairs put to judges: servers on loopback that count what they are asked, and judges that score by the text."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from callbacks.annotating import Annotators
from datamodules.index import Index
from datamodules.reading import read_sample
from mrm.construction.calling.answer_log import AnswerLog
from mrm.construction.calling.budget import Budget
from mrm.construction.calling.run_settings import RunSettings
from mrm.construction.calling.servers import OpenAIServer
from mrm.errors import ConfigError, CurationError
from mrm.preference import Pair
from tests.callbacks.fakes import QUICK, RUBRICS, make_annotators, told_scores
from tests.construction.fault_server import FaultServer
from tests.datamodules.making import make_dataset, make_sample

ROOT = Path(__file__).parents[2]
PAIRS = 12  # of the data set `pool`, a sample each
KILLED = """
import sys
from pathlib import Path
import numpy as np
from callbacks.annotating import Annotators
from datamodules.index import Index
from mrm.construction.calling.servers import OpenAIServer
from mrm.construction.rubrics import load_rubrics
url, pool, answers = sys.argv[1:]
judges = [
    OpenAIServer(f"judge {t}", model="judge", base_url=url, temperature=t, concurrency=2) for t in (0, 1)
]
Annotators(judges, load_rubrics("auto", {}), Path(answers)).ask(Index.load(Path(pool)), np.arange(12))
"""  # as `server_judges`, without importing a trainer


def server_judges(
    url: str, folder: Path, *, mode: str = "sync", settings: RunSettings = QUICK, temperatures: tuple[float, ...] = (0, 1),
    concurrency: int = 2, key_env: str | None = None,
) -> Annotators:  # fmt: skip
    """Judges behind one server, which tells them apart by what they send."""
    judges = [
        OpenAIServer(f"judge {t}", model="judge", base_url=url, temperature=t, concurrency=concurrency, key_env=key_env)
        for t in temperatures
    ]
    return make_annotators(folder, *judges, mode=mode, settings=settings)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Three pairs of one sample and one of another."""
    pairs = [Pair(1, 0), Pair(2, 0), Pair(1, 2)]
    samples = [make_sample("a", images=(), responses=3, pairs=pairs), make_sample("b", images=())]
    return make_dataset(tmp_path / "d", samples)


@pytest.fixture
def pool(tmp_path: Path) -> Index:
    return make_dataset(tmp_path / "pool", [make_sample(f"p{number}") for number in range(PAIRS)])


def by_text(index: Index) -> Callable[[str], int]:
    """Text of a response of the first sample -> 2, 1, 0, in its order."""
    texts = read_sample(index, 0).responses
    return lambda text: 2 - texts.index(text) if text in texts else 5


def test_ask_puts_every_pair_in_both_orders_and_gives_shares_of_the_published_choice(
    index: Index, tmp_path: Path
) -> None:
    asked: list[tuple[str, str]] = []
    judge = told_scores("by text", by_text(index), asked)
    told = make_annotators(tmp_path / "answers", judge).ask(index, np.array([0, 2, 3]))
    assert told.votes.tolist() == [[0, 0], [1, 1], [0.5, 0.5]]  # the last sample's two are equally good
    assert told.unreadable == ["", "", ""]
    one, two, three = read_sample(index, 0).responses
    expected = {(two, one), (one, two), (two, three), (three, two)}
    assert expected <= set(asked) and len(asked) == len(set(asked)) == 6
    assert told.figures["annotation_calls"] == 6 and told.figures["annotation_failed"] == 0


def test_ask_empty_queue_asks_nothing_and_opens_nothing(index: Index, tmp_path: Path) -> None:
    told = make_annotators(tmp_path / "answers").ask(index, np.array([], int))
    assert told.votes.shape == (0, 4) and told.unreadable == []
    assert not (tmp_path / "answers").exists()


def test_ask_sample_that_cannot_be_read_is_named_not_raised(index: Index, tmp_path: Path) -> None:
    index.shard_files[0].write_bytes(b"\0" * index.shard_files[0].stat().st_size)
    told = make_annotators(tmp_path / "answers").ask(index, np.array([0, 3]))
    assert np.isnan(told.votes).all() and all(told.unreadable)
    assert told.figures["annotation_calls"] == 0


def test_ask_again_finds_every_answer(pool: Index, tmp_path: Path) -> None:
    with FaultServer() as server:
        first = server_judges(server.url, tmp_path / "answers").ask(pool, np.arange(PAIRS))
        assert sum(server.asked.values()) == 4 * PAIRS
        again = server_judges(server.url, tmp_path / "answers").ask(pool, np.arange(PAIRS))
        assert sum(server.asked.values()) == 4 * PAIRS
    np.testing.assert_array_equal(first.votes, again.votes)
    assert first.figures == again.figures and first.figures["annotation_tokens"] > 0
    assert again.account.reused == 4 * PAIRS and again.account.input_tokens == 0


def test_ask_killed_and_done_again_asks_nothing_twice(pool: Index, tmp_path: Path) -> None:
    with FaultServer(latency_s=0.05) as server:
        command = [sys.executable, "-c", KILLED, server.url, str(pool.shard_files[0].parent), str(tmp_path / "answers")]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT)
        while sum(server.asked.values()) < 20:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        told = server_judges(server.url, tmp_path / "answers").ask(pool, np.arange(PAIRS))
    assert not np.isnan(told.votes).any()
    twice = [record for record, times in server.asked.items() if times > 1]
    assert len(twice) <= 4, "only what was under way at the kill, two calls a judge"
    assert len(server.asked) == 4 * PAIRS and told.account.reused >= 16


def test_ask_judge_that_is_down_costs_its_votes_and_is_asked_again_next_time(pool: Index, tmp_path: Path) -> None:
    with FaultServer() as server:
        down = OpenAIServer("down", model="judge", base_url="http://127.0.0.1:9/v1", temperature=0.5)
        up = OpenAIServer("up", model="judge", base_url=server.url)
        told = make_annotators(tmp_path / "answers", up, down).ask(pool, np.arange(PAIRS))
        assert not np.isnan(told.votes[:, :2]).any() and np.isnan(told.votes[:, 2:]).all()
        assert told.figures["annotation_failed"] == 2 * PAIRS
        before = sum(server.asked.values())
        back = OpenAIServer("down", model="judge", base_url=server.url, temperature=0.5)
        again = make_annotators(tmp_path / "answers", up, back).ask(pool, np.arange(PAIRS))
        assert sum(server.asked.values()) - before == 2 * PAIRS
    assert not np.isnan(again.votes).any()
    np.testing.assert_array_equal(again.votes[:, :2], told.votes[:, :2])


def test_ask_budget_that_is_reached_leaves_votes_missing(pool: Index, tmp_path: Path) -> None:
    settings = RunSettings(budget=Budget(tokens=10_000), base_s=0.01, longest_s=0.05)
    with FaultServer() as server:
        told = server_judges(server.url, tmp_path / "answers", settings=settings).ask(pool, np.arange(PAIRS))
        assert "budget reached" in told.account.stopped
        missing = np.isnan(told.votes).sum()
        assert 0 < missing == told.figures["annotation_failed"] < 4 * PAIRS
        more = server_judges(server.url, tmp_path / "answers").ask(pool, np.arange(PAIRS))
        assert sum(server.asked.values()) == 4 * PAIRS
    assert not np.isnan(more.votes).any()


def test_judge_that_refuses_is_told_by_the_probe_and_costs_a_round_its_votes(
    pool: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "not-the-right-one")
    with FaultServer(key="the-right-one") as server:
        annotators = server_judges(server.url, tmp_path / "answers", key_env="JUDGE_KEY")
        with pytest.raises(ConfigError, match="JUDGE_KEY"):
            annotators.probe({"open": read_sample(pool, 0)})
        told = annotators.ask(pool, np.arange(PAIRS))
        assert np.isnan(told.votes).all() and "JUDGE_KEY" in told.account.stopped
        monkeypatch.setenv("JUDGE_KEY", "the-right-one")
        annotators.probe({"open": read_sample(pool, 0)})
        assert not np.isnan(annotators.ask(pool, np.arange(PAIRS)).votes).any()
        assert sum(server.asked.values()) == 4 * PAIRS  # the probe's answers among them
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(ConfigError, match="JUDGE_KEY is not set"):
        annotators.check()


def test_probe_judge_without_a_usable_answer_is_named(pool: Index, tmp_path: Path) -> None:
    with FaultServer(lambda record, attempt: "always wrong count") as server:
        with pytest.raises(CurationError, match=r"(?s)'judge 0' about sample 'p0'.*wrong number of responses"):
            server_judges(server.url, tmp_path / "answers").probe({"open": read_sample(pool, 0)})


def test_probe_with_a_spent_budget_lets_the_training_begin(pool: Index, tmp_path: Path) -> None:
    settings = RunSettings(budget=Budget(tokens=10))
    with FaultServer() as server:
        account = server_judges(server.url, tmp_path / "answers", settings=settings).probe(
            {"open": read_sample(pool, 0)}
        )
    assert "budget reached" in account.stopped and not server.asked


def test_collect_takes_what_was_asked_beside_and_leaves_the_others_waiting(pool: Index, tmp_path: Path) -> None:
    with FaultServer(latency_s=0.02) as server:
        annotators = server_judges(server.url, tmp_path / "answers", mode="async")
        begun = np.array([1, 3, 4, 9])
        annotators.start(pool, begun)
        annotators.start(pool, begun)  # goes on
        told = annotators.settle(pool, np.array([3, 5, 9]), begun)  # 1 and 4 left the queue, 5 is new there
        assert np.isnan(told.votes).all(axis=1).tolist() == [False, True, False]
        assert sum(server.asked.values()) == 4 * 4
        now = server_judges(server.url, tmp_path / "other").ask(pool, np.array([3, 9]))
    np.testing.assert_array_equal(told.votes[[0, 2]], now.votes)


def test_collect_in_a_process_that_began_nothing_gives_the_same_votes(pool: Index, tmp_path: Path) -> None:
    queue, begun = np.array([3, 5, 9]), np.array([1, 3, 9])
    with FaultServer() as server:
        first = server_judges(server.url, tmp_path / "answers", mode="async")
        first.start(pool, begun)
        told = first.collect(pool, queue, begun)
        asked = sum(server.asked.values())
        resumed = server_judges(server.url, tmp_path / "answers", mode="async").collect(pool, queue, begun)
        assert sum(server.asked.values()) == asked == 4 * 3
    np.testing.assert_array_equal(told.votes, resumed.votes)
    assert told.figures == resumed.figures


def test_collect_asks_once_more_for_what_a_judge_owed_when_it_was_down(pool: Index, tmp_path: Path) -> None:
    """As a process that was resumed at the boundary would: both decide the same."""
    down = True
    with FaultServer(lambda record, attempt: "500" if down else "good") as server:
        annotators = server_judges(server.url, tmp_path / "answers", mode="async")
        begun = np.array([1, 3])
        annotators.start(pool, begun)
        assert annotators._asking is not None
        asked = annotators._asking[1].result()
        assert np.isnan(asked.votes).all()
        down = False
        told = annotators.collect(pool, np.array([1, 3, 5]), begun)
    assert np.isnan(told.votes).all(axis=1).tolist() == [False, False, True]
    assert told.asked is not None and told.asked.tolist() == [True, True, False]
    assert told.figures["annotation_failed"] == 0


def test_start_of_another_queue_lets_the_first_one_end_and_asks_the_rest(pool: Index, tmp_path: Path) -> None:
    with FaultServer(latency_s=0.02) as server:
        annotators = server_judges(server.url, tmp_path / "answers", mode="async")
        annotators.start(pool, np.arange(6))
        while not server.asked:
            time.sleep(0.01)
        annotators.start(pool, np.arange(3, PAIRS))
        told = annotators.collect(pool, np.arange(3, PAIRS), np.arange(3, PAIRS))
        assert max(server.asked.values()) == 1 and len(server.asked) == 4 * PAIRS
    assert not np.isnan(told.votes).any()


def test_stop_ends_what_is_asked_beside_and_keeps_its_answers(pool: Index, tmp_path: Path) -> None:
    with FaultServer(latency_s=0.05) as server:
        annotators = server_judges(server.url, tmp_path / "answers", mode="async")
        annotators.start(pool, np.arange(PAIRS))
        while sum(server.asked.values()) < 10:
            time.sleep(0.01)
        annotators.stop()
        annotators.stop()
        asked = sum(server.asked.values())
        time.sleep(0.2)
        assert sum(server.asked.values()) == asked < 4 * PAIRS
    with AnswerLog(tmp_path / "answers") as answers:  # free again
        assert len(answers) >= asked - 4


def test_ask_poll_that_raises_ends_the_asking_and_keeps_its_answers(pool: Index, tmp_path: Path) -> None:
    with FaultServer(latency_s=0.05) as server:

        def poll() -> None:
            if sum(server.asked.values()) >= 10:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            server_judges(server.url, tmp_path / "answers").ask(pool, np.arange(PAIRS), poll=poll)
        assert sum(server.asked.values()) < 4 * PAIRS
    with AnswerLog(tmp_path / "answers") as answers:
        assert len(answers) >= 6


def test_ask_folder_of_another_run_waits_its_turn_and_finds_the_answers(
    pool: Index, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with FaultServer(latency_s=0.02) as server:
        first, second = (server_judges(server.url, tmp_path / "shared", mode=mode) for mode in ("async", "sync"))
        first.start(pool, np.arange(PAIRS))
        while not server.asked:
            time.sleep(0.01)
        told = second.ask(pool, np.arange(PAIRS))
        assert sum(server.asked.values()) == 4 * PAIRS and told.account.reused == 4 * PAIRS
        np.testing.assert_array_equal(first.collect(pool, np.arange(PAIRS), np.arange(PAIRS)).votes, told.votes)
    assert "in use by process" in caplog.text


def test_identity_holds_all_that_votes_depend_on_and_neither_address_nor_key(tmp_path: Path) -> None:
    annotators = server_judges("http://127.0.0.1:9/v1", tmp_path, key_env="JUDGE_KEY")
    assert "127.0.0.1" not in str(annotators.identity) and "JUDGE_KEY" not in str(annotators.identity)
    moved = server_judges("http://127.0.0.1:10/v1", tmp_path)
    assert moved.identity == annotators.identity
    assert server_judges("http://127.0.0.1:9/v1", tmp_path, mode="async").identity != annotators.identity


def test_annotators_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there are no judges.*mode='later' is none of sync, async"):
        Annotators([], RUBRICS, tmp_path, mode="later")
    with pytest.raises(ConfigError, match="'judge 0' and 'twin' are one model asked in one way"):
        twin = OpenAIServer("twin", model="judge", base_url="http://127.0.0.1:9/v1", temperature=0)
        make_annotators(tmp_path, *server_judges("http://127.0.0.1:8/v1", tmp_path).askings.judges, twin)
