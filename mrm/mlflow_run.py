"""What a run gives MLflow beside its figures: its data at the start, its files and its model in the end.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.ledger import Ledger, ledger_rounds, round_path
from datamodules.set_accounts import SetAccount
from mrm.errors import ConfigError
from mrm.evaluation.sample_scores import SCORES_FILE
from mrm.mlflow_logger import LAST_TRIES, PatientMLFlowLogger
from mrm.run_dirs import CONFIG_FILE, EVALUATIONS_FILE, REPORT_FILE, RESULTS_FILE, ROUNDS_FILE
from mrm.run_record import record_files
from mrm.run_totals import totals

LIMIT = 2**30  # bytes; a larger model is logged only where it is asked for
LEDGERS = "ledger"  # of a run's folder, and of its artifacts

log = logging.getLogger(__name__)


def log_data(logger: PatientMLFlowLogger, accounts: Iterable[SetAccount], fingerprint: str) -> None:
    """Logs what the run is done with.

    Args:
        logger: of this run.
        accounts: one a data set.
        fingerprint: of all that is trained on, as a tag.
    """
    from mrm.mlflow_data import set_inputs  # imported where used: MLflow costs a second

    logger.set_tag("data_fingerprint", fingerprint)
    logger.log_inputs(set_inputs(accounts))


@dataclass(frozen=True)
class RunEnd:
    """What a run's folder holds in the end, read before anything of it is given.

    Args:
        folder: the run's.
        totals: figures of the whole run.
        ledgers: files of its rounds, each with what it holds.
        files: the others that are shown as artifacts.
        step: the last one, at which the tests' figures were logged.
    """

    folder: Path
    totals: dict[str, float]
    ledgers: tuple[tuple[Path, Ledger], ...]
    files: tuple[Path, ...]
    step: int


def read_end(folder: Path, history: Iterable[Mapping[str, Any]]) -> RunEnd:
    """Of a run that has its results.

    Args:
        folder: the run's.
        history: its metrics by step, as `read_history` gives them.

    Raises:
        ConfigError: for results that cannot be read.
        LedgerError: for a ledger that cannot be read.
    """
    path, names = folder / RESULTS_FILE, (CONFIG_FILE, RESULTS_FILE, ROUNDS_FILE, EVALUATIONS_FILE)
    try:
        found = totals(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; a run that has finished has one.") from error
    rounds = [round_path(folder / LEDGERS, number) for number in ledger_rounds(folder / LEDGERS)]
    files = [folder / name for name in (*names, SCORES_FILE, REPORT_FILE)]
    return RunEnd(
        folder,
        found,
        tuple((one, Ledger.read(one)) for one in rounds),
        (*(one for one in files if one.is_file()), *record_files(folder)),
        max((entry["step"] for entry in history), default=0),
    )


def finish_mlflow(logger: PatientMLFlowLogger, end: RunEnd, *, model: bool | None = None) -> None:
    """Gives the store the run's end, and closes the run there.

    Args:
        logger: of this run.
        end: of it.
        model: whether its saved model is logged too; None leaves that to its size.
    """
    logger.log_metrics(end.totals)
    logger.save()  # the model gets the tests' figures from the store
    give_files(logger, end, model=model)
    logger.finalize("success")


def give_files(logger: PatientMLFlowLogger, end: RunEnd, *, model: bool | None, replace: bool = True) -> None:
    """Gives the store the run's ledgers, files and model.

    Args:
        logger, end, model: as of `finish_mlflow`.
        replace: whether a model that the run has there is replaced.
    """
    from mrm.mlflow_data import ledger_inputs
    from mrm.mlflow_model import has_model, log_model

    logger.log_inputs(ledger_inputs(end.ledgers))
    logger.log_files([*((path, None) for path in end.files), *((path, LEDGERS) for path, _ in end.ledgers)])
    saved = end.folder / "model"
    if not saved.is_dir() or not wants_model(saved, model):
        return

    def give() -> None:
        if replace or not has_model(logger):
            log_model(logger, saved, end.step)

    logger.attempt("the model", give, tries=1 if logger.waiting else LAST_TRIES)


def wants_model(folder: Path, asked: bool | None) -> bool:
    """Whether a saved model is to be logged; says so where it is left out for its size.

    Args:
        folder: of the saved model.
        asked: `logger.log_model`; None leaves it to the size.
    """
    if asked is not None:
        return asked
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > LIMIT:
        log.info(
            "The model, %.1f GB, is not copied to MLflow: it is larger than 1 GB; logger.log_model=true does so. It is in %s.",
            size / 1e9,
            folder,
        )
    return size <= LIMIT
