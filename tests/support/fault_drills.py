"""Drills: environments in worker processes that fail in every way, while an agent trains.

``python tests/support/fault_drills.py 100`` runs a hundred, drawn at random, and prints how they
ended. In each an agent has trained and is saved; then an environment fails. What must follow: one
error, of the right kind, that names the task; no process left, no shared memory left; the saved
agent as it was, and able to go on in environments that work.
"""

import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from moody import MOODS, Moody

from metarl import Choice, Uniform, with_workers
from metarl.agents import RL2
from metarl.envs import from_gymnasium
from metarl.vector.workers import WorkerError

# What a user reads, beside the task.
SAYS = {
    "raises": r"the wheel fell off",
    "dies": r"died \(exit code 7\)",
    "exits": r"sys\.exit\(0\)",
    "hangs": r"did not answer within",
    "nan": r"the reward nan",
    "odd": r"returned the observation",
    "another type": r"returned the observation",
    "raises at reset": r"no way to begin",
    "dies at reset": r"died \(exit code 7\)",
    "raises at the task": r"no such task",
    "dies at the task": r"died \(exit code 7\)",
}
SMALL = {
    "trials_per_iteration": 4,
    "trials_per_minibatch": 2,
    "episodes_per_trial": 1,
    "policy_kwargs": {"hidden_size": 4, "channels": [2], "image_features": 2},
}


def family(num_workers, timeout, moods=("calm",)):
    """Environments of which some have a mood; the others are calm."""
    distributions = {"mood": Choice(MOODS), "drift": Uniform(0.0, 1.0)}
    splits = {name: {"mood": Choice(tuple(moods))} for name in ("train", "held_out")}
    tasks = from_gymnasium(Moody, distributions, splits=splits, name="moody", horizon=6)
    return with_workers(tasks, num_workers, timeout=timeout)


def drill(mood, num_workers, seed, folder):
    """Let environments of that mood fail, and say what is wrong with how that ended."""
    before = shared_memory()
    others = set(multiprocessing.active_children())
    path = folder / f"agent-{seed}.safetensors"
    agent = RL2(family(num_workers, 60.0), seed=seed, **SMALL).learn(1)
    agent.save(path)
    agent._env.close()
    saved = path.read_bytes()
    timeout = 4.0 if mood == "hangs" else 60.0
    failing = RL2.load(path, family(num_workers, timeout, ("calm", mood)))
    wrong = []
    try:
        for _ in range(20):  # until the mood is drawn
            failing.learn(1, reset_num_timesteps=False)
        wrong.append("nothing was raised")
    except (WorkerError, ValueError) as error:
        text = str(error)
        if not re.search(SAYS[mood], text):
            wrong.append(f"it does not say {SAYS[mood]!r}: {text[:300]!r}")
        if f"mood={mood!r}" not in text:
            wrong.append(f"it does not name the task: {text[:300]!r}")
    finally:
        if failing._env is not None:
            failing._env.close()
    del failing
    if left_after(10.0, lambda: set(multiprocessing.active_children()) - others):
        wrong.append("processes are left")
    # Other programs of this machine have some for a while, too.
    if left := left_after(60.0, lambda: shared_memory() - before):
        wrong.append(f"shared memory is left: {left}")
    if path.read_bytes() != saved:
        wrong.append("the saved agent has changed")
    further = RL2.load(path, family(num_workers, 60.0))
    further.learn(1, reset_num_timesteps=False)
    further._env.close()
    if further.iteration != 2:
        wrong.append("the saved agent does not go on")
    return wrong


def shared_memory():
    """Return the names of all shared memory of this machine, where it shows them."""
    return set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()


def left_after(seconds, what):
    """Return what is left once so many seconds have passed; nothing as soon as nothing is."""
    deadline = time.monotonic() + seconds
    while (left := what()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def main(num_drills, seed=0):
    """Run drills; raise if one did not end as it must."""
    rng = np.random.default_rng(seed)
    moods = [mood for mood in MOODS if mood != "calm"]
    ended, failures = Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(num_drills):
            mood = moods[int(rng.integers(len(moods)))]
            num_workers = int(rng.integers(1, 4))
            wrong = drill(mood, num_workers, number, Path(folder))
            ended[mood, not wrong] += 1
            failures += [f"drill {number}, {mood}, {num_workers} workers: {w}" for w in wrong]
    for mood in moods:
        print(f"{mood:20s} {ended[mood, True]:4d} ended right, {ended[mood, False]:4d} did not")
    assert not failures, "\n".join(failures)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
