"""Environments in worker processes: the same trajectories, and one clear error when one fails."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from multiprocessing.context import SpawnProcess

import fault_drills as drills
import gymnasium
import numpy as np
import pytest
from command_line import SMALL, small_evaluations
from moody import MOODS, Moody

from metarl import Choice, Uniform, check_tasks, evaluate, with_workers
from metarl.agents import RL2
from metarl.agents.classical.random_actions import RandomActions
from metarl.envs import from_gymnasium, make
from metarl.experiments.cli import main as cli
from metarl.experiments.runs.loading import load_agent
from metarl.experiments.runs.run import Run
from metarl.spaces import flatten
from metarl.vector.workers import WorkerError, WorkerVectorEnv


def family(**options):
    return from_gymnasium(
        lambda mood, drift: Moody(mood, drift),
        {"mood": Choice(MOODS), "drift": Uniform(-1.0, 1.0)},
        name="moody",
        horizon=6,
        splits={split: {"mood": Choice(("calm",))} for split in ("train", "held_out")},
        **options,
    )


def trajectory(tasks, num_envs=5, num_steps=25):
    """Return everything that some steps give, with some of the environments left out at times."""
    env = tasks.make_vec(num_envs)
    rng = np.random.default_rng(0)
    seen = []
    for round_ in range(2):
        env.set_tasks(tasks.sample("train", num_envs, round_))
        observations, _ = env.reset(seed=round_ or None if round_ else 3)
        seen.append(flatten(env.single_observation_space, observations).copy())
        for _ in range(num_steps):
            active = rng.random(num_envs) < 0.8
            actions = rng.integers(3, size=num_envs)
            observations, *others, info = env.step(actions, active)
            row = flatten(env.single_observation_space, observations)
            seen.append(np.concatenate([row, np.stack(others, axis=1)], axis=1))
            if "final_obs" in info:
                seen.append(flatten(env.single_observation_space, info["final_obs"]))
    env.close()
    return seen


@pytest.mark.parametrize("num_workers", [1, 2, 9])
def test_trajectories_are_the_same_whatever_the_number_of_workers(num_workers):
    expected, got = trajectory(family()), trajectory(family(num_workers=num_workers))
    assert len(expected) == len(got)
    for mine, theirs in zip(expected, got):
        assert np.array_equal(mine, theirs)
    assert not multiprocessing.active_children()


def test_any_family_goes_to_workers():
    tasks = make("navigation-2d")
    expected = evaluate(Circling(), tasks, num_tasks=4, num_episodes=1)
    got = evaluate(Circling(), with_workers(tasks, 2), num_tasks=4, num_episodes=1)
    assert np.array_equal(expected.returns, got.returns)


class Circling:
    name = "circling"
    episodes_per_adaptation = 1

    def adaptation(self, num_tasks, *, seed=0, deterministic=False):
        self.step = 0
        return self

    def act(self, observations):
        self.step += 1
        return np.tile([0.1 * np.cos(self.step), 0.1 * np.sin(self.step)], (len(observations), 1))

    def observe(self, transition):
        pass


@pytest.mark.parametrize(
    ("mood", "match"),
    [
        ("raises", r"(?s)worker 2 of 2, at step, with Task\(moody: mood='raises'.*wheel fell off"),
        ("raises at reset", r"(?s)at reset.*no way to begin"),
        ("dies", r"worker 2 of 2, at step, .*: died \(exit code 7\)"),
        ("exits", r"(?s)called sys.exit\(0\) in step 2"),
        ("hangs", r"did not answer within 8 s"),
        ("odd", r"(?s)returned the observation .*KeyError: 'eye'"),
    ],
)  # fmt: skip
def test_one_error_names_the_task_and_no_process_stays(mood, match):
    tasks = with_workers(family(), 2, timeout=8.0 if mood == "hangs" else 60.0)
    env = tasks.make_vec(2)
    calm = tasks.sample("train", 2, 0)
    bad = [calm[0], type(calm[0])("moody", {"mood": mood, "drift": 0.5})]
    env.set_tasks(bad)

    def play():
        env.reset(seed=0)
        for _ in range(3):
            env.step(np.zeros(2, dtype=np.int64))

    with pytest.raises(WorkerError, match=match):
        play()
    assert not multiprocessing.active_children()
    with pytest.raises(WorkerError, match="make the environments again"):
        env.set_tasks(calm)


def test_what_is_not_finite_is_told_as_without_workers():
    env = family(num_workers=1).make_vec(1)
    env.set_tasks([type(env.tasks[0])("moody", {"mood": "nan", "drift": 0.0})])
    env.reset(seed=0)
    env.step(np.zeros(1, dtype=np.int64))
    with pytest.raises(ValueError, match="the reward nan in step 2 of an episode of"):
        env.step(np.zeros(1, dtype=np.int64))
    env.close()


def test_an_environment_that_is_forgotten_stops_its_workers():
    env = family(num_workers=2).make_vec(2)
    assert isinstance(env, WorkerVectorEnv)
    env.reset(seed=0)
    assert len(multiprocessing.active_children()) == 2
    del env
    assert not multiprocessing.active_children()


def test_processes_are_started_for_training_only(monkeypatch):
    started, start = [], SpawnProcess.start
    monkeypatch.setattr(SpawnProcess, "start", lambda self: (started.append(self), start(self)))
    tasks = family(num_workers=2)
    tasks.make_vec(4).close()
    agents = [
        RL2(tasks, seed=0, trials_per_iteration=2, trials_per_minibatch=2,
            policy_kwargs={"hidden_size": 4, "channels": [2], "image_features": 2}),
        RandomActions(tasks),
    ]  # fmt: skip
    assert check_tasks(tasks, num_steps=20, raise_on_failure=False).results
    assert started == []
    agents[0].learn(30)
    assert len(started) == 2


KILLED = """
import ctypes
import os
from metarl import Choice, Task
from metarl.vector import workers
from metarl.envs import from_gymnasium
from moody import Moody

