"""Fixtures for tests that run the whole job at a tiny size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mrm.cli import compose_run_config
from mrm.config import RunConfig


@pytest.fixture(scope="session")
def prepared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests of a session share prepared data."""
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture
def small_run(prepared_root: Path, tmp_path: Path) -> Callable[..., RunConfig]:
    """Composes a run and cuts it down to seconds: few samples, few steps, CPU, no MLflow unless asked for."""

    def compose(*overrides: str, samples: int = 16, tests: int = 4) -> RunConfig:
        quiet = (
            f"output_root={tmp_path / 'runs'}",
            f"prepared_root={prepared_root}",
            "trainer.accelerator=cpu",
            "trainer.progress=false",
            "logger=none",
            "data.batch_size=4",
            "curation.min_active_share=0",  # a judge that has seen a dozen pairs may well empty the pool
        )
        config = compose_run_config([*quiet, *overrides])
        for spec in config.curation.schedule:  # so may it turn or drop most of it
            if "annotate" in spec.steps:
                spec.max_flipped = spec.max_dropped = 1.0
        for dataset in config.data.datasets.values():
            if dataset.source == "shapeworld":
                dataset.options["count"] = tests if dataset.role in ("val", "test") else samples
            elif dataset.source == "construct":  # of so few pairs, style would leave none
                dataset.options |= {"shapeworld": {"count": samples, "seed": 11}, "style": {"mode": "none"}}
        return config

    return compose
