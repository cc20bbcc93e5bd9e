"""Several processes that train one agent: they find what one process finds, and fail together."""

import contextlib
import fcntl
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import ranked
import torch
from run_logs import rows_of
from toys import risk

from metarl import Rollout
from metarl.agents import MAML, RL2
from metarl.agents.common.noise import ActionNoise
from metarl.agents.training import learner
from metarl.agents.training.ranks import Ranks
from metarl.experiments.cli import main as command_line

SIOCGIFADDR = 0x8915  # of Linux
CASES = ["bandit-10x5", "half-cheetah-dir", "maml-trpo", "maml-ratio", "e-maml", "maml-strolls"]

# An environment of the second process fails once, in the way that a file names.
POLES = """
import os, signal
from pathlib import Path
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv
from metarl import Uniform
from metarl.envs import from_gymnasium

class Poles(CartPoleEnv):
    steps = 0

    def set_task(self, task):
        self.gravity = task["gravity"]

    def step(self, action):
        Poles.steps += 1
        how = Path(__file__).with_name("fail")
        if Poles.steps == 300 and os.environ.get("RANK") == "1" and how.exists():
            words = how.read_text()
            how.unlink()
            if words == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("the pole is broken")
        return super().step(action)

tasks = from_gymnasium(Poles, {"gravity": Uniform(5.0, 15.0)}, horizon=20)
"""
TRAIN = [
    *("train", "rl2", "poles:tasks", "--total-timesteps", "2000", "--run-dir", "run"),
    *("--set", "trials_per_iteration=8", "--set", "trials_per_minibatch=4"),
    *("--set", 'policy_kwargs={"hidden_size":8}'),
]


