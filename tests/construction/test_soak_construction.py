"""The soak, in short: a construction over HTTP with faults and a kill."""

from pathlib import Path

from tests.soak_construction import SoakConfig, soak


def test_a_construction_that_is_killed_ends_with_the_same_files(tmp_path: Path) -> None:
    quick = {"latency_s": 0.0, "timeout_s": 0.6, "backoff_s": 0.05}
    result = soak(SoakConfig(calls=99, concurrency=32, faults=0.3, kills=1, **quick), tmp_path)
    assert result.failed and result.repeated == 0 and result.pairs
    assert result.answered + result.failed.total() == result.calls
    assert len(result.server) > 10  # faults of as many kinds
