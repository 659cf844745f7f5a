"""`python -m mrm.curate model=DIR shards=... output=FOLDER [rule=correct]`: curation without training.

The pairs of a pool are scored by a saved model (`model`, the `model` folder of a run) or by scores that are there already
(`scores=FILE`, or `scores=[a.jsonl,b.jsonl]` for several passes), and decided about as a round of curation in training does.

The pool: a folder or URL of shards (`shards=`), or a file in LLaMA-Factory's pairwise form (`input=FILE.json` or .jsonl; which
of both it is, is told by its content). Scores: JSON Lines, a line a pair in the input's order, {"chosen": 1.5, "rejected": -0.25}.

rule: `correct` flips the more negative half of the pairs that the scores contradict (correct_mode=flip|drop|weight,
distrust_share=0.5|auto); `filter` keeps only the pairs that the scores agree with strictly (dead_zone=0.0) and queues the others:
they are left out, and named, not dropped (at least min_active_share=0.25 of the pool must stay, else nothing is written); `correct_filter` does both, by the same scores. A source's own settings:
sources="{NAME: {distrust_share: auto, dead_zone: 0.1}}".

FOLDER holds ledger/round_0000.parquet and round_0001.parquet (a row a pair: scores, decision, reason), report.json, the
model's scores.jsonl, which `scores=` takes, and the curated pool in the input's form (form=ledger|shards|llama_factory): `shards/`,
samples with their active pairs only, or `pairs.json`, the input's records as they were, flipped ones with chosen and rejected in
each other's place. It appears when it is whole; the same command again finds it done, and one that was killed goes on with
what its model has scored (FOLDER.scoring-*.jsonl, until the output stands). `python -m mrm.audit` looks into it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from callbacks.curation_record import check_active_share
from callbacks.curation_round import RoundOutcome, begin_round, decide_round, warning_of
from callbacks.curation_schedule import RoundSpec
from callbacks.pool_scoring import pair_truth
from callbacks.round_inputs import PairScores, Votes
from datamodules.curated import IMAGES, PAIRS_FILE, SHARDS_FOLDER, Written, write_pool
from datamodules.index import Index
from datamodules.ledger import Ledger
from datamodules.ledger_audit import LEDGERS
from datamodules.pair_files import PairFile
from datamodules.pair_pools import SHARDS, PairPool, open_pool
from datamodules.prepare import is_mount, locked, target_of
from datamodules.reading import read_record
from datamodules.remote import is_remote, make_cache
from datamodules.score_files import write_scores
from datamodules.tarscan import file_digest, folder_digest
from datamodules.texts import distinct
from mrm.cli import settings_command
from mrm.curate_config import LEDGER_FORM, CurateConfig, check_curate
from mrm.curate_journal import ScoreJournal, remove_journals
from mrm.curate_output import accounts_of, build_report, print_outcome, round_settings, unreadable_of
from mrm.curate_scores import given_scores, model_scores
from mrm.curation.accounts import UNKNOWN
from mrm.curation.rules import by_source
from mrm.devices import pick_device
from mrm.errors import ConfigError, CurationError, MrmError, ShardError, UnreadableSamplesError
from mrm.run_dirs import write_json
from mrm.scoring_model import load_scoring_model

MARKER, REPORT, SCORES = "curate.json", "report.json", "scores.jsonl"
FORMAT = 2  # raise it when the same settings would give another output

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CurateResult:
    """What became of the pairs: pairs = kept + flipped + dropped + queued + unreadable.

    Args:
        path: the output.
        accounts: these numbers.
        report: all of `report.json`.
        reused: whether the output was there already.
    """

    path: Path
    accounts: dict[str, int]
    report: dict[str, Any] = field(repr=False)
    reused: bool = False

    @property
    def ledger(self) -> Ledger:
        """The ledger after the round."""
        found = Ledger.latest(self.path / LEDGERS)
        assert found is not None
        return found


def curate(config: CurateConfig) -> CurateResult:
    """Curates a pool once.

    Raises:
        ConfigError: for settings, an input, scores or a model that cannot be used, and an output that is another's.
        UnreadableSamplesError: for more unreadable samples than `max_bad` allows.
        CurationError: where the round would flip or drop more than its caps allow. Scores of a model are kept then.
    """
    spec, files = check_curate(config)
    given = config.shards or config.input
    assert given is not None, "checked"
    pool = open_pool(given, cache=make_cache(config.cache_dir, config.cache_gb), media_dir=config.media_dir)
    _tell(config, pool)
    target = target_of(config.output)
    with locked(target):
        recipe = _recipe(config, spec, files, pool)
        if (earlier := _earlier(target, recipe)) is not None:
            return earlier
        return _build(config, spec, files, pool, target, recipe)


def _tell(config: CurateConfig, pool: PairPool) -> None:
    """Says what was found where it is not what the key's name says, and what of the input is not looked at."""
    found = "shards" if pool.form == SHARDS else "a file in LLaMA-Factory's form"
    log.info("%s: %s, %d pairs in %d samples.", config.shards or config.input, found, pool.n_pairs, len(pool))
    if isinstance(pool, PairFile):
        if pool.unknown_columns:
            columns = ", ".join(f"{name} ({number})" for name, number in pool.unknown_columns.most_common())
            log.info("Columns that are kept and not read, with their records: %s.", columns)
        if pool.doubles:
            log.warning(
                "%d records have an `id` that stood before: their number in the file is in their key.", pool.doubles
            )


