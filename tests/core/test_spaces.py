"""Observations and actions of every kind of space, through everything that touches them."""

import copy
import re

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import ClipAction, TransformAction
from torch.distributions import Categorical

from metarl import (
    Choice,
    StepResult,
    TaskDistribution,
    TaskVectorEnv,
    TrialEnv,
    check_tasks,
    evaluate,
)
from metarl.agents import MAML, RL2
from metarl.agents.common.actions import action_head, advice
from metarl.agents.common.noise import ActionNoise
from metarl.agents.common.vision import Vision
from metarl.agents.maml.linear_baseline import linear_baseline
from metarl.batches import as_batch, in_types, replaced, stack, take
from metarl.envs import from_gymnasium
from metarl.spaces import check_space, difference, flatten, split, stretch, to_json
from metarl.trial import TrialInput
from metarl.vector.env import TaskEnv

IMAGE = spaces.Box(0, 255, (9, 8, 3), np.uint8)
ZOO = spaces.Dict(
    {
        "bits": spaces.MultiBinary([2, 2]),
        "kinds": spaces.MultiDiscrete([2, 3], start=[0, 5]),
        "image": IMAGE,
        "pair": spaces.Tuple([spaces.Discrete(3, start=1), spaces.Box(-1.0, 1.0, (2,))]),
        "board": spaces.Box(0, 1, (2, 2), np.uint8),  # no image: its values end at 1
    }
)
ACTIONS = {
    "discrete": spaces.Discrete(3, start=2),
    "box": spaces.Box(-1.0, 2.0, (2,), np.float32),
    "integers": spaces.Box(0, 4, (2,), np.int64),
    "multi-discrete": spaces.MultiDiscrete([[2, 4], [3, 2]], start=[[0, 1], [0, 0]]),
    "multi-binary": spaces.MultiBinary(3),
}


class Zoo(gymnasium.Env):
    """Random observations; actions earn their sum times the task's sign. Episodes of 3 steps."""

    observation_space = ZOO

    def __init__(self, action_space, sign=1.0):
        self.action_space, self.sign = action_space, sign

    def _see(self):
        return self.observation_space.sample()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space = copy.deepcopy(ZOO)
            self.observation_space.seed(seed)
        return self._see(), {}

    def step(self, action):
        assert self.action_space.contains(action), (action, self.action_space)
        return self._see(), float(self.sign * np.sum(action)), False, False, {}


def zoo(kind):
    return from_gymnasium(
        lambda sign: Zoo(ACTIONS[kind], sign), {"sign": Choice((-1.0, 1.0))}, horizon=3,
        name="zoo", episodes_per_trial=2, shares_tasks=True,
    )  # fmt: skip


def agents(tasks):
    small = {"hidden_size": 8, "channels": [4], "image_features": 4}
    yield RL2(tasks, seed=0, trials_per_iteration=4, trials_per_minibatch=2, policy_kwargs=small,
              normalize_observation=True)  # fmt: skip
    yield MAML(tasks, seed=0, meta_batch_size=2, episodes_per_adaptation=2)


@pytest.mark.filterwarnings("ignore:.*holds integers")
@pytest.mark.parametrize("kind", ACTIONS)
def test_agents_learn_save_and_act_in_any_space(kind, tmp_path):
    tasks = zoo(kind)
    for agent in agents(tasks):
        agent.learn(24)
        agent.save(tmp_path / agent.name)
        loaded = type(agent).load(tmp_path / agent.name, tasks)
        settings = {"num_tasks": 2, "num_episodes": 4, "seed": 2}
        returns = evaluate(agent, tasks, **settings).returns
        assert np.array_equal(returns, evaluate(loaded, tasks, **settings).returns)
        assert np.ptp(returns) > 0


@pytest.mark.filterwarnings("ignore:.*(infinity|normalized|holds integers)")
@pytest.mark.parametrize("kind", ACTIONS)
def test_predict_in_single_environments(kind):
    tasks = zoo(kind)
    rl2, maml = agents(tasks)
    trial = TrialEnv(tasks)
    check_env(trial, skip_render_check=True)
    row, _ = trial.reset(seed=0)
    action, state = rl2.predict(row)
    assert trial.action_space.contains(action)
    row, *_ = trial.step(action)
    both = stack(trial.observation_space, [row, row])
    assert rl2.predict(both)[0].shape[0] == 2
    assert rl2.predict(row, state)[1][0].shape == state[0].shape
    env = TaskEnv(tasks.make_vec(1))
    observation, _ = env.reset(seed=0)
    assert env.action_space.contains(maml.predict(observation)[0])
    with pytest.raises(ValueError, match="expected observations of"):
        maml.predict({"bits": 1})


