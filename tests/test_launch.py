import os

import pytest

from mrm.launch import join_cluster

SLURM = {
    "SLURM_NTASKS": "16",
    "SLURM_NTASKS_PER_NODE": "8",
    "SLURM_PROCID": "11",
    "SLURM_LOCALID": "3",
    "SLURM_NODEID": "1",
    "SLURM_NODELIST": "node[04-05]",
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NAME": "mrm",
}
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def environment(monkeypatch):
    for name in (*TORCHRUN, *SLURM):
        monkeypatch.setenv(name, "")  # noted, so that it is put back
        monkeypatch.delenv(name)
    return monkeypatch


def test_join_cluster_under_srun_takes_rank_and_place(environment):
    for name, value in SLURM.items():
        environment.setenv(name, value)
    join_cluster()
    assert [os.environ[name] for name in TORCHRUN[:4]] == ["11", "16", "3", "node04"]
    assert 1024 < int(os.environ["MASTER_PORT"]) < 65536


def test_join_cluster_leaves_torchrun_and_single_processes_alone(environment):
    join_cluster()
    assert not any(name in os.environ for name in TORCHRUN)
    for name, value in SLURM.items():
        environment.setenv(name, value)
    environment.setenv("RANK", "2")
    join_cluster()
    assert os.environ["RANK"] == "2"
    assert "WORLD_SIZE" not in os.environ
