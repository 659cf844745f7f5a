"""`python -m mrm.diagnose model=DIR pairs=SHARDS [output=PAGE.html]`: what a reward model goes by.

Over any preferences: accuracy where style agrees with the preference, opposes it, or says nothing; length-controlled
accuracy; correlation of reward with length and markup; accuracy without the images and with another sample's; position
bias, of text-to-image pairs, by scoring both orders; calibration (ECE); accuracy by strength and by source. With 95 %
intervals, in tables, one HTML page (output=PAGE.html), as JSON (json=FILE), and a line a pair (lines=FILE).

The pairs: folders or URLs of shards, or files in LLaMA-Factory's form; several are written pairs=[A,B]. Instead of a
model, scores=FILE may bring what is known already: JSON Lines, a line a pair in order, {"chosen": 1.5, "rejected":
-0.25}; no image is opened then, and what needs changed images is not measured, and said so.

All of it: docs/diagnostics.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.pair_pools import SHARDS, PairPool, form_of, open_pool
from datamodules.remote import make_cache
from mrm.cli import open_console, settings_command
from mrm.diagnose_config import DiagnoseConfig, check_diagnose
from mrm.diagnose_model import CHANGED, ModelScorer, scored_by_model
from mrm.diagnose_page import print_diagnostics, write_diagnostics
from mrm.diagnose_scores import Bad, Rows, check_bad, scored_by_file, write_lines
from mrm.errors import ConfigError
from mrm.evaluation.diagnostics import Diagnostics, diagnose
from mrm.run_dirs import write_json
from mrm.scoring_model import load_scoring_model


@dataclass(frozen=True)
class DiagnoseResult:
    """The figures, the pairs that they are of, and what could not be used.

    Args:
        found: the figures. rows: the pairs.
        bad: samples that could not be scored as they are. lost: variant -> those that could not be scored so.
        facts: for the page and the JSON.
    """

    found: Diagnostics
    rows: Rows
    bad: Bad
    lost: dict[str, Bad]
    facts: dict[str, Any]


def diagnose_pairs(config: DiagnoseConfig) -> DiagnoseResult:
    """Scores the pairs, draws the figures, and writes what the configuration names.

    Raises:
        ConfigError: for settings, pairs, scores or a model that cannot be used, or a file that cannot be written.
        UnreadableSamplesError: for more unreadable samples than `max_bad` allows.
    """
    names = check_diagnose(config)
    cache = make_cache(config.cache_dir, config.cache_gb)
    media = {name: config.media_dir if form_of(name) != SHARDS else None for name in names}
    if config.media_dir is not None and not any(media.values()):
        raise ConfigError(
            f"media_dir={config.media_dir!r}: has no effect with shards, which hold their images; leave it out."
        )
    pools = [open_pool(name, cache=cache, media_dir=media[name]) for name in names]
    bad, lost, total = Bad(), {name: Bad() for name in CHANGED}, sum(map(len, pools))
    rows, resolution = _scored(config, pools, bad, lost)
    check_bad(bad, total, config.max_bad, rows)
    missing = []
    if config.scores is not None:
        missing.append(
            "what the images do, and position bias: given scores are of the images as they are; give model=."
        )
    elif not config.images:
        missing.append("what the images do, and position bias: images=false.")
    missing += [
        f"{own.samples} samples with {CHANGED[name]}: {own.told()}." for name, own in lost.items() if own.samples
    ]
    found = diagnose(rows.table(), seed=config.seed, not_measured=missing)
    facts = {
        "pairs of": names,
        "samples": total,
        "samples not used": bad.samples,
        "pairs": found.pairs,
        "scored by": config.model or config.scores,
        "pixels an image at most": resolution,
    }
    result = DiagnoseResult(found, rows, bad, lost, facts)
    _write(config, pools, result)
    return result


def _scored(
    config: DiagnoseConfig, pools: Sequence[PairPool], bad: Bad, lost: dict[str, Bad]
) -> tuple[Rows, int | None]:
    """The scored pairs, and the resolution they were scored at, in pixels, where that is known."""
    if config.scores is not None:
        return scored_by_file(pools, Path(config.scores), bad, progress=config.progress), None
    model, encoder, device = load_scoring_model(config)
    scorer = ModelScorer(model, encoder, device, config.batch_size, config.row_tokens, config.images, config.seed)
    return scored_by_model(pools, scorer, bad, lost, progress=config.progress), encoder.max_pixels


def _write(config: DiagnoseConfig, pools: Sequence[PairPool], result: DiagnoseResult) -> None:
    try:
        if config.output is not None:
            write_diagnostics(Path(config.output), "What the reward model goes by", result.facts, result.found)
        if config.json is not None:
            path = Path(config.json)
            path.parent.mkdir(parents=True, exist_ok=True)
            lost = {name: dict(own.reasons) for name, own in result.lost.items()}
            told = {"about": result.facts, "unreadable": dict(result.bad.reasons), "not_scored": lost}
            write_json(path, told | result.found.to_json())
        if config.lines is not None:
            path = Path(config.lines)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_lines(path, pools, result.rows, result.bad)
    except OSError as error:
        raise ConfigError(f"what was found cannot be written: {error}.") from error


def run(config: DiagnoseConfig) -> None:
    """Draws the figures and shows them."""
    result = diagnose_pairs(config)
    console = open_console()
    print_diagnostics(result.found, console)
    if result.bad.samples:
        told = f"{result.bad.samples} samples could not be used: {result.bad.told()}."
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    for name in ("output", "json", "lines"):
        if (path := getattr(config, name)) is not None:
            console.print(f"{name:8} {path}", markup=False, highlight=False, soft_wrap=True)


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    settings_command(DiagnoseConfig, run, __doc__, words)


if __name__ == "__main__":
    main()