@pytest.mark.filterwarnings("ignore:.*(infinity|normalized|holds integers)")
def test_check_tasks_and_the_oracles_view():
    tasks = zoo("discrete")
    assert check_tasks(tasks, num_steps=20).passed
    view = tasks.oracle()
    env = TaskEnv(view.make_vec(1))
    check_env(env, skip_render_check=True)
    assert set(env.observation_space) == {"observation", "task"}  # the image stays an image
    for agent in agents(view):
        agent.learn(24)


def test_a_leak_is_named_by_its_keys():
    class Leaky(Zoo):
        def _see(self):
            seen = super()._see()
            seen["pair"] = (seen["pair"][0], np.array([self.sign, 0.0], np.float32))
            return seen

    tasks = from_gymnasium(
        lambda sign: Leaky(ACTIONS["discrete"], sign), {"sign": Choice((-1.0, 1.0))}, horizon=3,
        shares_tasks=True,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"entry \['pair'\]\[1\]\[0\]"):
        check_tasks(tasks, num_steps=20)


@pytest.mark.parametrize("space", [ZOO, *ZOO.values(), *ACTIONS.values()])
def test_flatten_agrees_with_gymnasium(space):
    space.seed(0)
    values = [space.sample() for _ in range(5)]
    rows = flatten(space, stack(space, values))
    expected = np.array([spaces.flatten(space, value) for value in values], dtype=np.float32)
    if space == ZOO:  # images become numbers from 0 to 1: 216 columns of pixels
        assert np.allclose(np.sort(rows)[:, -1], 1.0, atol=0.1)
        assert rows.shape == expected.shape
    elif space == IMAGE:
        assert np.allclose(rows * 255.0, expected)
    else:
        assert np.array_equal(rows, expected)


def test_split_keeps_images_as_bytes():
    ZOO.seed(1)
    values = [ZOO.sample() for _ in range(4)]
    rows, pixels = split(ZOO, stack(ZOO, values))
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels[2].reshape(IMAGE.shape), values[2]["image"])
    assert rows.shape == (4, 4 + 5 + 5 + 4)


def test_batches_are_taken_and_replaced_without_changing_the_old():
    ZOO.seed(2)
    batch = stack(ZOO, [ZOO.sample() for _ in range(4)])
    other = stack(ZOO, [ZOO.sample() for _ in range(2)])
    before = flatten(ZOO, batch).copy()
    new = replaced(batch, np.array([1, 3]), other)
    expected = before.copy()
    expected[[1, 3]] = flatten(ZOO, other)
    assert np.array_equal(flatten(ZOO, new), expected)
    assert np.array_equal(flatten(ZOO, batch), before)
    single = take(batch, 1)
    assert ZOO.contains(single)
    again, was_single = as_batch(ZOO, single)
    assert was_single
    assert np.array_equal(flatten(ZOO, again), before[1:2])


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (spaces.Dict({**ZOO.spaces, "bits": spaces.MultiBinary(2)}), r"bits: shape \[2, 2\], not"),
        (spaces.Dict({"bits": ZOO["bits"]}), "entries .*, not bits"),
        (ZOO["pair"], "Dict, not Tuple"),
        (ZOO, None),
    ],
)
def test_differences_between_spaces(other, expected):
    differs = difference(to_json(ZOO), other)
    assert differs is None if expected is None else re.search(expected, differs)


@pytest.mark.parametrize(
    ("what", "space", "match"),
    [
        ("observation", spaces.Text(5), "ObservationWrapper"),
        ("observation", spaces.Dict({}), "is empty"),
        ("observation", spaces.Dict({"a": IMAGE, "b": spaces.Dict({"c": spaces.Text(3)})}),
         r"at \['b'\]\['c'\]; leave it out with .*\['a'\]"),
        ("action", spaces.Tuple([IMAGE, spaces.Text(5)]), r"at \[1\]; wrap .*ActionWrapper"),
        ("action", spaces.Tuple([]), "is empty"),
    ],
)  # fmt: skip
def test_spaces_that_agents_cannot_deal_with(what, space, match):
    with pytest.raises(ValueError, match=match):
        check_space(what, space)


