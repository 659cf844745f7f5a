"""What a run gives MLflow beside its figures: its data at the start, its files and its model in the end.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from datamodules.ledger import Ledger
from datamodules.set_accounts import SetAccount
from mrm.mlflow_logger import LAST_TRIES, PatientMLFlowLogger

LIMIT = 2**30  # bytes; a larger model is logged only where it is asked for

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


def finish_mlflow(
    logger: PatientMLFlowLogger,
    artifacts: Iterable[tuple[Path, str | None]],
    metrics: Mapping[str, float],
    *,
    ledgers: Iterable[tuple[Path, Ledger]] = (),
    model: Path | None = None,
    step: int = 0,
) -> None:
    """Adds the final figures and files, and closes the run.

    Args:
        logger: of this run.
        artifacts: files, each with the folder that it is shown in.
        metrics: figures of the whole run.
        ledgers: files of its rounds, each with what it holds; logged as inputs.
        model: the saved model's folder, to be logged; None for none.
        step: the last one, at which the tests' figures were logged.
    """
    from mrm.mlflow_data import ledger_inputs
    from mrm.mlflow_model import log_model

    logger.log_metrics(dict(metrics))
    logger.save()  # the model gets the tests' figures from the store
    logger.log_inputs(ledger_inputs(ledgers))
    logger.log_files(list(artifacts))
    if model is not None:
        logger.attempt("the model", lambda: log_model(logger, model, step), tries=1 if logger.waiting else LAST_TRIES)
    logger.finalize("success")


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
