"""`python -m mrm.evaluate model=DIR benchmark=vl_rewardbench data=PATH`: a published benchmark's figures for a saved model.

benchmark: vl_rewardbench, multimodal_rewardbench, mm_rlhf_rewardbench, mmrb2 (tasks=t2i,edit) or omni_rewardbench. data: the published file, a
folder with it, or a copy of its texts. The pairs are scored with packed rows at the model's scoring resolution (max_pixels=), and a
table has every category, overall, macro or Acc+, each with a 95 % bootstrap interval, N, ties and what the longer response alone would
reach. A tie is wrong.

Without a model: scores=FILE instead of model=, a line a pair in the benchmark's order, {"chosen": 1.5, "rejected": -0.25}. No image is
opened then.

json=FILE writes all figures; accuracies are in [0, 1]. output=FILE writes a line a judgement: {"row", "id", "category", "key", "pair", "chosen",
"rejected", "correct"}, which scores= takes again; until it is whole it is FILE.partial.

All of it: docs/benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datamodules.benchmarks import Benchmark, open_benchmark
from mrm.cli import open_console, settings_command
from mrm.errors import ConfigError
from mrm.evaluate_config import OPTIONS, EvaluateConfig, check_evaluate
from mrm.evaluate_lines import lines_to
from mrm.evaluate_model import model_scores
from mrm.evaluate_output import Evaluation, print_evaluation
from mrm.evaluate_scores import Scores, check_missing, given_scores
from mrm.evaluation.figures import compute_figures
from mrm.run_dirs import write_json
from mrm.scoring_model import load_scoring_model


def evaluate(config: EvaluateConfig) -> Evaluation:
    """The figures of a benchmark, for a model or given scores; writes what `json` and `output` name.

    Raises:
        ConfigError: for settings, data, scores or a model that cannot be used.
        UnreadableSamplesError: for more pairs without scores than `max_bad` allows.
    """
    name = check_evaluate(config)
    options = {key: getattr(config, key) for key in OPTIONS if getattr(config, key) is not None}
    benchmark = open_benchmark(name, config.data, media_dir=config.media_dir, options=options)
    scores, max_pixels = _scores(config, benchmark)
    judged = scores.judged(len(benchmark.pairs))
    figures = compute_figures(benchmark.definition, benchmark.pairs, judged, draws=config.draws, seed=config.seed)
    evaluation = Evaluation(benchmark, scores, figures, max_pixels, config.draws, config.seed)
    if config.json is not None:
        _write(config.json, evaluation)
    return evaluation


def _scores(config: EvaluateConfig, benchmark: Benchmark) -> tuple[Scores, int | None]:
    """The scores, and the resolution that they were computed at, where it is known."""
    if config.scores is not None:
        with lines_to(benchmark, config.output) as lines:
            scores = given_scores(benchmark, Path(config.scores), lines)
            check_missing(scores, len(benchmark.pairs), config.max_bad, config.output)
        return scores, config.max_pixels
    model, encoder, device = load_scoring_model(config)
    with lines_to(benchmark, config.output) as lines:
        scores = model_scores(
            benchmark,
            model,
            encoder,
            lines,
            device=device,
            batch_size=config.batch_size,
            row_tokens=config.row_tokens,
            max_bad=config.max_bad,
            output=config.output,
            progress=config.progress,
        )
        check_missing(scores, len(benchmark.pairs), config.max_bad, config.output)
    return scores, encoder.max_pixels


def _write(path: str, evaluation: Evaluation) -> None:
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_json(Path(path), evaluation.to_json())
    except OSError as error:
        raise ConfigError(f"json={path!r}: cannot be written: {error}.") from error


def run(config: EvaluateConfig) -> None:
    """Evaluates and prints."""
    console = open_console()
    print_evaluation(evaluate(config), console)
    for name, path in (("figures", config.json), ("judgements", config.output)):
        if path is not None:
            console.print(f"All {name}: {path}.", markup=False, highlight=False, soft_wrap=True)


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    settings_command(EvaluateConfig, run, __doc__, words)


if __name__ == "__main__":
    main()