def test_an_environment_that_forgets_an_entry():
    class Forgetful(Zoo):
        def _see(self):
            seen = super()._see()
            del seen["pair"]
            return seen

    tasks = from_gymnasium(
        lambda sign: Forgetful(ACTIONS["discrete"], sign), {"sign": Choice((-1.0, 1.0))}, horizon=3
    )
    with pytest.raises(ValueError, match="KeyError: 'pair'"):
        tasks.make_vec(2).reset(seed=0)


# Distributions over actions.


def test_multi_discrete_actions_follow_independent_chances():
    space = spaces.MultiDiscrete([2, 4], start=[0, 1])
    head = action_head(space)
    chances = [torch.tensor([0.3, 0.7]), torch.tensor([0.1, 0.2, 0.3, 0.4])]
    outputs = torch.cat([c.log() for c in chances]).requires_grad_()
    many = outputs.detach().expand(8000, 6)
    actions = head.sample(many, None, ActionNoise(torch.Generator().manual_seed(0)))
    for part, expected in zip(actions.T, chances):
        shares = torch.bincount(part, minlength=len(expected)) / len(part)
        assert shares.tolist() == pytest.approx(expected.tolist(), abs=0.02)
    assert head.to_env(actions)[:, 1].min() == 1
    assert head.sample(many[:1], None, None).tolist() == [[1, 3]]
    distribution = head.distribution(outputs)
    parts = [Categorical(probs=c) for c in chances]
    action = torch.tensor([1, 2])
    assert distribution.log_prob(action).item() == pytest.approx(np.log(0.7 * 0.3), abs=1e-5)
    assert distribution.entropy().item() == pytest.approx(sum(p.entropy() for p in parts).item())
    other = head.distribution(torch.zeros(6))
    divergence = torch.distributions.kl_divergence(distribution, other)
    slow = sum((c * (c * len(c)).log()).sum() for c in chances)  # to uniform chances, part by part
    assert divergence.item() == pytest.approx(slow.item(), abs=1e-5)
    (gradient,) = torch.autograd.grad(divergence + distribution.entropy(), outputs)
    assert torch.isfinite(gradient).all()


def test_multi_binary_actions_follow_independent_chances():
    head = action_head(spaces.MultiBinary(2))
    outputs = torch.tensor([0.2, 0.9]).logit()
    noise = ActionNoise(torch.Generator().manual_seed(0))
    actions = head.sample(outputs.expand(8000, 2), None, noise)
    assert actions.mean(0).tolist() == pytest.approx([0.2, 0.9], abs=0.02)
    assert head.sample(outputs[None], None, None).tolist() == [[0.0, 1.0]]
    log_prob = head.distribution(outputs).log_prob(torch.tensor([1.0, 1.0]))
    assert log_prob.item() == pytest.approx(np.log(0.2 * 0.9), abs=1e-5)


def test_integer_actions_are_rounded():
    head = action_head(ACTIONS["integers"])
    assert head.to_env(torch.tensor([[0.3, -9.0]])).tolist() == [[3, 0]]  # 2 + 2 * 0.3 = 2.6


def test_integer_actions_reach_their_bounds():
    head = action_head(spaces.Box(-100, 100, (1,), np.int8))
    assert head.to_env(torch.tensor([[-1.0], [0.0], [1.0]])).tolist() == [[-100], [0], [100]]


def test_actions_within_the_widest_bounds_are_small_numbers():
    widest = spaces.Box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (1,))
    head = action_head(widest)
    assert head.to_env(torch.tensor([[-0.5], [2.0]])).tolist() == [[-0.5], [2.0]]


def test_the_advice_for_actions_without_bounds_can_be_followed():
    pendulum = ClipAction(gymnasium.make("Pendulum-v1"))
    assert advice(pendulum.action_space) is not None
    bounded = TransformAction(pendulum, lambda action: action, spaces.Box(-2.0, 2.0, (1,)))
    assert advice(bounded.action_space) is None


