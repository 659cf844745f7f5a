"""What a run knows of the sweep that it is a member of: the sweep tells it by the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NAME = "MRM_SWEEP"
PARENT = "MRM_SWEEP_MLFLOW_PARENT"


@dataclass(frozen=True)
class Membership:
    """A run's place.

    Args:
        sweep: the sweep's name.
        mlflow_parent: id of the MLflow run that the members' are children of; None where there is none.
    """

    sweep: str
    mlflow_parent: str | None = None

    def to_environment(self) -> dict[str, str]:
        return {NAME: self.sweep, **({PARENT: self.mlflow_parent} if self.mlflow_parent else {})}

    def tags(self) -> dict[str, str]:
        """For the run in MLflow."""
        return {"sweep": self.sweep, **({"mlflow.parentRunId": self.mlflow_parent} if self.mlflow_parent else {})}


def membership(environment: Mapping[str, str]) -> Membership | None:
    """The one that the environment tells of; None for a run of its own."""
    name = environment.get(NAME)
    return Membership(name, environment.get(PARENT) or None) if name else None
