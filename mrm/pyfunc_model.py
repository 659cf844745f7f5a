"""A saved reward model as MLflow's pyfunc: this file is the model's code, which MLflow runs where it loads the model.

    mlflow.pyfunc.load_model("runs:/RUN/model").predict([{"prompt": "<image>What is it?", "images": ["cat.jpg"], "responses": ["A cat.", "A dog."]}])

Rows are a list or a DataFrame, of what `mrm.score_rows.RowScorer.score` takes; the answer is a list or DataFrame of what it gives.
Nothing is pickled: the weights are the run's saved model, an artifact of this one, and the code that reads them lies beside.
"""

from __future__ import annotations

from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from mrm.score_rows import RowScorer

MODEL = "model"  # the artifact's name


class _Rows:
    """`predict` in a class before MLflow's, which asks for hints where it is in its own: hints would be a schema, and images have no one form."""

    scorer: RowScorer

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """A line a row, see `RowScorer.score`."""
        if not hasattr(model_input, "to_dict"):
            return self.scorer.score(model_input)
        lines = self.scorer.score(model_input.to_dict("records"))
        return type(model_input)(lines, index=model_input.index)


class RewardScorer(_Rows, PythonModel):
    """Loads the saved model, and scores rows by it."""

    def load_context(self, context: Any) -> None:
        self.scorer = RowScorer(context.artifacts[MODEL])


set_model(RewardScorer())