# Observations in the type of their space.


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (spaces.Box(0, 255, (2,), np.uint8), np.array([3.0, 255.0])),
        (spaces.Box(0, 255, (2,), np.uint8), [3, 255]),
        (spaces.Box(-9.0, 9.0, (2,), np.float32), np.array([0.1, 3.0])),
        (spaces.Box(-9.0, 9.0, (2,), np.float32), np.array([True, False])),
        (spaces.Box(-9.0, 9.0, (2,), np.float32), np.array([7, -9])),
        (spaces.Discrete(3), np.uint8(2)),
        (spaces.Discrete(3), 2.0),
        (spaces.MultiBinary(2), np.array([True, False])),
    ],
)
def test_observations_of_another_type_that_it_can_hold(space, value):
    for batch in (stack(space, [value, value]), in_types(space, np.array([value, value]))):
        assert batch.dtype == space.dtype
        np.testing.assert_allclose(batch, [value, value], rtol=1e-6)


@pytest.mark.parametrize(
    ("space", "value", "match"),
    [
        (spaces.Box(0, 255, (2,), np.uint8), np.array([0.5, 1.0]), "float64 value 0.5, which the"),
        (spaces.Box(0, 255, (2,), np.uint8), [3, 300], "value 300, which the uint8 .*dtype int64"),
        (spaces.Box(0, 255, (2,), np.uint8), [3, -1], "value -1"),
        (spaces.Box(0, 255, (2,), np.uint64), np.array([3, -1]), "value -1"),
        (spaces.Box(-9, 9, (1,), np.int64), np.array([np.nan]), "value nan"),
        (spaces.Box(-9, 9, (1,), np.float32), np.array([1e300]), r"value 1e\+300"),
        (spaces.Discrete(3), 1.7, "value 1.7, which the int64"),
        (spaces.MultiBinary(2), [0.0, 0.5], "value 0.5"),
        (spaces.Box(-9, 9, (1,), np.float32), np.array([1j]), "type complex128"),
        (spaces.Box(-9, 9, (1,), np.float32), ["1"], "type <U1 and shape"),
        (spaces.Box(-9, 9, (1,), np.float32), None, "observation None of type object"),
        (spaces.Box(-9, 9, (2,), np.float32), [1.0, [2.0]], "ValueError: "),
        (spaces.Box(-9, 9, (1,), np.float32), torch.ones(1, requires_grad=True), "detach"),
    ],
)
def test_observations_that_their_space_would_change_are_refused(space, value, match):
    with pytest.raises(ValueError, match=match):
        stack(space, [space.sample(), value])
    nested = spaces.Dict({"a": spaces.Tuple([space])})
    with pytest.raises(ValueError, match=match):
        stack(nested, [nested.sample(), {"a": (value,)}])


# Images.


@pytest.mark.parametrize(
    "shape",
    [
        (28, 28, 1),
        (3, 20, 30),
        (7, 7, 3),
        (2, 2, 1),
        (64, 64, 3),
        (20, 30),
        (4, 7, 7, 3),
        (4, 3, 9, 8),
    ],
)
def test_pictures_of_any_size_and_order(shape):
    vision = Vision([shape, (5, 5, 1)], (4, 8, 8), 6, torch.Generator().manual_seed(0))
    pixels = torch.randint(0, 256, (2, 3, int(np.prod(shape)) + 25), dtype=torch.uint8)
    features = vision(pixels)
    assert features.shape == (2, 3, 12)
    assert torch.isfinite(features).all()


def test_channels_may_come_first_or_last():
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    last, first = (Vision([shape], (4,), 6, generator) for shape, generator
                   in zip([(9, 8, 3), (3, 9, 8)], generators))  # fmt: skip
    image = torch.randint(0, 256, (9, 8, 3), dtype=torch.uint8)
    torch.testing.assert_close(
        last(image.reshape(1, -1)), first(image.permute(2, 0, 1).reshape(1, -1))
    )