def python(folder, *words, **environment):
    """Run Python in a folder; return the finished process, with what it printed."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def torchrun(size, *options):
    """Return the words that start so many processes."""
    return ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}", *options]


def find(folder, size, cases):
    """Return what so many processes find in each case."""
    if size == 1:
        ranked.main(cases, folder)
    else:
        done = python(folder, *torchrun(size), ranked.__file__, ",".join(cases), str(folder))
        assert done.returncode == 0, done.stderr
    return {case: np.load(folder / f"{case}-{size}.npz") for case in cases}


class ThreadRanks(Ranks):
    """One of two processes that are threads: what they send at a time must be of one kind."""

    def __init__(self, rank, barrier, sent):
        super().__init__(rank, 2)
        self.barrier, self.sent = barrier, sent

    def gather_array(self, values):
        self.sent[self.rank] = values
        self.barrier.wait(timeout=10)
        one, other = self.sent
        self.barrier.wait(timeout=10)
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        return np.concatenate([one, other])


@pytest.mark.parametrize("known", [(True, False), (False, True), (True, True), (False, False)])
def test_processes_of_which_some_see_no_success_gather_it(known):
    barrier, sent = threading.Barrier(2), [None, None]

    def gather(rank):
        successes = np.array([[rank == 0], [True]]) if known[rank] else None
        rollout = Rollout(np.full((2, 1), 1.0 + rank), np.ones((2, 1), np.int64), True, successes)
        return ThreadRanks(rank, barrier, sent).gather_rollout(rollout)

    with ThreadPoolExecutor(2) as pool:
        rollouts = list(pool.map(gather, range(2)))
    for rollout in rollouts:
        assert rollout.returns.tolist() == [[1.0], [1.0], [2.0], [2.0]]
        if not any(known):
            assert rollout.successes is None
            continue
        first = [True, True] if known[0] else [False, False]
        second = [False, True] if known[1] else [False, False]
        assert rollout.successes.ravel().tolist() == first + second


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return find(tmp_path_factory.mktemp("alone"), 1, CASES)


def check_cut(alone, together):
    for case, one in alone.items():
        many = together[case]
        # To the bit: tasks, starts, the actions that are drawn first.
        for name in ("starts", "actions", *(name for name in one if name.startswith("task "))):
            assert np.array_equal(one[name], many[name]), (case, name)
        if case == "half-cheetah-dir":  # contacts make another return of rounding
            continue
        assert np.array_equal(one["returns"], many["returns"]), case
        assert one["steps"] == many["steps"]
        assert np.array_equal(one["evaluated lengths"], many["evaluated lengths"]), case
        # Steps of the gradient have made more of rounding, where actions are real numbers.
        np.testing.assert_allclose(many["evaluated"], one["evaluated"], rtol=1e-4, err_msg=case)
        # Up to rounding. Without the share of the others they are off by a tenth and more.
        for name in {"gradient", "product", "moments"} & {*one}:
            size = max(1.0, np.abs(one[name]).max())
            np.testing.assert_allclose(many[name], one[name], rtol=0, atol=1e-6 * size)


def test_two_processes_find_what_one_finds(alone, tmp_path):
    check_cut(alone, find(tmp_path, 2, CASES))


@pytest.mark.slow
def test_two_processes_find_what_one_finds_in_pictures_and_learn_to_adapt(tmp_path):
    together = find(tmp_path, 2, ["glyphs-5way", "learn-rl2", "learn-maml"])
    check_cut(find(tmp_path, 1, ["glyphs-5way"]), together)
    # As in test_rl2_learning.py: 3.3 without taking a risk, 4.4 at best.
    assert together["learn-rl2"]["score"] > 4.0
    # One step of the gradient on 20 shots; a shot at the right side earns 1, one at random 0.
    assert together["learn-maml"]["score"] > 0.8


@pytest.mark.slow
def test_four_processes_find_what_one_finds(alone, tmp_path):
    check_cut(alone, find(tmp_path, 4, CASES))


def test_a_lane_gets_the_same_noise_whoever_has_it():
    drawn = {}
    for size in (1, 2, 4):
        parts = []
        for rank in range(size):
            own = Ranks(rank, size).shard(8, "lanes")
            noise = ActionNoise(torch.Generator().manual_seed(3), 8, own)
            shape = (8 // size, 5)
            parts.append(torch.cat([noise.normal(shape), noise.uniform(shape)], 1))
        drawn[size] = torch.cat(parts)
    assert torch.equal(drawn[1], drawn[2])
    assert torch.equal(drawn[1], drawn[4])
    assert len(drawn[1].unique()) == drawn[1].numel()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: RL2(risk(), seed=0, trials_per_iteration=64),
            "trials_per_iteration must be a multiple of the number of processes, 3, .* got 64",
        ),
        (
            lambda: MAML(risk(), seed=0, meta_batch_size=20),
            "meta_batch_size must be a multiple of the number of processes, 3, .* got 20",
        ),
    ],
)
def test_what_cannot_be_shared_out_is_refused(make, message, monkeypatch):
    monkeypatch.setattr(learner, "current_ranks", lambda: Ranks(0, 3))
    with pytest.raises(ValueError, match=message):
        make()


# The command line.


@pytest.fixture
def poles(tmp_path):
    (tmp_path / "poles.py").write_text(POLES)
    return tmp_path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "poles.py").write_text(POLES)
    done = python(folder, "-m", "metarl", *TRAIN, "--processes", "2")
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "run" / "config.json").read_text())["processes"] == 2
    # One process prints: each line once.
    assert len(re.findall("^training RL2 on", done.stdout, re.M)) == 1
    assert len(re.findall("^trained for", done.stdout, re.M)) == 1
    return folder / "run"


def check_same(run, whole):
    for name in ("agent.safetensors", "evaluation/held_out.npz"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    assert rows_of(run / "progress.csv") == rows_of(whole / "progress.csv")


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_run_which_resumes_to_the_same_bits(poles, undisturbed):
    (poles / "fail").write_text("kill")
    done = python(poles, "-m", "metarl", *TRAIN, "--processes", "2")
    assert done.returncode == 2
    first, second, *more = done.stderr.strip().splitlines()[-2:]
    assert not more
    assert re.fullmatch(
        "metarl: error: another of the processes that train together has ended, or does not "
        "answer; the last complete iteration, at [1-9].* env steps, is saved; continue with: "
        "metarl resume run",
        first,
    )
    assert "process 1 of 2 was killed (signal 9)" in second
    assert "Traceback" not in done.stderr
    done = python(poles, "-m", "metarl", "resume", "run")
    assert done.returncode == 0, done.stderr
    check_same(poles / "run", undisturbed)


@pytest.mark.slow
def test_torchrun_starts_a_killed_training_anew_and_it_goes_on(poles, undisturbed):
    (poles / "fail").write_text("kill")
    words = [*torchrun(2, "--max-restarts=1"), "-m", "metarl", *TRAIN]
    done = python(poles, *words)
    assert done.returncode == 0, done.stderr
    assert "has ended, or does not answer" in done.stderr
    check_same(poles / "run", undisturbed)


@pytest.mark.slow
def test_an_environment_that_raises_in_one_process_shows_its_traceback(poles):
    (poles / "fail").write_text("raise")
    done = python(poles, "-m", "metarl", *TRAIN, "--processes", "2")
    assert done.returncode == 2
    assert "RuntimeError: the pole is broken" in done.stderr
    assert done.stderr.count("Traceback") == 1
    assert "another of the processes that train together has failed; the last" in done.stderr
    assert (poles / "run" / "checkpoint.safetensors").exists()


@pytest.mark.slow
def test_ctrl_c_stops_all_of_them_after_a_step(poles):
    words = [w if w != "2000" else "2000000" for w in TRAIN]
    with subprocess.Popen(
        [sys.executable, "-m", "metarl", *words, "--processes", "2"],
        cwd=poles,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(poles)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        log = poles / "run" / "progress.csv"
        while not (log.exists() and len(log.read_text().splitlines()) > 2):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(
        r"stopping after this step; Ctrl-C again stops at once\n"
        r"stopped at [\d,]+ env steps and saved; continue with: metarl resume run",
        errors.strip(),
    )


@pytest.mark.slow
def test_another_number_of_processes_does_not_resume_a_run(undisturbed):
    done = python(undisturbed.parent, *torchrun(3), "-m", "metarl", "resume", "run")
    assert done.returncode != 0
    assert "another number changes the result, got 3: use 2" in done.stderr


def test_what_trains_in_one_process_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command_line, "launch", lambda *_: pytest.fail("processes were started"))
    words = ["train", "multi-task", "bandit-10x5", "--total-timesteps", "100", "--processes", "2"]
    assert command_line.main(words) == 2
    assert capsys.readouterr().err.strip() == (
        "metarl: error: multi-task trains in one process, got 2; these can use several: "
        "anil, e-maml, fomaml, maml, promp, reptile, rl2"
    )


# What takes minutes.


@pytest.mark.slow
def test_twenty_kills_of_one_or_all_processes_end_in_the_same_bits(poles, undisturbed):
    rng = random.Random(0)
    kills = 0
    while kills < 20:
        subprocess.run(["rm", "-rf", str(poles / "run")], check=True)
        words = [*TRAIN, "--processes", "2"]
        while not (poles / "run" / "agent.safetensors").exists():
            with subprocess.Popen(
                [sys.executable, "-m", "metarl", *words],
                cwd=poles,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(poles)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as process:
                if kills < 20:
                    time.sleep(rng.uniform(3.0, 9.0))
                    ranks = children(process.pid)
                    victims = ranks if rng.random() < 0.5 else rng.sample(ranks, min(1, len(ranks)))
                    for victim in victims:
                        os.kill(victim, signal.SIGKILL)
                    kills += bool(victims)
                process.wait(timeout=120)
            if (poles / "run" / "config.json").exists():
                words = ["resume", "run"]
        check_same(poles / "run", undisturbed)


def children(process):
    """Return the processes that a launcher has started."""
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in listed]


@pytest.mark.slow
def test_two_machines_train_together(poles, undisturbed):
    # Two launchers with a process each, which meet and talk at an interface that is no loopback.
    interface, address = next(each for each in interfaces() if not each[1].startswith("127."))
    with socket.socket() as free:
        free.bind((address, 0))
        port = free.getsockname()[1]
    machine = [
        *("-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=0"),
        *("--rdzv-backend=c10d", f"--rdzv-endpoint={address}:{port}", f"--local-addr={address}"),
    ]
    on_interface = {"GLOO_SOCKET_IFNAME": interface}
    with subprocess.Popen(
        [sys.executable, *machine, "--rdzv-conf=is_host=1", "-m", "metarl", *TRAIN],
        cwd=poles,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(poles), **on_interface},
    ) as first:
        words = [*machine, "--rdzv-conf=is_host=0", "-m", "metarl", *TRAIN]
        done = python(poles, *words, **on_interface)
        assert first.wait(timeout=60) == 0
    assert done.returncode == 0, done.stderr
    check_same(poles / "run", undisturbed)


def interfaces():
    """Return the names and IPv4 addresses of this machine's network interfaces."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # it has none
                request = struct.pack("256s", name.encode()[:15])
                answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, request)
                found.append((name, socket.inet_ntoa(answer[20:24])))
    return found
