"""Invalid actions: agents never take them, in training, evaluation and ``predict``."""

import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from torch.distributions import Categorical, kl_divergence

from metarl import Choice, TrialEnv, check_tasks, evaluate
from metarl.agents import MAML, RL2, FineTune, MultiTask
from metarl.agents.classical.random_actions import RandomActions
from metarl.agents.common.actions import IMPOSSIBLE, action_head
from metarl.agents.common.noise import ActionNoise
from metarl.data import record
from metarl.envs import ActionMaskFromInfo, from_gymnasium
from metarl.masks import find_mask
from metarl.trial import TrialInput
from metarl.vector.env import TaskEnv

ACTIONS = {
    "discrete": spaces.Discrete(5, start=2),
    "multi-discrete": spaces.MultiDiscrete([3, 4], start=[0, 1]),
}


class Doors(gymnasium.Env):
    """Some doors are open; a closed one raises. Of the open ones, the first or the last pays.

    An open door earns its number, negated in every second task: what pays is to be found out.
    """

    mask_in_info = False

    def __init__(self, sign, space=ACTIONS["discrete"]):
        self.sign, self.action_space = sign, space
        counts = np.ravel(getattr(space, "nvec", getattr(space, "n", 0)))
        self.parts = np.split(np.arange(counts.sum()), np.cumsum(counts)[:-1])
        self.starts = [part[0] for part in self.parts]
        mask = spaces.MultiBinary(int(counts.sum()))
        self.observation_space = spaces.Box(-1.0, 1.0, (2,))
        if not self.mask_in_info:
            self.observation_space = spaces.Dict({"a": self.observation_space, "action_mask": mask})

    def _see(self):
        self.open = np.zeros(sum(map(len, self.parts)), dtype=np.int8)
        for part in self.parts:
            self.open[self.np_random.choice(part, 2, replace=False)] = 1
        seen = np.zeros(2, np.float32)
        return seen if self.mask_in_info else {"a": seen, "action_mask": self.open}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._see(), {"action_mask": self.open}

    def step(self, action):
        chosen = np.ravel(action - self.action_space.start)
        if not self.open[chosen + self.starts].all():
            raise RuntimeError("closed")
        return self._see(), float(self.sign * chosen.sum()), False, False, {
            "action_mask": self.open
        }  # fmt: skip


def doors(kind="discrete", make=Doors, **options):
    return from_gymnasium(
        lambda sign: make(sign, ACTIONS[kind]), {"sign": Choice((-1.0, 1.0))}, name="doors",
        horizon=5, episodes_per_trial=2, shares_tasks=True, **options,
    )  # fmt: skip


SMALL_RL2 = {"trials_per_iteration": 64, "trials_per_minibatch": 32, "learning_rate": 1e-2}
SMALL_RL2["policy_kwargs"] = {"hidden_size": 16}


@pytest.mark.parametrize(
    "kind", ["discrete", pytest.param("multi-discrete", marks=pytest.mark.slow)]
)
def test_agents_never_take_an_invalid_action(kind, tmp_path):
    tasks = doors(kind)
    agents = [
        RL2(tasks, seed=0, normalize_observation=True, **SMALL_RL2),
        MAML(tasks, seed=0, meta_batch_size=4, episodes_per_adaptation=4),
        MultiTask(tasks, seed=0, num_envs=256, n_epochs=1),
        FineTune(tasks, seed=0, num_envs=256, n_epochs=1, episodes_per_adaptation=2),
        RandomActions(tasks),
    ]
    for agent in agents:
        if isinstance(agent, RandomActions):
            evaluate(agent, tasks, num_tasks=20, num_episodes=4)
            continue
        agent.learn(300)
        before = evaluate(agent, tasks, num_tasks=2, num_episodes=4).returns
        agent.save(tmp_path / agent.name)
        loaded = type(agent).load(tmp_path / agent.name, tasks)
        assert np.array_equal(evaluate(loaded, tasks, num_tasks=2, num_episodes=4).returns, before)


def test_check_tasks_and_gymnasium_accept_masks():
    for kind in ACTIONS:
        assert check_tasks(doors(kind), num_steps=20).passed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tasks = doors(make=lambda sign, space: _Lenient(sign, space))
        check_env(TaskEnv(tasks.make_vec(1)), skip_render_check=True)
        check_env(TrialEnv(tasks), skip_render_check=True)


class _Lenient(Doors):
    """Takes any action: gymnasium's checker draws them without a mask."""

    def step(self, action):
        self.open[:] = 1
        return super().step(action)