workers.GRACE = 1

class Endless(Moody):
    def step(self, action):
        os.write(1, b"endless\\n")  # one write: the lines of several workers do not mix
        if self.drift == 1:
            ctypes.PyDLL(None).sleep(600)  # compiled code that keeps Python's lock
        while self.drift == 2:
            pass
        return super().step(action)

    def close(self):
        while self.drift == 3:
            pass

if __name__ == "__main__":
    drifts = {"drift": Choice((0, 1, 2, 3))}
    tasks = from_gymnasium(lambda drift: Endless(drift=drift), drifts, horizon=6, name="endless",
                           num_workers=3, shares_tasks=True)
    env = tasks.make_vec(3)
    env.set_tasks([Task("endless", {"drift": drift}) for drift in (1, 2, 3)])
    env.reset(seed=0)
    env.step([0, 0, 0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it takes some seconds")
def test_hung_workers_end_with_a_trainer_that_is_killed(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    # Workers have the trainer's standard output too: it is closed when all have ended.
    with subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    ) as trainer:
        try:
            assert [trainer.stdout.readline() for _ in range(3)] == ["endless\n"] * 3
            trainer.kill()
            assert trainer.communicate(timeout=10.0) == ("", None)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(trainer.pid, signal.SIGKILL)


def test_a_script_without_a_main_guard_gets_one_sentence(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from metarl import Uniform\n"
        "from metarl.envs import from_gymnasium\n"
        "tasks = from_gymnasium('Pendulum-v1', {'g': Uniform(5.0, 15.0)}, num_workers=2)\n"
        "tasks.make_vec(2).reset(seed=0)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.splitlines()[-1] == (
        "metarl.vector.workers.WorkerError: a worker process imports the main script, and this one "
        'would start workers again: put what it runs under `if __name__ == "__main__":`'
    )


def test_workers_build_what_is_registered_in_the_main_process_only():
    point = "gymnasium.envs.classic_control.pendulum:PendulumEnv"
    gymnasium.register("test/Pendulum-v0", entry_point=point, max_episode_steps=200)
    try:
        tasks = from_gymnasium("test/Pendulum-v0", {"g": Uniform(5.0, 15.0)}, num_workers=1)
        with contextlib.closing(tasks.make_vec(1)) as env:
            assert env.reset(seed=0)[0].shape == (1, 3)
    finally:
        del gymnasium.registry["test/Pendulum-v0"]


def test_what_cannot_be_sent_to_a_worker_is_refused():
    lock = threading.Lock()
    tasks = from_gymnasium(
        lambda g: (lock, gymnasium.make("Pendulum-v1", g=g))[1],
        {"g": Uniform(5.0, 15.0)},
        name="locked",
        num_workers=2,
    )
    with pytest.raises(TypeError, match=r"sent to a worker process: cannot pickle '_thread.lock'"):
        tasks.make_vec(2)


def test_agents_train_in_the_same_bits():
    agents = [
        RL2(tasks, seed=0, trials_per_iteration=4, trials_per_minibatch=2,
            policy_kwargs={"hidden_size": 4, "channels": [2], "image_features": 2}).learn(60)
        for tasks in (family(), family(num_workers=2))
    ]  # fmt: skip
    states = [agent.network.state_dict() for agent in agents]
    assert all(np.array_equal(t, states[1][name]) for name, t in states[0].items())


def test_the_command_line_has_workers_and_resumes_with_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["train", "rl2", "navigation-2d", *SMALL]
    with small_evaluations():
        assert cli.main([*command, "--run-dir", "plain"]) == 0
        assert cli.main([*command, "--run-dir", "workers", "--num-workers", "1"]) == 0
    agents = [(tmp_path / run / "agent.safetensors").read_bytes() for run in ("plain", "workers")]
    assert agents[0] == agents[1]
    paths = [tmp_path / run / "evaluation/held_out.npz" for run in ("plain", "workers")]
    reports = [path.read_bytes() for path in paths]
    assert reports[0] == reports[1]
    env = load_agent(Run.open("workers")).tasks.make_vec(1)
    assert isinstance(env, WorkerVectorEnv)
    env.close()
    assert cli.main([*command, "--run-dir", "none", "--num-workers", "-1"]) == 2


def test_drills_of_faults():
    drills.main(1)  # `python tests/support/fault_drills.py 100` has all moods


def test_a_number_of_workers_is_a_number():
    with pytest.raises(ValueError, match="num_workers must be at least 1, got 0"):
        with_workers(family(), 0)
    with pytest.raises(ValueError, match="num_workers must be at least 0, got -1"):
        family(num_workers=-1)