@pytest.mark.parametrize(
    ("shape", "axes", "same"),
    [((9, 8), (0, 1), (9, 8, 1)),  # grey
     ((2, 9, 8, 3), (1, 2, 0, 3), (9, 8, 6)),  # two pictures, channels last
     ((2, 3, 9, 8), (2, 3, 0, 1), (9, 8, 6)),  # two pictures, channels first
     ((4, 9, 8), (1, 2, 0), (9, 8, 4))],  # four grey pictures
)  # fmt: skip
def test_pictures_are_seen_as_one_with_all_channels(shape, axes, same):
    images = torch.randint(0, 256, (5, *shape), dtype=torch.uint8)
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    mine, one = (Vision([each], (4,), 6, generator)
                 for each, generator in zip((shape, same), generators))  # fmt: skip
    moved = images.permute(0, *(axis + 1 for axis in axes)).reshape(5, *same)
    torch.testing.assert_close(mine(images.reshape(5, -1)), one(moved.reshape(5, -1)))


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 3), (2, 9, 8, 3)])
def test_frames_and_grey_pictures_are_images(shape):
    space = spaces.Box(0, 255, shape, np.uint8)
    trial_input = TrialInput(space, spaces.Discrete(2))
    assert trial_input.image_shapes == [shape]
    assert (trial_input.size, trial_input.num_pixels) == (2 + 2, np.prod(shape))


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2, 2, 2)])
def test_bytes_that_are_no_image_are_numbers_from_0_to_1(shape):
    space = spaces.Box(0, 255, shape, np.uint8)
    values = np.stack([space.low, space.high])
    rows, pixels = split(space, values)
    assert pixels.size == 0
    assert rows.tolist() == flatten(space, values).tolist()
    assert rows.tolist() == [[0.0] * space.low.size, [1.0] * space.low.size]


def test_rows_of_whole_trials_are_those_that_acting_makes_step_by_step():
    space = spaces.Dict(
        {"image": spaces.Box(0, 255, (4, 3, 1), np.uint8), "at": spaces.Box(-1.0, 1.0, (2,))}
    )
    trial_input = TrialInput(space, spaces.Discrete(3, start=1))
    rng, shape = np.random.default_rng(0), (2, 5)
    observations = {
        "image": rng.integers(256, size=(*shape, 4, 3, 1), dtype=np.uint8),
        "at": rng.uniform(-1, 1, (*shape, 2)).astype(np.float32),
    }
    said = rng.integers(1, 4, shape), rng.normal(size=shape), rng.random(shape) < 0.4
    rows, pixels = trial_input.sequence(observations, *said)
    for t in range(5):
        present = {key: part[:, t] for key, part in observations.items()}
        last = [part[:, t - 1] for part in said]
        expected = trial_input.follow(present, *last) if t else trial_input.start(present)
        np.testing.assert_array_equal(rows[:, t], expected[0])
        np.testing.assert_array_equal(pixels[:, t], expected[1])


class SidesVectorEnv(TaskVectorEnv):
    """A picture is bright on one side, and to name it earns what the task says."""

    def __init__(self, num_envs):
        super().__init__(
            num_envs,
            parameters={"worth": Choice((1.0, 2.0))},
            observation_space=spaces.Dict({"image": spaces.Box(0, 255, (6, 6, 1), np.uint8)}),
            action_space=spaces.Discrete(2),
            horizon=1,
        )

    def set_parameters(self, columns):
        self._worth = columns["worth"]
        self._side = np.zeros(self.num_envs, dtype=np.int64)

    def reset_lanes(self, ids):
        draws = self.random.uniform(ids, 37)
        self._side[ids] = draws[:, 36] < 0.5
        images = (100.0 * draws[:, :36]).reshape(-1, 6, 6, 1)
        bright = np.arange(6)[:, None] // 3 == self._side[ids][:, None, None, None]
        return {"image": (images + 100.0 * bright).astype(np.uint8)}

    def step_lanes(self, ids, actions):
        rewards = self._worth[ids] * (actions == self._side[ids])
        return StepResult(self.reset_lanes(ids), rewards, np.ones(len(rewards), dtype=np.bool_))


def sides():
    return TaskDistribution(
        "sides", {"worth": Choice((1.0, 2.0))}, SidesVectorEnv, shares_tasks=True,
        episodes_per_trial=4, statistic="mean",
    )  # fmt: skip