def test_predict_keeps_to_the_mask():
    tasks = doors()
    rl2 = RL2(tasks, seed=0, normalize_observation=True, **SMALL_RL2).learn(700)
    maml, multi = MAML(tasks, seed=0), MultiTask(tasks, seed=0, num_envs=4)
    trial, single = TrialEnv(tasks), TaskEnv(tasks.make_vec(1))
    for deterministic in (False, True):
        row, _ = trial.reset(seed=0)
        state, ended = None, False
        while not ended:  # a closed door raises
            action, state = rl2.predict(row, state, deterministic=deterministic)
            row, _, ended, _, _ = trial.step(action)
        for agent in (maml, multi):
            seen, _ = single.reset(seed=0)
            for _ in range(5):
                action, _ = agent.predict(seen, deterministic=deterministic)
                seen, *_ = single.step(action)


@pytest.mark.parametrize("kind", ["discrete", "multi-discrete"])
def test_noise_in_recorded_histories_keeps_to_the_mask(kind, tmp_path):
    tasks = doors(kind)  # a closed door raises
    record(RandomActions(tasks), tasks, tmp_path, num_tasks=4, num_episodes=6, noise=(1.0, 0.5))


def test_an_oracle_observes_the_mask_too():
    tasks = doors()
    agent = RL2(tasks.oracle(), seed=0, **SMALL_RL2).learn(700)
    evaluate(agent, tasks.oracle(), num_tasks=10, num_episodes=2)


