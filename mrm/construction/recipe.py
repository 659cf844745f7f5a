"""Everything that decides a construction's outcome but the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mrm.construction.agreement import AgreementRule
from mrm.construction.calling.calls import Model
from mrm.construction.diversity import Embed
from mrm.construction.judging import ListwiseAskings, PointwiseAskings, Rubrics
from mrm.construction.responding import Responder


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a construction's outcome but the input.

    Args:
        responders, judges: who is asked; `rewriter` None rewrites nothing.
        rubrics: by language.
        rule: of agreement.
        seed: of orders and sub-sampling.
        listwise_repeats: orders that each judge sees.
        keep_responses: see `responding.respond`.
        embed, embedder: the embedding model, and the name under which it decides what is kept; None where there is none.
        rewrite_tolerance: see `rewriting.rewrite`.
        style_mode, style_target: see `balance.balance_style`; mode "none" keeps all pairs.
    """

    responders: Sequence[Responder]
    judges: Sequence[Model]
    rubrics: Rubrics
    rule: AgreementRule
    rewriter: Model | None = None
    seed: int = 0
    listwise_repeats: int = 1
    keep_responses: int | None = None
    embed: Embed | None = None
    embedder: str | None = None
    rewrite_tolerance: float = 0.5
    style_mode: str = "subsample"
    style_target: float = 0.55

    @property
    def listwise(self) -> ListwiseAskings:
        """What the stage `listwise` asks."""
        return ListwiseAskings(self.judges, self.rubrics, self.seed, self.listwise_repeats)

    @property
    def pointwise(self) -> PointwiseAskings:
        """What the stage `pointwise` asks."""
        return PointwiseAskings(self.judges, self.rubrics)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Stages that this recipe does without: nobody rewrites, or the rule does not look at a way of scoring."""
        unread = {"listwise": ("pointwise",), "pointwise": ("listwise",)}.get(self.rule.modes, ())
        return (*unread, *(("rewrite", "verify") if self.rewriter is None else ()))
