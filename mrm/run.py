"""`python -m mrm.run experiment=NAME [scale=NAME] [key=value ...]`: trains, curates and evaluates a reward model.

`run` is the same as a function. This module composes; each part's method stands in its own room.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig
from rich.console import Console

from callbacks.annotating import Annotators
from callbacks.checkpoints import newest_checkpoint
from callbacks.curation_report import build_report
from callbacks.iterative_curation import IterativeCuration
from callbacks.periodic_evaluation import PeriodicEvaluation
from callbacks.pool_scoring import gather
from datamodules.dataset_spec import DatasetSpec
from datamodules.index import Index
from datamodules.ledger import Ledger, ledger_rounds, round_path
from datamodules.preference_datamodule import PreferenceDataModule
from datamodules.reading import read_sample
from datamodules.remote import ShardCache
from mrm.cli import hydra_command
from mrm.code_state import git_commit
from mrm.config import RunConfig, to_run_config
from mrm.datasets import prepare_datasets
from mrm.errors import ConfigError, RecordError, ResumableError, ShardError
from mrm.history import read_history
from mrm.launch import from_main, is_main, join_cluster
from mrm.mlflow_logger import PatientMLFlowLogger
from mrm.mlflow_run import finish_mlflow, log_data, read_end
from mrm.model.reward_module import RewardModule
from mrm.model.saving import save_reward_model
from mrm.parts import (
    build_curation,
    build_datamodule,
    build_encoder,
    build_evaluation,
    build_loggers,
    build_module,
    build_trainer,
    check,
)
from mrm.run_dirs import (
    EVALUATIONS_FILE,
    REPORT_FILE,
    RESULTS_FILE,
    ROUNDS_FILE,
    STOPPED,
    close_run_dir,
    open_run_dir,
    read_state,
    write_json,
    write_state,
)
from mrm.run_record import write_data, write_start
from mrm.summary import RunResult, print_summary
from mrm.sweep import SweepDriver
from mrm.sweeps.members import is_of
from mrm.sweeps.membership import Membership, membership
from mrm.tracking import sync_command, ui_command

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

log = logging.getLogger(__name__)


def run(cfg: RunConfig | DictConfig, *, sweep: Membership | None = None) -> RunResult:
    """Does everything that a configuration asks for.

    Args:
        cfg: the composed configuration, see `mrm.config`.
        sweep: the sweep that it is a member of.

    Raises:
        MrmError: for anything in configuration or data that a person can mend.
    """
    started = time.monotonic()
    join_cluster()
    config = to_run_config(cfg)
    check(config)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    folder, resumed = from_main(lambda: open_run_dir(config, sweep=sweep.sweep if sweep else None))
    try:
        return _resumable(lambda: _run(config, folder, resumed, sweep, started), folder)
    finally:
        close_run_dir(folder)


def _resumable(work: Callable[[], RunResult], folder: Path) -> RunResult:
    """Does the work; where it stops half-way without a fault of its own, the run remembers why, for the sweep that it is a member of.

    Raises:
        ResumableError: then.
    """
    try:
        try:
            return work()
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise ResumableError(
                f"{folder}: a file cannot be written: {error}; make room, and go on with resume=auto."
            ) from error
    except ResumableError as error:
        with suppress(OSError):  # of a full disk: then the exit status alone tells it
            write_state(folder, **{STOPPED: str(error)})
        raise


def _run(config: RunConfig, folder: Path, resumed: bool, sweep: Membership | None, started: float) -> RunResult:
    log.info("%s %s", "Going on with" if resumed else "Run", folder)
    starts = from_main(lambda: write_start(folder, config))
    datasets = from_main(lambda: _datasets(config, folder))
    log.info("Data: %d sets, prepared under %s", len(datasets), config.prepared_root)
    curation = build_curation(config, folder)
    encoder = build_encoder(config)
    datamodule = build_datamodule(config, datasets, encoder, folder)
    annotators, probe = curation.annotators, config.curation.annotation.probe
    from_main(lambda: check_judges(annotators, datasets, datamodule.cache, probe=probe))
    module = build_module(config, datamodule)
    loggers = build_loggers(config, folder, sweep)
    from_main(lambda: note_data(config, folder, datamodule, loggers))
    evaluation = build_evaluation(config, folder)
    trainer = build_trainer(config, folder, curation, evaluation, loggers)
    checkpoint = from_main(lambda: newest_checkpoint(folder / "checkpoints")) if resumed else None
    if resumed and checkpoint is None:
        log.warning("%s holds no whole checkpoint: the run begins again from its first step", folder)
    mlflow = mlflow_of(loggers)
    if mlflow is not None:
        mlflow.kept_open = True  # the training's end is not the run's
    trainer.fit(module, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
    with closed_as_failed(mlflow, folder):
        best = config.evaluation.best.use and use_best(evaluation, module)
        scorer = encoder.with_resolution(config.model.max_pixels_score)
        save_reward_model(module.model, folder / "model", scorer, form=config.model.lora.save, write=is_main())
        tests = evaluate(trainer, module, datamodule)
        result = gather_result(folder, tests, curation, datamodule)
        result.evaluations = [one.to_json() for one in evaluation.evaluations]
        result.evaluation = evaluation_told(evaluation, best=best, wanted=config.evaluation.best.use)
        result.unreadable = _unreadable(datamodule, trainer.world_size)
        result.memory = peak_memory(trainer.world_size)
        result.starts = starts
        result.seconds = time.monotonic() - started
        if is_main():
            finish(config, result, datamodule, loggers)
    return result


@contextmanager
def closed_as_failed(mlflow: PatientMLFlowLogger | None, folder: Path) -> Iterator[None]:
    """Closes the run in MLflow as failed where what is done behind its training raises; Lightning does so for the training itself.

    Args:
        mlflow: of the run; None where it is not tracked.
        folder: the run's; one that has finished there stays so, whatever fails behind that.
    """
    try:
        yield
    except BaseException:
        if mlflow is not None and not read_state(folder).get("finished"):
            mlflow.finalize("failed")
        raise


def _datasets(config: RunConfig, folder: Path) -> list[DatasetSpec]:
    """The data sets, noted in the run's folder: who looks at its ledgers later finds the pairs' texts there."""
    datasets = prepare_datasets(config)
    write_state(folder, datasets=[[spec.name, str(spec.path), spec.role] for spec in datasets])
    return datasets


def note_data(config: RunConfig, folder: Path, datamodule: PreferenceDataModule, loggers: list[Any]) -> None:
    """Which data the run is done with, in its folder and in MLflow."""
    accounts = write_data(folder, config, datamodule)
    if (mlflow := mlflow_of(loggers)) is not None:
        log_data(mlflow, accounts, datamodule.index.fingerprint)


def mlflow_of(loggers: list[Any]) -> PatientMLFlowLogger | None:
    """The one that MLflow is given figures by; None where it is switched off, and on all ranks but the first."""
    return next((logger for logger in loggers if isinstance(logger, PatientMLFlowLogger)), None)


def check_judges(
    annotators: Annotators | None, datasets: Iterable[DatasetSpec], cache: ShardCache | None = None, *, probe: bool
) -> None:
    """Looks at the judges now, since their round may be hours away.

    Args:
        annotators: the judges; None where there are none.
        datasets: of the run.
        cache: of shards from elsewhere.
        probe: whether to ask each judge about one sample of each open set.

    Raises:
        ConfigError: for a judge that cannot be asked, or cannot judge such data.
        CurationError: for one that gives no answer that can be used.
    """
    if annotators is None:
        return
    annotators.check()
    samples = {}
    for spec in datasets if probe else ():
        if spec.role != "open":
            continue
        try:
            samples[spec.name] = read_sample(Index.load(spec.path, cache), 0)
        except (RecordError, ShardError):  # told, and counted, where the data is used
            continue
    if samples:
        annotators.probe(samples)


def evaluate(trainer: pl.Trainer, module: RewardModule, datamodule: PreferenceDataModule) -> dict[str, float]:
    """Test set -> accuracy in [0, 1]."""
    if not datamodule.test_names:
        return {}
    measured: dict[str, float] = {}
    for metrics in trainer.test(module, datamodule=datamodule, verbose=False):
        measured.update(metrics)
    return {name: float(measured[f"test/{name}/accuracy"]) for name in datamodule.test_names}


def use_best(evaluation: PeriodicEvaluation, module: RewardModule) -> bool:
    """Puts the best weights in the place of the last ones, to be saved and tested; all ranks call.

    Returns:
        Whether there are any: a training that ended before its first evaluation keeps its last ones, and a warning says so.

    Raises:
        MrmError: where they cannot be read.
    """
    assert evaluation.best is not None, "checked with the configuration"
    if not evaluation.evaluations:
        log.warning(
            "evaluation.best.use=true: the training ended before its first evaluation, so there are no best weights: the LAST weights are saved"
            " and tested. Give a smaller evaluation.every_n_steps or every_n_epochs."
        )
        return False
    chosen = evaluation.best.load(module, evaluation.evaluations)
    metric = evaluation.best.metric
    log.info("The best weights are those of step %d, with %s %.4f", chosen.step, metric, chosen.figures[metric])
    return True


def evaluation_told(evaluation: PeriodicEvaluation, *, best: bool, wanted: bool) -> dict[str, Any]:
    """What results.json tells of the evaluations while training; empty where there were none, and none were needed.

    Args:
        evaluation: of the run.
        best: whether the best weights are the model.
        wanted: whether they were to be.
    """
    told = evaluation.summary()
    if not told and wanted:
        told = {"evaluations": 0, "last": None, "best": None, "stopped_early": False}
    return {**told, "model": "best" if best else "last"} if told else {}


def gather_result(
    folder: Path, tests: dict[str, float], curation: IterativeCuration, datamodule: PreferenceDataModule
) -> RunResult:
    ledger, index = datamodule.ledger(), datamodule.index
    is_open = ~np.asarray(datamodule.trusted)[index.pair_sample]
    return RunResult(
        run_dir=folder,
        tests=tests,
        rounds=list(curation.rounds),
        open_pairs=int(is_open.sum()),
        active_pairs=int((is_open & ledger.active).sum()),
    )


def _unreadable(datamodule: PreferenceDataModule, world_size: int) -> list[str]:
    """What any rank could not read, of all data sets, as "KEY: why"."""
    own = {(name, key): item.reason for name, some in datamodule.unreadable.found.items() for key, item in some.items()}
    merged = {name: reason for found in gather(own, world_size) for name, reason in found.items()}
    return [f"{key}: {reason}" for (_, key), reason in sorted(merged.items())]


def peak_memory(world_size: int) -> dict[str, float]:
    """MiB at the peak, of the rank that took most: of the process, without its workers, and of its GPU. Called by all ranks."""
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    own = {"peak_memory_mib": resident / (2**20 if sys.platform == "darwin" else 2**10)}
    if torch.cuda.is_available():
        own["peak_gpu_memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
    every = gather(own, world_size)
    return {name: max(one[name] for one in every) for name in own}


def finish(config: RunConfig, result: RunResult, datamodule: PreferenceDataModule, loggers: list[Any]) -> None:
    """Report, results, tracking, and what a person sees; only then the run counts as finished and is not resumed."""
    folder = result.run_dir
    write_json(folder / RESULTS_FILE, result.to_json())  # first of all: no page is worth them
    write_json(folder / ROUNDS_FILE, result.rounds)
    write_json(folder / EVALUATIONS_FILE, result.evaluations)
    if config.report.enabled:
        result.report = write_report(config, result, datamodule.index)
    mlflow = mlflow_of(loggers)
    if mlflow is not None:
        mlflow.kept_open = False
        finish_mlflow(mlflow, read_end(folder, read_history(folder)), model=config.logger.log_model)
    write_state(folder, finished=True)
    console = Console()
    shown = result if result.evaluations else replace(result, evaluation={})  # that there are none was warned of
    print_summary(shown, console)
    lines = [f"Model    {folder / 'model'}", f"Results  {folder / RESULTS_FILE}"]
    lines += [f"Report   {result.report}"] if result.report else []
    lines += [f"Compare  {ui_command(config)}"] if mlflow is not None else []
    lines += [f"Sync     {sync_command(folder)}: MLflow lacks something"] if mlflow is not None and mlflow.lacks else []
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def write_report(config: RunConfig, result: RunResult, index: Index) -> Path:
    ledger_dir = result.run_dir / "ledger"
    row_of = {key: row for row, key in enumerate(index.keys)}
    return build_report(
        result.run_dir / REPORT_FILE,
        title=f"{config.experiment}, seed {config.seed}",
        facts={
            "experiment": config.experiment,
            "scale": config.scale,
            "seed": config.seed,
            "backbone": config.model.backbone,
            "git commit": git_commit(),
            "data": index.fingerprint,
            "open pairs in use": f"{result.active_pairs} of {result.open_pairs}",
            "seconds": round(result.seconds),
        },
        tests=result.tests,
        rounds=result.rounds,
        metrics=read_history(result.run_dir),
        ledgers=[Ledger.read(round_path(ledger_dir, number)) for number in ledger_rounds(ledger_dir)],
        ledger_dir=ledger_dir,
        read=lambda key: read_sample(index, row_of[key]),
        gallery_size=config.report.gallery,
    )


def _member(config: RunConfig) -> None:
    """A run of its own, a process that a sweep of `mrm.sweep` started, or a job of another of Hydra's launchers."""
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        run(config, sweep=Membership(Path(hydra.sweep.dir).name))
        return
    if unused := [word for word in hydra.overrides.task if is_of(word, "sweep")]:
        raise ConfigError(f"{', '.join(unused)}: has an effect only on a sweep; add -m, or leave it out.")
    run(config, sweep=membership(os.environ))


def main() -> None:
    """The command."""
    driver = SweepDriver()
    try:
        hydra_command(_member, root="config", convert=to_run_config, gather=driver.add)
    except SIGTERMException:  # Lightning's way out of a training; its exit status would tell of success
        sys.exit(128 + signal.SIGTERM)
    if driver.members:
        sys.exit(driver.run())


if __name__ == "__main__":
    main()
