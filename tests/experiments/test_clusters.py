"""The scripts of docs/clusters.md."""

import re
import subprocess
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text()
SCRIPTS = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", PAGE, re.S)

# What a cluster has and this machine has not; each says what it was called with.
PRETENDED = """
metarl() { echo "metarl $*" >> called; return ${STATUS:-0}; }
torchrun() { echo "torchrun $*" >> called; }
srun() { "$@"; }
scontrol() { case $1 in show) printf 'one\\ntwo\\n';; *) echo "scontrol $*" >> called;; esac; }
source() { :; }
SLURM_ARRAY_TASK_ID=3 SLURM_JOB_ID=17 SLURM_NNODES=4 SLURM_JOB_NODELIST=x
"""


def run(script, folder, status=0):
    """Run a script of the page; return its exit status and what it has called."""
    done = subprocess.run(
        ["bash", "-c", PRETENDED.replace("${STATUS:-0}", str(status)) + script],
        cwd=folder,
        check=False,
    )
    return done.returncode, (folder / "called").read_text().splitlines()


def test_the_page_has_three_scripts():
    assert len(SCRIPTS) == 3


@pytest.mark.parametrize("script", SCRIPTS)
def test_bash_reads_them(script):
    subprocess.run(["bash", "-n", "-c", script], check=True)


def test_a_task_of_the_array_trains_resumes_and_comes_back(tmp_path):
    assert run(SCRIPTS[0], tmp_path) == (
        0,
        ["metarl train rl2 half-cheetah-vel --seed 3 --run-dir runs/rl2-half-cheetah-vel-seed3"],
    )
    directory = tmp_path / "runs" / "rl2-half-cheetah-vel-seed3"
    directory.mkdir(parents=True)
    (directory / "config.json").touch()
    (tmp_path / "called").unlink()
    resumed = "metarl resume runs/rl2-half-cheetah-vel-seed3"
    assert run(SCRIPTS[0], tmp_path, status=130) == (130, [resumed, "scontrol requeue 17"])
    (directory / "agent.safetensors").touch()
    assert run(SCRIPTS[0], tmp_path) == (0, [resumed, "scontrol requeue 17"])


def test_torchrun_trains_and_then_resumes(tmp_path):
    _, (call,) = run(SCRIPTS[2], tmp_path)
    assert call.startswith("torchrun --nnodes 4 --nproc-per-node 16 --max-restarts 3 --rdzv-id 17")
    assert "--rdzv-endpoint one:29500 -m metarl train rl2 half-cheetah-dir --run-dir" in call
    (tmp_path / "runs" / "together").mkdir(parents=True)
    (tmp_path / "runs" / "together" / "config.json").touch()
    (tmp_path / "called").unlink()
    _, (call,) = run(SCRIPTS[2], tmp_path)
    assert call.endswith("-m metarl resume runs/together")
