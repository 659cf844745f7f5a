"""Members whose run is a small script: it makes a run's folder as `mrm.run` does, and then does what the test says."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path

from rich.console import Console

from mrm.config import LoggerConfig, RunConfig, SweepConfig, TrainerConfig
from mrm.sweeps.members import Member
from mrm.sweeps.running import Sweep

# Arguments: behaviours by seed, fingerprints by seed, output_root, then the words of the run.
SCRIPT = """
import json, os, pathlib, signal, sys, time
behaviours, fingerprints, root = json.loads(sys.argv[1]), json.loads(sys.argv[2]), pathlib.Path(sys.argv[3])
words = dict(word.split("=", 1) for word in sys.argv[4:])
seed = words["seed"]
behaviour = behaviours.get(seed, "finish")
resumed = words.get("resume", "").strip("'")
folder = pathlib.Path(resumed) if resumed else root / f"run-{seed}-{time.time_ns()}"
folder.mkdir(parents=True, exist_ok=True)
state = {"fingerprint": fingerprints[seed], "sweep": os.environ["MRM_SWEEP"]}
note = {"words": words, "environment": {k: v for k, v in os.environ.items() if k.startswith(("MRM_", "OMP_", "CUDA_"))}}
note["began"] = time.time()
if behaviour == "early":  # before it opens its folder
    sys.exit("no such module")
(folder / "config.yaml").write_text("{}")
(folder / "run.json").write_text(json.dumps(state))
with (folder / "starts.jsonl").open("a") as file:
    file.write(json.dumps(note) + chr(10))
print("seed", seed, behaviour, flush=True)
if behaviour == "fail":
    sys.exit("the loss is not finite")
if behaviour == "room":  # as a run that stops for want of room
    print("no space left", flush=True)
    sys.exit(75)
if behaviour == "remembers":  # the same behind torchrun
    (folder / "run.json").write_text(json.dumps({**state, "stopped": "no server"}))
    sys.exit(1)
if behaviour == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if behaviour == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if behaviour == "soft":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if behaviour == "asked":
    sys.exit(128 + signal.SIGTERM)
if behaviour in ("wait", "deaf", "soft"):
    (folder / "waits").touch()
    time.sleep(60)
if behaviour == "meet":  # ends only if another member runs at the same time
    while len(list(root.glob("run-*/meets"))) < 2:
        (folder / "meets").touch()
        time.sleep(0.05)
(folder / "results.json").write_text(json.dumps({"tests": {"t": 0.5}, "seconds": 1.0, "open_pairs": 3, "active_pairs": 2}))
if behaviour != "unfinished":
    (folder / "run.json").write_text(json.dumps({**state, "finished": True}))
"""


def config(root: Path, seed: int, **trainer: object) -> RunConfig:
    return RunConfig(
        output_root=str(root),
        seed=seed,
        logger=LoggerConfig(enabled=False),
        trainer=TrainerConfig(accelerator="cpu", **trainer),  # type: ignore[arg-type]
    )


def fake_sweep(
    root: Path,
    seeds: Sequence[int],
    behaviours: Mapping[int, str] | None = None,
    *,
    settings: SweepConfig | None = None,
    change: Callable[[Member], None] = lambda member: None,
    grace_s: float = 20,
    cores: int = 2,
) -> Sweep:
    """A sweep `s` over seeds; behaviours by seed: finish (the default), fail, kill, wait, deaf,
    early (fails before it has a folder), room and remembers (stop, to go on), soft (ends with status 0 when asked), asked (as if asked from outside), meet, unfinished."""
    members = [Member(n, ["experiment=e", f"seed={seed}"], config(root, seed)) for n, seed in enumerate(seeds, start=1)]
    for member in members:
        change(member)
    told = json.dumps({str(seed): what for seed, what in (behaviours or {}).items()})
    fingerprints = json.dumps({str(member.config.seed): member.fingerprint for member in members if member.config})

    def command(words: Sequence[str], processes: int) -> list[str]:
        return [sys.executable, "-S", "-c", SCRIPT, told, fingerprints, str(root), *words]

    return Sweep(
        root / "sweeps" / "s",
        members,
        settings or SweepConfig(),
        command=command,
        typed=["-m", "experiment=e", f"seed={','.join(map(str, seeds))}"],
        cores=cores,
        gpus=[],
        console=Console(file=StringIO(), width=200),
        grace_s=grace_s,
    )


def record(root: Path) -> dict:
    return json.loads((root / "sweeps" / "s" / "sweep.json").read_text())


def states(root: Path) -> dict[str, str]:
    """Seed word -> state, as `sweep.json` has it."""
    return {entry["overrides"][1]: entry["state"] for entry in record(root)["members"]}


def starts(root: Path, seed: int) -> list[list[dict]]:
    """Of each run's folder of that seed, in order of time, what it noted at each start."""
    return [
        [json.loads(line) for line in (folder / "starts.jsonl").read_text().splitlines()]
        for folder in sorted(root.glob(f"run-{seed}-*"))
    ]
