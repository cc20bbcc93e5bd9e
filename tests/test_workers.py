"""Environments in worker processes: the same trajectories, and one clear error when one fails."""

import multiprocessing

import fault_drills as drills
import numpy as np
import pytest
from moody import MOODS, Moody

from metarl import Choice, Uniform, evaluate, with_workers
from metarl.agents import RL2
from metarl.envs import from_gymnasium, make
from metarl.experiments import cli
from metarl.experiments.restoring import load_agent
from metarl.experiments.runs import Run
from metarl.spaces import flatten
from metarl.workers import WorkerError, WorkerVectorEnv


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
    assert len(multiprocessing.active_children()) == 2
    del env
    assert not multiprocessing.active_children()


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
    command = ["train", "rl2", "bandit-3x2", "--total-timesteps", "1"]
    assert cli.main([*command, "--run-dir", "plain"]) == 0
    assert cli.main([*command, "--run-dir", "workers", "--num-workers", "2"]) == 0
    agents = [(tmp_path / run / "agent.safetensors").read_bytes() for run in ("plain", "workers")]
    assert agents[0] == agents[1]
    paths = [tmp_path / run / "evaluation/held_out.json" for run in ("plain", "workers")]
    reports = [path.read_text() for path in paths]
    assert reports[0] == reports[1]
    env = load_agent(Run.open("workers")).tasks.make_vec(2)
    assert isinstance(env, WorkerVectorEnv)
    env.close()
    assert cli.main([*command, "--run-dir", "none", "--num-workers", "-1"]) == 2


def test_drills_of_faults():
    drills.main(2)  # `python tests/fault_drills.py 100` has all moods


def test_a_number_of_workers_is_a_number():
    with pytest.raises(ValueError, match="num_workers must be at least 1, got 0"):
        with_workers(family(), 0)
    with pytest.raises(ValueError, match="num_workers must be at least 0, got -1"):
        family(num_workers=-1)
