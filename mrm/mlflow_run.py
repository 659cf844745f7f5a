"""What a run gives MLflow beside its figures: its data at the start, its files and its model in the end.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from datamodules.ledger import Ledger, ledger_rounds, round_path
from datamodules.set_accounts import SetAccount
from mrm.evaluation.sample_scores import SCORES_FILE
from mrm.mlflow_logger import LAST_TRIES, PatientMLFlowLogger
from mrm.run_dirs import CONFIG_FILE, EVALUATIONS_FILE, REPORT_FILE, RESULTS_FILE, ROUNDS_FILE
from mrm.run_record import record_files
from mrm.run_totals import totals
from mrm.tracking import read_history

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


def finish_mlflow(logger: PatientMLFlowLogger, folder: Path, *, model: bool | None = None) -> None:
    """Gives the store what a run's folder holds in the end, and closes the run there.

    Args:
        logger: of this run.
        folder: the run's, with its results.
        model: whether its saved model is logged too; None leaves that to its size.

    Raises:
        LedgerError: for a ledger that cannot be read.
    """
    from mrm.mlflow_data import ledger_inputs
    from mrm.mlflow_model import log_model

    ledgers = [round_path(folder / LEDGERS, number) for number in ledger_rounds(folder / LEDGERS)]
    logger.log_metrics(totals(json.loads((folder / RESULTS_FILE).read_text())))
    logger.save()  # the model gets the tests' figures from the store
    logger.log_inputs(ledger_inputs((path, Ledger.read(path)) for path in ledgers))
    logger.log_files([*((path, None) for path in _artifacts(folder)), *((path, LEDGERS) for path in ledgers)])
    saved = folder / "model"
    if saved.is_dir() and wants_model(saved, model):
        step = max(
            (entry["step"] for entry in read_history(folder)), default=0
        )  # the tests' figures are at the last one
        logger.attempt("the model", lambda: log_model(logger, saved, step), tries=1 if logger.waiting else LAST_TRIES)
    logger.finalize("success")


def _artifacts(folder: Path) -> list[Path]:
    """Files of a run that are shown in MLflow, those that there are."""
    names = (CONFIG_FILE, RESULTS_FILE, ROUNDS_FILE, EVALUATIONS_FILE, SCORES_FILE, REPORT_FILE)
    return [*(path for name in names if (path := folder / name).is_file()), *record_files(folder)]


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