@pytest.mark.parametrize(
    "make",
    [
        lambda tasks: RL2(tasks, seed=0, **SMALL_RL2),
        pytest.param(
            lambda tasks: MAML(tasks, seed=0, inner_lr=1.0, meta_batch_size=10,
                               episodes_per_adaptation=10, policy_kwargs={"hidden_sizes": (16,)}),
            marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_what_pays_is_learned_among_the_open_doors(make):
    """Two of five doors are open: of their numbers the larger averages 3, the smaller 1.

    Over five steps that is 15 and -5 in the two kinds of task, 5 on average, and 0 without
    adapting.
    """
    tasks = doors()
    agent = make(tasks).learn(12_000)
    lanes = agent.episodes_per_adaptation
    returns = evaluate(agent, tasks, num_tasks=40, num_episodes=2 * lanes, seed=1).returns
    assert returns[:, lanes:].mean() > 3.5


def test_masks_in_info_move_into_the_observation():
    class InInfo(Doors):
        mask_in_info = True

    class Forgetful(InInfo):
        def step(self, action):
            return *super().step(action)[:4], {}

    for kind, given in (("discrete", np.ravel), ("multi-discrete", lambda m: (m[:3], m[3:]))):
        env = ActionMaskFromInfo(InInfo(1.0, ACTIONS[kind]))
        seen, info = env.reset(seed=0)
        assert env.observation_space.contains(seen)
        assert seen["action_mask"].tolist() == info["action_mask"].tolist()
        again = env._with_mask(seen["observation"], {"action_mask": given(info["action_mask"])})
        assert again["action_mask"].tolist() == info["action_mask"].tolist()
    tasks = doors(make=lambda sign, space: ActionMaskFromInfo(InInfo(sign, space)))
    MAML(tasks, seed=0, meta_batch_size=2, episodes_per_adaptation=2).learn(40)
    forgetful = doors(make=lambda sign, space: ActionMaskFromInfo(Forgetful(sign, space)))
    with pytest.raises(ValueError, match=r"no mask in info, which has \[\].*of 5 entries"):
        MAML(forgetful, seed=0).learn(40)


def test_a_mask_that_allows_nothing():
    class Stuck(Doors):
        steps = 0

        def _see(self):
            seen = super()._see()
            self.steps += 1
            seen["action_mask"][...] *= self.steps < 3
            return seen

    tasks = doors(make=Stuck)
    env = tasks.make_vec(2)
    env.set_tasks(tasks.sample("train", 2, 0))
    observations, _ = env.reset(seed=0)
    adaptation = RandomActions(tasks).adaptation(2)
    observations, *_ = env.step(adaptation.act(observations))
    match = r"action_mask .* \[0 0 0 0 0\] before step 3 of an episode of Task\(doors: sign="
    with pytest.raises(ValueError, match=match):
        env.step(adaptation.act(observations))


def test_nothing_need_be_allowed_after_the_end():
    class Ends(Doors):
        def step(self, action):
            seen, reward, *_ = super().step(action)
            return {**seen, "action_mask": 0 * self.open}, reward, True, False, {}

    tasks = doors(make=Ends)
    MultiTask(tasks, seed=0, num_envs=512, n_epochs=1).learn(100)
    evaluate(RL2(tasks, seed=0, **SMALL_RL2).learn(100), tasks, num_tasks=3, num_episodes=2)


@pytest.mark.parametrize(
    ("mask", "actions", "match"),
    [
        (spaces.MultiBinary(4), spaces.Discrete(5), r"must be MultiBinary\(5\).*got MultiBinary"),
        (spaces.MultiBinary((3, 4)), ACTIONS["multi-discrete"], r"must be MultiBinary\(7\)"),
        (spaces.Box(-1, 1, (5,)), spaces.Discrete(5), r"must be MultiBinary\(5\).*got Box"),
        (spaces.MultiBinary(2), spaces.Box(-1, 1, (2,)), "is Discrete or MultiDiscrete; rename"),
    ],
)
def test_masks_of_the_wrong_shape(mask, actions, match):
    class Wrong(Doors):
        def __init__(self, sign, space):
            super().__init__(sign)
            self.action_space = actions
            self.observation_space = spaces.Dict({"action_mask": mask})

    with pytest.raises(ValueError, match=match):
        doors(make=Wrong)


def test_two_masks():
    one = spaces.Dict({"action_mask": spaces.MultiBinary(2)})
    with pytest.raises(ValueError, match="has 2 entries 'action_mask'; expected one"):
        find_mask(spaces.Dict({"x": one, **one.spaces}), spaces.Discrete(2))


def test_the_columns_of_a_mask():
    mask = spaces.Box(0, 1, (3,), np.int8)
    image = spaces.Box(0, 255, (2, 2), np.uint8)
    space = spaces.Tuple([image, spaces.Dict({"z": spaces.Discrete(2), "action_mask": mask})])
    found = find_mask(space, spaces.Discrete(3))
    assert found.columns(images=True) == slice(4, 7)
    assert TrialInput(space, spaces.Discrete(3)).mask == slice(0, 3)
    values = (np.zeros((1, 2, 2)), {"z": np.zeros(1), "action_mask": np.array([[1, 0, 1]])})
    assert found.of(values).tolist() == [[True, False, True]]


# Masked distributions, against those of the allowed values alone.


@pytest.mark.parametrize("kind", ACTIONS)
def test_masked_distributions_are_those_of_the_allowed_values(kind):
    space = ACTIONS[kind]
    head = action_head(space, masked=True)
    counts = np.ravel(getattr(space, "nvec", getattr(space, "n", 0))).tolist()
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(2, sum(counts), generator=generator).double().requires_grad_()
    allowed = torch.cat([torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0])[:n] for n in counts])
    one, other = (head.distribution(head.forbid(row, allowed)) for row in outputs)
    action, log_prob, entropy, divergence, first = [], 0.0, 0.0, 0.0, 0
    for count in counts:  # each part alone, of its two allowed values
        logits = outputs[:, first : first + count][:, [0, 2]]
        p, q = (Categorical(logits=row) for row in logits)
        log_prob += p.log_prob(torch.tensor(1))
        entropy += p.entropy()
        divergence += kl_divergence(p, q)
        action.append(2)
        first += count
    value = torch.tensor(action if kind == "multi-discrete" else action[0])
    measured = (one.log_prob(value), entropy, kl_divergence(one, other))
    expected = (log_prob, one.entropy(), divergence)
    for mine, slow in zip(measured, expected):
        torch.testing.assert_close(mine, slow)
        gradients = [torch.autograd.grad(x, outputs, retain_graph=True)[0] for x in (mine, slow)]
        assert torch.isfinite(gradients[0]).all()
        torch.testing.assert_close(*gradients)
        assert (gradients[0][0][allowed == 0] == 0.0).all()
    assert one.log_prob(value - 1) < 0.5 * IMPOSSIBLE


class _Ends:
    """Draws the ends of [0, 1), where rounding could lead to what is impossible."""

    def __init__(self, value):
        self.value = value

    def uniform(self, shape):
        return torch.full(tuple(shape), self.value)


@pytest.mark.parametrize("kind", ACTIONS)
def test_no_draw_leads_to_an_impossible_value(kind):
    head = action_head(ACTIONS[kind], masked=True)
    counts = [head.num_outputs] if kind == "discrete" else [3, 4]
    allowed = torch.cat([torch.tensor([0.0, *[1.0] * (n - 2), 0.0]) for n in counts])
    for seed in range(20):
        outputs = torch.randn(50, head.num_outputs, generator=torch.Generator().manual_seed(seed))
        outputs = head.forbid(outputs, allowed.expand(50, -1))
        noises = [_Ends(0.0), _Ends(1.0), _Ends(1.0 - 2.0**-24), None]
        for noise in [*noises, ActionNoise(torch.Generator().manual_seed(seed))]:
            chosen = head.sample(outputs, None, noise).reshape(50, -1)
            assert (chosen > 0).all()
            assert (chosen < torch.tensor(counts) - 1).all()