def test_rl2_learns_from_what_it_sees():
    # One who sees earns 1.5 in each episode on average, one who is blind 0.75.
    tasks = sides()
    agent = RL2(
        tasks, seed=0, trials_per_iteration=64, trials_per_minibatch=32, learning_rate=3e-3,
        policy_kwargs={"hidden_size": 32, "channels": [8], "image_features": 16},
    )  # fmt: skip
    agent.learn(8_000)
    report = evaluate(agent, tasks, num_tasks=200, seed=1, deterministic=True)
    shares = report.returns / report.tasks.columns["worth"][:, None]
    assert shares.mean() > 0.95


def test_gradients_of_filters_change_the_weights_they_belong_to():
    # A convolution's gradient lies in memory with its channels last, its weights with them first.
    # Fused Adam on a CPU does not look: filters would differ by whole steps of it here.
    networks = []
    for fused in (True, False):
        agent = RL2(
            sides(), seed=0, trials_per_iteration=8, trials_per_minibatch=4, learning_rate=1e-3,
            policy_kwargs={"hidden_size": 8, "channels": [4, 4], "image_features": 8},
        )  # fmt: skip
        assert agent.optimizer.defaults["fused"]
        agent.optimizer.param_groups[0]["fused"] = fused
        networks.append(agent.learn(1).network.state_dict())
    for name, tensor in networks[0].items():
        torch.testing.assert_close(networks[1][name], tensor, atol=1e-5, rtol=1e-4, msg=name)


def test_the_baseline_of_large_observations_is_bounded():
    generator = torch.Generator().manual_seed(0)
    observations = torch.rand(10, 2, 3, 5000, generator=generator)
    returns = observations[..., 0] - observations[..., 1]
    fitted = linear_baseline(observations, returns, torch.ones(10, 2, 3))
    assert fitted.shape == returns.shape
    assert torch.isfinite(fitted).all()


@pytest.mark.parametrize(
    ("space", "match"),
    [
        (spaces.Box(0, 4, (1,), np.int64), "agents learn better with a Discrete or MultiDiscrete"),
        (spaces.Box(-np.inf, np.inf, (1,)), "declare the range .*wrappers.TransformAction"),
        (spaces.Box(0.0, np.inf, (1,)), "lacks bounds"),
        (spaces.Box(-3e38, 3e38, (1,)), "lacks bounds"),
    ],
)
def test_what_is_done_with_awkward_actions_is_said(space, match):
    tasks = from_gymnasium(lambda sign: Zoo(space, sign), {"sign": Choice((1.0, 2.0))}, horizon=3)
    with pytest.warns(UserWarning, match=match):
        RL2(tasks)


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (-100, 100, np.int8),
        (100, 120, np.int8),
        (100, 200, np.uint8),
        (-20_000, 20_000, np.int16),
        (-(2**31) + 1, 2**31 - 1, np.int32),
        (-1.5, 3.0, np.float32),
    ],
)
def test_a_policys_range_is_stretched_to_the_bounds_of_every_type(low, high, dtype):
    space = spaces.Box(low, high, (2,), dtype)
    actions = np.array([[-1, -9], [0, 0], [1, 9]], np.float32)
    expected = np.repeat([[low], [0.5 * (low + high)], [high]], 2, axis=1)
    values = stretch(space, actions)
    assert values.dtype == dtype
    assert np.array_equal(values, expected)


def test_64_bits_are_never_left():
    every = np.array([[-1.0], [0.0], [1.0]], np.float32)
    widest = stretch(spaces.Box(-(2**63), 2**63 - 1, (1,), np.int64), every).ravel()
    np.testing.assert_allclose(widest, [-(2.0**63), 0, 2.0**63])
    unbounded = spaces.Box(-np.inf, np.inf, (1,), np.int64)
    assert stretch(unbounded, 3 * every).ravel().tolist() == [-3, 0, 3]


def test_a_dimension_without_two_bounds_is_in_the_environments_own_units():
    widest = np.finfo(np.float32).max
    low = np.array([-2, -2, -np.inf, -np.inf, -widest], np.float32)
    high = np.array([4, np.inf, 4, np.inf, widest], np.float32)
    actions = np.repeat(np.float32([[-9], [0.5], [9]]), 5, axis=1)
    assert stretch(spaces.Box(low, high), actions).tolist() == [
        [-2, -2, -9, -9, -9],
        [2.5, 0.5, 0.5, 0.5, 0.5],
        [4, 9, 4, 9, 9],
    ]
