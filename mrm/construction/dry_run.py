"""What a construction would take, before anyone is asked: calls, tokens and money by model and kind of call.

Responses that are not there yet are taken as made-up texts of the length that answers have had so far, or are expected to have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mrm.construction.asking import Asker, Plan
from mrm.construction.calling.budget import Estimate, estimate
from mrm.construction.calling.calls import Call
from mrm.construction.calling.token_estimates import output_tokens
from mrm.construction.pipeline import Construction
from mrm.construction.recipe import Recipe
from mrm.construction.records import PromptRecord, Response, distinct
from mrm.construction.responding import plan_responses
from mrm.construction.rewriting import plan_rewrites
from mrm.errors import RecordError

_CHARACTERS_A_TOKEN = 4  # of the made-up texts, as `token_estimates` counts them


def estimate_construction(construction: Construction, stages: Sequence[str]) -> Estimate:
    """The estimate; the input is read, nobody is asked. It is an upper bound: responses are taken to differ and rewriting
    to touch all of them. Once the stage `respond` is done, the calls of `listwise` and `pointwise` are exact.

    Args:
        construction: what would be done.
        stages: those asked for.
    """
    construction.run(["prompts"])
    asker, recipe = construction.asker, construction.recipe
    return estimate(_calls(construction, recipe, stages), asker.models, asker.log)


def _calls(construction: Construction, recipe: Recipe, stages: Sequence[str]) -> Iterator[Call]:
    asker = construction.asker
    if "respond" in stages:
        yield from _planned(asker, construction.data.prompts(), plan_responses(recipe.responders))
    plans = {"listwise": recipe.listwise.plan, "pointwise": recipe.pointwise.plan}
    for stage, plan in plans.items():
        if stage in stages and stage not in recipe.skipped:
            yield from _planned(asker, _answered(construction), plan)
    if "rewrite" in stages and recipe.rewriter is not None:
        yield from _planned(asker, _answered(construction), plan_rewrites(recipe.rewriter))
    if "verify" in stages and recipe.rewriter is not None:
        yield from _planned(asker, map(_as_rewritten, _answered(construction)), recipe.pointwise.plan)


def _as_rewritten(record: PromptRecord) -> PromptRecord:
    """Texts as long as the responses, and others."""
    return replace(record, responses=tuple(Response(f"{r.text}.", r.model) for r in record.responses))


def _planned(asker: Asker, records: Iterator[PromptRecord], plan: Plan) -> Iterator[Call]:
    for record in records:
        try:
            calls = list(plan(record, tuple(asker.images.read(image) for image in record.images)))
        except RecordError:  # left out by the stage too, with its reason
            continue
        yield from calls


def _answered(construction: Construction) -> Iterator[PromptRecord]:
    """The records with the responses that there are, else with made-up ones."""
    if "respond" in construction.accounts:
        yield from construction.data.records()
        return
    keep = construction.recipe.keep_responses
    for record in construction.data.prompts():
        made_up = [
            Response(
                f"{responder.model.name} {number} ".ljust(_characters(construction, responder.model.name), "."), ""
            )
            for responder in construction.recipe.responders
            for number in range(responder.samples)
        ]
        responses = distinct([*record.responses, *made_up])[:keep]
        if len(responses) > 1:
            yield replace(record, responses=responses)


def _characters(construction: Construction, model: str) -> int:
    so_far = construction.asker.log.answered_by(model, "respond")
    mean = so_far.output_tokens / so_far.calls if so_far.calls else None
    return output_tokens("respond", mean) * _CHARACTERS_A_TOKEN
