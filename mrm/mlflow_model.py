"""A run's model in MLflow, as a pyfunc that scores rows: the saved model, the code that reads it, and what that needs installed.

Imported where it is used: it imports MLflow, which costs a second.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import mlflow
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from mrm import pyfunc_model
from mrm.config import PACKAGE
from mrm.mlflow_logger import PatientMLFlowLogger

NAME = "model"  # in the run: runs:/RUN_ID/model
TYPE = "reward model"
CODE = ("mrm", "datamodules")
NOT_CODE = ("assets", "templates", "__pycache__", "*.pyc")
NEEDED = (  # of the project's own requirements, by what scoring imports
    "torch", "transformers", "peft", "safetensors", "numpy", "pillow", "pyarrow", "fsspec", "omegaconf", "hydra-core", "rich", "jinja2",
)  # fmt: skip


def log_model(logger: PatientMLFlowLogger, folder: Path, step: int) -> str:
    """Logs a saved model with the run; one that an earlier end of this run logged is replaced.

    Args:
        logger: of the run.
        folder: of the saved model.
        step: at which its metrics were logged.

    Returns:
        Its address, `models:/ID`.
    """
    client, before = logger.experiment, mlflow.get_tracking_uri()
    run, earlier = client.get_run(logger.run_id), _logged(logger)
    # By the client, which is told the experiment; `Model.log` would take the one that is active, which none is here.
    made = client.create_logged_model(
        run.info.experiment_id, name=NAME, source_run_id=logger.run_id, params=dict(run.data.params), model_type=TYPE
    )
    mlflow.set_tracking_uri(logger.tracking_uri)
    try:
        with tempfile.TemporaryDirectory() as place:
            info = Model.log(
                artifact_path=None,
                flavor=mlflow.pyfunc,
                model_id=made.model_id,
                run_id=logger.run_id,
                step=step,
                python_model=str(Path(pyfunc_model.__file__)),
                artifacts={pyfunc_model.MODEL: str(folder)},
                code_paths=_code(Path(place)),
                pip_requirements=requirements(),
            )
    except BaseException:
        with suppress(Exception):  # of a store that is away: the first error is told
            client.delete_logged_model(made.model_id)
        raise
    finally:
        mlflow.set_tracking_uri(before)
    for one in earlier:  # only now, since the new one may fail
        client.delete_logged_model(one.model_id)
    return str(info.model_uri)


def has_model(logger: PatientMLFlowLogger) -> bool:
    """Whether the run has a model in the store that can be loaded."""
    return any(one.status == LoggedModelStatus.READY for one in _logged(logger))


def _logged(logger: PatientMLFlowLogger) -> list[LoggedModel]:
    """The run's models in the store; it may name some that are deleted."""
    client, found = logger.experiment, []
    outputs = client.get_run(logger.run_id).outputs
    for output in outputs.model_outputs if outputs is not None else ():
        try:
            found.append(client.get_logged_model(output.model_id))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    return found


def requirements() -> list[str]:
    """What must be installed to score, as the project asks for it."""
    try:
        asked = importlib.metadata.requires("mrm") or []
    except importlib.metadata.PackageNotFoundError:
        return list(NEEDED)
    by_name = {re.split(r"[\s<>=!~;\[]", line, maxsplit=1)[0]: line for line in asked if "extra ==" not in line}
    return [by_name.get(name, name) for name in NEEDED]


def _code(place: Path) -> list[str]:
    """Copies of the packages that scoring imports, without the packaged backbone and pages."""
    for name in CODE:
        shutil.copytree(PACKAGE.parent / name, place / name, ignore=shutil.ignore_patterns(*NOT_CODE))
    return [str(place / name) for name in CODE]
