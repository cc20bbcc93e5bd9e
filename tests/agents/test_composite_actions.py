"""Actions of several kinds at once: Tuple and Dict action spaces."""

import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence

from metarl import Choice, TrialEnv, check_tasks, evaluate, with_workers
from metarl.agents import MAML, RL2, MultiTask, TaskVecEnv
from metarl.agents.classical.random_actions import RandomActions
from metarl.agents.common.actions import action_head
from metarl.agents.common.noise import ActionNoise
from metarl.data import Histories, record
from metarl.envs import from_gymnasium
from metarl.trial import TrialInput
from metarl.vector.env import TaskEnv

PAIR = spaces.Tuple([spaces.Discrete(2, start=1), spaces.Box(-1.0, 1.0, (1,))])
NESTED = spaces.Dict(
    {
        "aim": spaces.Box(-2.0, 2.0, (2,)),
        "tool": spaces.Tuple([spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2)]),
    }
)


class Shots(gymnasium.Env):
    """A weapon and an aim: 1 for the task's weapon, and 1 minus the distance from its target."""

    observation_space = spaces.Discrete(1)
    action_space = PAIR

    def __init__(self, weapon, target):
        self.weapon, self.target = weapon, target

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        assert self.action_space.contains(action), action
        weapon, aim = action
        reward = (weapon == self.weapon) + 1.0 - abs(float(aim[0]) - self.target)
        return 0, float(reward), False, False, {}


def shots(**options):
    return from_gymnasium(
        Shots, {"weapon": Choice((1, 2)), "target": Choice((-1.0, 1.0))}, name="shots", horizon=3,
        episodes_per_trial=3, shares_tasks=True, **options,
    )  # fmt: skip