def _recipe(config: CurateConfig, spec: RoundSpec, files: Sequence[Path], pool: PairPool) -> dict[str, Any]:
    """All that the output depends on."""
    recipe = {
        "format": FORMAT,
        "pool": pool.fingerprint,
        "form": config.form or pool.form,
        "round": round_settings(spec),
    }
    if config.model is None:
        recipe["scores"] = [file_digest(file) for file in files]
    else:
        recipe["model"] = folder_digest(Path(config.model))
        recipe |= {"max_pixels": config.max_pixels, "dtype": config.dtype, "row_tokens": config.row_tokens}
    if config.model is not None or recipe["form"] == SHARDS:
        recipe["media_dir"] = config.media_dir  # else no image is looked at
    return json.loads(json.dumps(recipe))


def _earlier(target: Path, recipe: dict[str, Any]) -> CurateResult | None:
    """The finished output of the same settings, where it is there; None where there is nothing.

    Raises:
        ConfigError: where something else is there.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        if target.exists() and is_mount(target):
            raise ConfigError(f"output: {target} is a mount point; name a folder in it: {target / 'curated'}.")
        return None
    try:
        then = json.loads((target / MARKER).read_text())["recipe"]
        report = json.loads((target / REPORT).read_text())
        then["round"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"output: {target} exists and is no finished curation; choose another output.") from error
    flat = [{**one, **one["round"], "round": None} for one in (then, recipe)]
    changed = [name for name in {**flat[0], **flat[1]} if flat[0].get(name) != flat[1].get(name)]
    if changed:
        raise ConfigError(
            f"output: {target} is a curation of other settings or data (other: {', '.join(changed)}); choose another output, or"
            " remove that folder."
        )
    log.info("%s is complete and used again.", target)
    remove_journals(target)  # of a run that was killed behind its end
    return CurateResult(target, report["accounts"], report, reused=True)


def _build(
    config: CurateConfig, spec: RoundSpec, files: list[Path], pool: PairPool, target: Path, recipe: dict[str, Any]
) -> CurateResult:
    staging = target.parent / f".{target.name}.curating"
    kept = Path(f"{target}.{SCORES}")  # a model's scores, until all is done
    journal: ScoreJournal | None = None
    before, keys = pool.opening_ledger(), pool.keys[pool.pair_sample]
    by_source(spec.rules, spec.sources, distinct(before.source))  # told before anything is scored
    _check_bad(pool, pool.problems, config.max_bad)
    scored = False
    try:
        shutil.rmtree(staging, ignore_errors=True)  # of a run that was killed
        staging.mkdir()
        if config.model is None:
            scores = given_scores(files, keys, before.pair)
        else:
            scored_by = {name: value for name, value in recipe.items() if name not in ("round", "form")}
            scored_by |= {name: getattr(config, name) for name in ("batch_size", "attention")}
            journal = ScoreJournal(target, scored_by | {"device": pick_device(config.device).type})
            scores = _scored(config, pool, journal)
            write_scores(kept, keys, before.pair, scores.chosen[0], scores.rejected[0], scores.reasons)
            scored = True
        outcome, written = _decide(config, spec, pool, before, scores, staging, recipe)
        before.write(staging / LEDGERS)
        outcome.ledger.write(staging / LEDGERS)
        report = build_report(config, spec, pool, outcome, written, len(scores.chosen))
        write_json(staging / REPORT, report)
        place = {
            "path": _absolute(config.shards or config.input),
            "form": pool.form,
            "media_dir": _absolute(config.media_dir),
        }
        write_json(staging / MARKER, {"recipe": recipe, "input": place})
        if scored:
            kept.replace(staging / SCORES)
        os.rename(staging, target)
        remove_journals(target)
    except MrmError as error:
        if not scored:
            raise
        told = f"{error} The model's scores are in {kept}: give scores={kept} in the place of model= to decide by them."
        raise type(error)(told) from error
    except OSError as error:
        raise ConfigError(f"output: {target} cannot be written: {error}.") from error
    finally:
        if journal is not None:
            journal.close()
        shutil.rmtree(staging, ignore_errors=True)
    return CurateResult(target, report["accounts"], report)


def _absolute(given: str | None) -> str | None:
    return given if given is None or is_remote(given) else str(Path(given).absolute())


def _scored(config: CurateConfig, pool: PairPool, journal: ScoreJournal) -> PairScores:
    model, encoder, device = load_scoring_model(config)
    return model_scores(
        pool,
        model,
        encoder,
        device=device,
        batch_size=config.batch_size,
        row_tokens=config.row_tokens,
        workers=config.workers,
        max_bad=config.max_bad,
        progress=config.progress,
        journal=journal,
    )


def _decide(
    config: CurateConfig,
    spec: RoundSpec,
    pool: PairPool,
    before: Ledger,
    scores: PairScores,
    staging: Path,
    recipe: dict[str, Any],
) -> tuple[RoundOutcome, Written | None]:
    """The round, and what was written of it.

    What turns out unreadable while it is written leaves the pool by name, and the round is decided anew without it, so that the
    ledger never has in use what the output lacks.
    """
    unreadable = dict(pool.problems)
    policy = hashlib.sha256(json.dumps(recipe["round"], sort_keys=True).encode()).hexdigest()[:16]
    form = config.form or pool.form
    pairs = len(before)
    truth = _truth(pool)
    while True:
        outcome = decide_round(
            before,
            begin_round(before, 1, policy, unreadable),
            spec,
            opened=np.ones(pairs, bool),
            scores=lambda needed: scores,
            ask=_nobody,
            truth=truth,
        )
        _check_bad(pool, unreadable_of(outcome.ledger), config.max_bad)
        check_active_share(outcome.ledger, np.ones(pairs, bool), config.min_active_share)
        if told := warning_of(outcome.record, spec):
            log.warning("%s", told)
        if form == LEDGER_FORM:
            return outcome, None
        if not outcome.ledger.active.any():
            raise CurationError(
                f"the round leaves no pair in use ({accounts_of(outcome.ledger)}), so that there is nothing to write as {form}; look at"
                " the scores, or give form=ledger."
            )
        for name in (SHARDS_FOLDER, IMAGES):
            shutil.rmtree(staging / name, ignore_errors=True)
        target = staging / (SHARDS_FOLDER if form == SHARDS else PAIRS_FILE)
        written = write_pool(pool, outcome.ledger, form, target)
        if not written.unreadable:
            return outcome, written
        unreadable |= written.unreadable


def _truth(pool: PairPool) -> np.ndarray:
    """int8[P] for the report: 1 where the published label is known to be wrong, 0 where right, -1 unknown.

    Shards may say so; of the others the first sample tells at once that nobody knows.
    """
    if isinstance(pool, PairFile) or _truth_of(pool.index, 0) is None:
        return np.full(pool.n_pairs, UNKNOWN, np.int8)
    index = pool.index
    return pair_truth(index, np.ones(pool.n_pairs, bool), lambda rows: [_truth_of(index, row) for row in rows])


def _truth_of(index: Index, row: int) -> Any:
    try:
        return (read_record(index, int(row)).get("meta") or {}).get("truth")
    except ShardError:  # told by the scoring, or by the writing
        return None


def _nobody(rows: np.ndarray) -> Votes:
    raise AssertionError("no rule of this command asks annotators")


def _check_bad(pool: PairPool, reasons: Mapping[str, str], max_bad: float) -> None:
    if len(reasons) > max_bad * len(pool):
        first = "; ".join(f"{key}: {why}" for key, why in list(reasons.items())[:3])
        raise UnreadableSamplesError(
            f"{len(reasons)} of {len(pool)} samples of {pool.name!r} cannot be used, more than max_bad={max_bad:g}: {first}. Mend or"
            " leave out these samples, or raise max_bad to go on without them."
        )


def run(config: CurateConfig) -> None:
    """Curates a pool and says what became of it."""
    result = curate(config)
    print_outcome(result.path, result.report, result.reused)


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    settings_command(CurateConfig, run, __doc__, words)


if __name__ == "__main__":
    main()
