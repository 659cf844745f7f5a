"""The file of test scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mrm.errors import RecordError
from mrm.evaluation.sample_scores import SampleScores, read_scores, write_scores


def test_scores_come_back_as_they_were_written(tmp_path: Path) -> None:
    made = SampleScores(
        np.array(["a", "a", "b"], object), np.array([0, 1, 0], np.int32),
        np.array([0.1, 2.0, 1.0], np.float32), np.array([0.2, 1.0, 1.0], np.float32),
    )  # fmt: skip
    path = write_scores(tmp_path / "s.parquet", {"second": made, "first": made})
    read = read_scores(path)
    assert list(read) == ["second", "first"]
    for field in ("key", "pair", "chosen", "rejected"):
        assert getattr(read["first"], field).tolist() == getattr(made, field).tolist()
    assert read["first"].right.tolist() == [False, True, False]  # a tie is wrong
    assert [path.name for path in tmp_path.iterdir()] == ["s.parquet"]


def test_scores_of_another_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.parquet").write_text("no table")
    with pytest.raises(RecordError, match="is no table of test scores"):
        read_scores(tmp_path / "s.parquet")