class Anything(gymnasium.Env):
    """Takes any action of its space, and shows a number that depends on it."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,))
    action_space = NESTED

    def __init__(self, sign):
        self.sign = sign

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        kinds, bits = action["tool"]
        worth = self.sign * (action["aim"].sum() + kinds.sum() + bits.sum())
        return np.float32([worth]), float(worth), False, False, {}


def anything(**options):
    return from_gymnasium(
        Anything, {"sign": Choice((-1.0, 1.0))}, name="anything", horizon=4, shares_tasks=True,
        **options,
    )  # fmt: skip


FAMILIES = {"tuple": shots, "nested": anything}


def test_what_is_drawn_is_what_the_parts_draw():
    head = action_head(NESTED)
    assert (head.num_outputs, head.num_log_std, head.action_shape) == (9, 2, (6,))
    generator = torch.Generator().manual_seed(0)
    outputs, others = torch.randn(2, 7, 9, generator=generator)
    log_std, other_std = torch.randn(2, 2, generator=generator)
    actions = head.sample(outputs, log_std, ActionNoise(generator))
    assert actions.shape == (7, 6)
    one, other = head.distribution(outputs, log_std), head.distribution(others, other_std)

    def slow(outputs, log_std):
        yield slice(0, 2), Normal(outputs[:, :2], log_std.exp())
        yield 2, Categorical(logits=outputs[:, 2:4])
        yield 3, Categorical(logits=outputs[:, 4:7])
        yield slice(4, 6), Bernoulli(logits=outputs[:, 7:])

    def total(values):
        return sum(value if value.ndim == 1 else value.sum(-1) for value in values)

    pairs = list(zip(slow(outputs, log_std), slow(others, other_std)))
    expected = total(part.log_prob(actions[:, at]) for (at, part), _ in pairs)
    torch.testing.assert_close(one.log_prob(actions), expected)
    torch.testing.assert_close(one.entropy(), total(part.entropy() for (_, part), _ in pairs))
    divergence = total(kl_divergence(mine, theirs) for (_, mine), (_, theirs) in pairs)
    torch.testing.assert_close(kl_divergence(one, other), divergence)
    given = head.to_env(actions)
    # Of Box actions those inside their bounds come back.
    inside = actions.clone()
    inside[:, :2].clamp_(-1.0, 1.0)
    torch.testing.assert_close(head.from_env(given), inside)
    for row in range(7):
        action = {key: given[key][row] for key in ("aim",)}
        action["tool"] = tuple(part[row] for part in given["tool"])
        assert NESTED.contains(action)
    assert given["tool"][0].tolist() == actions[:, 2:4].long().tolist()
    likely = head.to_env(head.sample(outputs, log_std, None))
    assert likely["tool"][0][:, 1].tolist() == outputs[:, 4:7].argmax(1).tolist()


def test_parts_of_a_composite_action_can_be_forbidden():
    head = action_head(NESTED, masked=True)
    allowed = torch.tensor([0.0, 1.0, 1.0, 0.0, 0.0]).expand(50, 5)
    outputs = torch.randn(50, 9, generator=torch.Generator().manual_seed(0))
    forbidden = head.forbid(outputs, allowed)
    noise = ActionNoise(torch.Generator().manual_seed(1))
    actions = head.sample(forbidden, torch.zeros(2), noise)
    assert actions[:, 2:4].tolist() == [[1.0, 0.0]] * 50
    assert torch.equal(forbidden[:, [0, 1, 7, 8]], outputs[:, [0, 1, 7, 8]])


def test_the_last_action_is_part_of_the_input():
    part = TrialInput(spaces.Discrete(1), PAIR)
    actions = (np.array([2, 1]), np.array([[0.5], [-1.0]], np.float32))
    rows, _ = part.follow(np.zeros(2), actions, np.zeros(2), np.zeros(2))
    assert rows[:, part.action].tolist() == [[0.0, 1.0, 0.5], [1.0, 0.0, -1.0]]
    steps = tuple(values[None] for values in actions)  # (1 trial, 2 steps, ...)
    zeros = np.zeros((1, 2))
    sequence, _ = part.sequence(zeros, steps, zeros, zeros)
    assert sequence[0, :, part.action].tolist() == [[0.0, 0.0, 0.0], [0.0, 1.0, 0.5]]


@pytest.mark.parametrize("family", FAMILIES)
def test_checkers_accept_them(family):
    tasks = FAMILIES[family]()
    assert check_tasks(tasks, num_steps=20).passed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of actions without bounds, and of observations
        check_env(TaskEnv(tasks.make_vec(1)), skip_render_check=True)
        check_env(TrialEnv(tasks), skip_render_check=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_agents_learn_save_and_predict(family, tmp_path):
    tasks = FAMILIES[family]()
    small = {"trials_per_iteration": 4, "trials_per_minibatch": 2}
    rl2 = RL2(tasks, seed=0, policy_kwargs={"hidden_size": 8}, **small)
    maml = MAML(tasks, seed=0, meta_batch_size=2, episodes_per_adaptation=2)
    for agent in (rl2, maml):
        agent.learn(100)
        agent.save(tmp_path / agent.name)
        loaded = type(agent).load(tmp_path / agent.name, tasks)
        settings = {"num_tasks": 3, "num_episodes": 4, "seed": 2}
        returns = evaluate(agent, tasks, **settings).returns
        assert np.array_equal(returns, evaluate(loaded, tasks, **settings).returns)
    evaluate(RandomActions(tasks), tasks.oracle(), num_tasks=3, num_episodes=2)
    trial, single = TrialEnv(tasks), TaskEnv(tasks.make_vec(1))
    action, _ = rl2.predict(trial.reset(seed=0)[0])
    assert trial.action_space.contains(action)
    trial.step(action)
    assert single.action_space.contains(maml.predict(single.reset(seed=0)[0])[0])


@pytest.mark.parametrize(
    ("make", "num_steps", "bound"),
    [
        pytest.param(
            lambda tasks: RL2(tasks, seed=0, trials_per_iteration=64, learning_rate=5e-3,
                              trials_per_minibatch=32, policy_kwargs={"hidden_size": 32}),
            40_000, 4.9, marks=pytest.mark.slow),
        (lambda tasks: MAML(tasks, seed=0, inner_lr=1.0, episodes_per_adaptation=10, max_kl=0.05,
                            policy_kwargs={"hidden_sizes": (16,)}), 10_000, 5.5),
    ],
)  # fmt: skip
def test_both_parts_adapt(make, num_steps, bound):
    """Three steps earn 6 at best, and 1.5 on average without adapting: 0.5 each for the weapon.

    If only the weapon adapts it is 3, if only the aim does it is 4.5.
    """
    tasks = shots()
    agent = make(tasks).learn(num_steps)
    lanes = agent.episodes_per_adaptation
    returns = evaluate(agent, tasks, num_tasks=40, num_episodes=3 * lanes, seed=1).returns
    assert returns[:, -lanes:].mean() > bound


def test_histories_keep_the_parts(tmp_path):
    tasks = anything()
    record(RandomActions(tasks), tasks, tmp_path / "data", num_tasks=3, num_episodes=2)
    history = Histories(tmp_path / "data")[1]
    aim, (kinds, bits) = history.actions["aim"], history.actions["tool"]
    assert (aim.shape, kinds.shape, bits.shape) == ((8, 2), (8, 2), (8, 2))
    worth = history.task["sign"] * (aim.sum(1) + kinds.sum(1) + bits.sum(1))
    np.testing.assert_allclose(history.rewards, worth, rtol=1e-5)
    window = Histories(tmp_path / "data").windows(1).batch([0, 5])
    assert window.actions["tool"][0].shape == (2, 4, 2)


@pytest.mark.parametrize("actions", [np.zeros(2), (np.ones(2),), (np.ones(3), np.zeros((3, 1)))])
def test_actions_of_another_structure(actions):
    tasks = shots()
    env = tasks.make_vec(2)
    env.set_tasks(tasks.sample("train", 2, 0))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"expected values of Tuple\(|actions must have shape"):
        env.step(actions)


def test_stable_baselines3_has_none():
    for make in (lambda: MultiTask(shots()), lambda: TaskVecEnv(shots(), 2)):
        with pytest.raises(ValueError, match="no actions of several kinds, got Tuple"):
            make()


@pytest.mark.slow
def test_worker_processes_take_them():
    tasks = anything()
    settings = {"num_tasks": 4, "num_episodes": 2, "seed": 0}
    apart = evaluate(RandomActions(tasks), with_workers(tasks, 2), **settings)
    assert np.array_equal(apart.returns, evaluate(RandomActions(tasks), tasks, **settings).returns)
