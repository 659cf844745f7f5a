"""Runs of `tests.soak.held_run` in processes of their own: starting, killing, letting them end, comparing what they leave."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
import signal
import socket
import time
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import yaml

from datamodules.ledger import Ledger, ledger_rounds, round_path
from mrm.run_dirs import RESULTS_FILE
from tests.soak.places import GO, HELD, PASSED, PRINTED, Place

CAPS = {"max_flipped": 1}  # a model of a few steps, and judges that hash, turn more than is wise
ROUNDS = (
    {"after_epoch": 0, "steps": ["score", "correct", "filter"], **CAPS},
    {"after_epoch": 1, "steps": ["score", "filter", "annotate"], "dead_zone": 0.1, **CAPS},
)
VARIANTS = {  # words of the command line
    "sync": (),
    "async": ("curation.annotation.mode=async",),  # judges are asked beside the training
    "recorded": ("curation.passes=[{kind:recorded},{kind:trajectory}]",),  # scores that training computed
    "cold": ("curation.restart=cold",),
}
JUDGES = ("judge_north", "judge_south")
WEIGHTS = ("model.safetensors", "reward_head.safetensors")
LONGEST_S = 900.0  # that a run may take, however many others share the machine
_LOOK_S = 0.01


@dataclass(frozen=True)
class Sizes:
    """How small a run is.

    Args:
        trusted, opened: samples.
        batch: samples a step and process.
        checkpoint_every: steps.
    """

    trusted: int = 12
    opened: int = 32
    batch: int = 4
    checkpoint_every: int = 4


@dataclass
class Started:
    """A run that is under way in one process a rank, or has ended.

    Args:
        processes: by rank.
        folders: of what each printed and passed.
        root: its `output_root`.

    Attributes:
        seconds: from start to end; known when it has ended.
    """

    processes: list[BaseProcess]
    folders: list[Path]
    root: Path
    began: float = field(default_factory=time.monotonic)
    seconds: float = math.nan

    @property
    def printed(self) -> str:
        """What all ranks printed."""
        return "\n".join(path.read_text() for folder in self.folders if (path := folder / PRINTED).exists())

    @property
    def run_dir(self) -> Path:
        """The run's folder."""
        return (self.root / "latest").resolve()

    def wait_held(self, rank: int = 0) -> bool:
        """Waits until a rank is held at its place; False if it ended before it got there."""
        held, process = self.folders[rank] / HELD, self.processes[rank]
        while not held.exists():
            if not process.is_alive():
                return held.exists()
            self._check_time()
            time.sleep(_LOOK_S)
        return True

    def wait_for(self, seconds: float) -> bool:
        """Waits; False if the run ended meanwhile."""
        self.processes[0].join(seconds)
        return self.processes[0].is_alive()

    def go_on(self, rank: int = 0, told: str = "") -> None:
        """Lets a held rank go on; `told` as in `Passings.hold`."""
        hidden = self.folders[rank] / f".{GO}"
        hidden.write_text(told)
        hidden.replace(self.folders[rank] / GO)

    def kill(self, rank: int = 0) -> None:
        """SIGKILL, and waits for the end of that process."""
        process = self.processes[rank]
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()

    def end(self) -> list[int | None]:
        """Waits until all ranks have ended; their exit codes, negative for a signal's number."""
        for process in self.processes:
            while process.is_alive():
                self._check_time()
                process.join(0.2)
        self.seconds = time.monotonic() - self.began
        return [process.exitcode for process in self.processes]

    def finish(self) -> None:
        """Waits for the end, which must be a good one."""
        codes = self.end()
        assert not any(codes), f"the run ended with {codes}:\n{self.printed[-6000:]}"

    def passed(self) -> dict[str, int]:
        """Place -> how often it was passed."""
        return json.loads((self.folders[0] / PASSED).read_text())["places"]

    def cpu_seconds(self) -> float:
        """Of all ranks that ended by themselves."""
        told = [path for folder in self.folders if (path := folder / PASSED).exists()]
        return sum(json.loads(path.read_text())["seconds"] for path in told)

    def _check_time(self) -> None:
        if time.monotonic() - self.began < LONGEST_S:
            return
        for process in self.processes:
            process.kill()
        raise AssertionError(
            f"the run has not ended after {LONGEST_S:.0f} s; killed. It printed:\n{self.printed[-6000:]}"
        )


class Runs:
    """Starts runs of one configuration over the same prepared data. Use as a context manager: it ends what is left.

    Args:
        folder: for all that the runs write.
        server: address of the judges.
        sizes: of the data.
        fresh: whether each run gets an interpreter of its own; else it is a fork of one that has imported everything, which
            saves the imports.
    """

    def __init__(self, folder: Path, server: str, sizes: Sizes, *, fresh: bool = False) -> None:
        self.folder, self._sizes = folder, sizes
        self._context: Any = multiprocessing.get_context("spawn" if fresh else "forkserver")
        if not fresh:
            self._context.set_forkserver_preload(["tests.soak.held_run"])
        self._started: list[Started] = []
        self._references: dict[tuple[str, int], Started] = {}
        for group, content in (("data", _data(sizes)), ("curation", _curation(server))):
            (folder / "settings" / group).mkdir(parents=True)
            (folder / "settings" / group / "soak.yaml").write_text(yaml.safe_dump(content))

    def __enter__(self) -> Runs:
        first = self._context.Process(target=_nothing)  # the imports are not to count as any run's
        first.start()
        first.join()
        return self

    def __exit__(self, *_: object) -> None:
        for started in self._started:
            for process in started.processes:
                if process.is_alive():
                    process.kill()

    def words(self, root: Path, *more: str) -> list[str]:
        """The command line of a run; `resume=auto` is in all of them, since a first run finds nothing to go on with."""
        sizes = self._sizes
        return [
            "--config-dir", str(self.folder / "settings"), "data=soak", "curation=soak", "logger=none",
            f"output_root={root}", f"prepared_root={self.folder / 'prepared'}", "resume=auto", "report.enabled=false",
            "trainer.accelerator=cpu", "trainer.progress=false",
            f"trainer.checkpoint_every_n_steps={sizes.checkpoint_every}", *more,
        ]  # fmt: skip

    def start(self, root: Path, *more: str, place: Place | None = None, ranks: int = 1, held_rank: int = 0) -> Started:
        """Starts a run, or goes on with the one in `root` that has not ended.

        Args:
            root: its `output_root`.
            more: words of the command line.
            place: where to hold; None for an undisturbed run.
            ranks: processes, which meet as those of torchrun do.
            held_rank: the one that is held.
        """
        began = time.time_ns()
        words, processes, folders = self.words(root, *more), [], []
        if ranks > 1:
            words += [
                "trainer.strategy=ddp",
                f"trainer.devices={ranks}",
                f"data.batch_size={self._sizes.batch // ranks}",
            ]
        meeting = _meeting(ranks)
        for rank in range(ranks):
            told = self.folder / "printed" / f"{root.name}-{began}-{rank}"
            told.mkdir(parents=True)
            environment = {"COLUMNS": "240"}  # messages stay in one line
            environment |= {**meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {}
            arguments = (words, str(told), place if rank == held_rank else None, environment)
            process = self._context.Process(target=_enter, args=arguments)
            process.start()
            processes.append(process)
            folders.append(told)
        started = Started(processes, folders, root)
        self._started.append(started)
        return started

    def run(self, root: Path, *more: str, ranks: int = 1) -> Started:
        """An undisturbed run from where it stands to its end."""
        started = self.start(root, *more, ranks=ranks)
        started.finish()
        return started

    def reference(self, variant: str = "sync", ranks: int = 1) -> Started:
        """The run of a variant that nobody disturbed, on so many processes; made once."""
        if (variant, ranks) not in self._references:
            root = self.folder / f"whole-{variant}-{ranks}"
            self._references[variant, ranks] = self.run(root, *VARIANTS[variant], ranks=ranks)
        return self._references[variant, ranks]

    def told(self) -> str:
        """What was started."""
        processes = sum(len(one.processes) for one in self._started)
        seconds = sum(one.cpu_seconds() for one in self._started)
        return f"{len(self._started)} starts of {processes} processes; those that were not killed took {seconds:.0f} s of CPU"


def _nothing() -> None:
    pass


def _enter(*arguments: Any) -> None:
    from tests.soak.held_run import work  # there, since it imports all that a run needs

    work(*arguments)


def check_ledgers(run_dir: Path) -> None:
    """After a kill: every file under a ledger's own name is a whole ledger."""
    for number in ledger_rounds(run_dir / "ledger"):
        Ledger.read(round_path(run_dir / "ledger", number)).check_balanced()


def compare(reference: Path, run_dir: Path) -> None:
    """Ledgers and weights are equal, byte by byte, the results too but for starts, time and memory, and nothing half is left.

    Raises:
        AssertionError: naming what differs.
    """
    compare_ledgers(reference, run_dir)
    for name in WEIGHTS:
        one, other = (folder / "model" / name for folder in (reference, run_dir))
        assert one.read_bytes() == other.read_bytes(), f"{other} has other weights than {one}"
    taken = dict.fromkeys(("starts", "seconds", "peak_memory_mib", "peak_gpu_memory_mib"), 0)
    one, other = (json.loads((folder / RESULTS_FILE).read_text()) | taken for folder in (reference, run_dir))
    assert one == other, f"{run_dir / RESULTS_FILE} differs:\n{one}\n{other}"
    left = [str(path) for path in run_dir.rglob(".*") if path.is_file()]
    assert not left, f"left over: {left}"


def compare_ledgers(reference: Path, run_dir: Path) -> None:
    """The ledgers of all rounds are equal, byte by byte."""
    rounds = ledger_rounds(reference / "ledger")
    assert rounds and rounds == ledger_rounds(run_dir / "ledger"), (rounds, ledger_rounds(run_dir / "ledger"))
    for number in rounds:
        one, other = (round_path(folder / "ledger", number) for folder in (reference, run_dir))
        assert one.read_bytes() == other.read_bytes(), f"{other} is not {one}"


def remove(*started: Started) -> None:
    """Removes what runs wrote, which is not needed any more."""
    for one in started:
        shutil.rmtree(one.root, ignore_errors=True)


def _data(sizes: Sizes) -> dict[str, Any]:
    def made(role: str, split: str, count: int, **more: float) -> dict[str, Any]:
        return {"source": "shapeworld", "role": role, "options": {"split": split, "count": count, "seed": 13, **more}}

    datasets = {
        "trusted": made("trusted", "trusted", sizes.trusted),
        "open": made("open", "open", sizes.opened, flip_rate=0.4, style_rate=0.85),
        "test": made("test", "test_t2i", 4),
    }
    return {"datasets": datasets, "batch_size": sizes.batch, "score_batch_size": sizes.batch, "row_tokens": 2048}


def _curation(server: str) -> dict[str, Any]:
    """Two judges over HTTP, told apart by their temperature."""
    judge = {"kind": "openai", "model": "judge", "base_url": server, "key_env": None, "timeout_s": 30, "concurrency": 4}
    return {
        "enabled": True,
        "open_pool": "held",
        "min_active_share": 0,  # a judge that has seen a dozen pairs may well empty the pool
        "schedule": [dict(spec) for spec in ROUNDS],
        "annotators": {name: {**judge, "temperature": number / 10} for number, name in enumerate(JUDGES)},
        "annotation": {"tries": 2, "backoff_s": 0.05},
    }


def _meeting(ranks: int) -> dict[str, str]:
    """Where processes meet, as torchrun tells them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {
        "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
