"""The mathematics of policy optimisation against slow versions written another way."""

import math

import numpy as np
import pytest
import torch
from toys import BOX, spaces

from metarl.agents.common.actions import LOG_STD_MAX, action_head
from metarl.agents.common.losses import (
    generalized_advantages,
    masked,
    masked_mean,
    ppo_surrogate,
    standardize,
    task_mean,
)
from metarl.agents.common.noise import ActionNoise
from metarl.agents.common.normalization import Normalizer, RunningMoments

LENGTHS = [7, 1, 4, 6]
RNG = np.random.default_rng(0)
MASK = torch.tensor([[float(t < length) for length in LENGTHS] for t in range(7)])


def random_rows(garbage=1e3):
    """Normal numbers where a step is real, garbage in the padding."""
    rows = torch.from_numpy(RNG.normal(size=MASK.shape)).float()
    return torch.where(MASK.bool(), rows, torch.tensor(garbage))


@pytest.mark.parametrize(("gamma", "gae_lambda"), [(0.9, 0.8), (1.0, 1.0), (0.99, 0.0)])
def test_advantages_by_their_definition(gamma, gae_lambda):
    rewards, values = random_rows(), random_rows()
    advantages = generalized_advantages(rewards, values, MASK, gamma, gae_lambda)
    for n, length in enumerate(LENGTHS):
        # Nothing is bootstrapped at the end: the value there is zero.
        v = [*values[:length, n].tolist(), 0.0]
        for t in range(len(MASK)):
            expected = 0.0
            for k in range(t, length):
                delta = float(rewards[k, n]) + gamma * v[k + 1] - v[k]
                expected += (gamma * gae_lambda) ** (k - t) * delta
            assert float(advantages[t, n]) == pytest.approx(expected, abs=1e-4)


def test_advantages_of_a_perfect_critic_are_zero():
    rewards = torch.ones(5, 1)
    values = torch.tensor([[sum(0.9**k for k in range(5 - t))] for t in range(5)])
    advantages = generalized_advantages(rewards, values, torch.ones(5, 1), 0.9, 0.95)
    torch.testing.assert_close(advantages, torch.zeros(5, 1), atol=1e-6, rtol=0.0)


def test_surrogate_by_its_definition():
    log_ratio, advantages = 0.4 * random_rows(0.0), random_rows()
    total, count = 0.0, 0
    for n, length in enumerate(LENGTHS):
        for t in range(length):
            ratio, advantage = math.exp(log_ratio[t, n]), float(advantages[t, n])
            if advantage > 0:
                total += min(ratio, 1.2) * advantage
            else:
                total += max(ratio, 0.8) * advantage
            count += 1
    surrogate = ppo_surrogate(log_ratio, advantages, MASK, 0.2)
    assert float(surrogate) == pytest.approx(total / count, abs=1e-5)


def test_surrogate_gives_no_gradient_beyond_the_clip():
    log_ratio = torch.tensor([[0.5, 0.5, 0.0, -0.5]], requires_grad=True)
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    ppo_surrogate(log_ratio, advantages, torch.ones(1, 4), 0.2).backward()
    assert log_ratio.grad[0].tolist() == pytest.approx([0, -math.exp(0.5) / 4, 0.25, 0])


@pytest.mark.parametrize("dim", [None, 0])
def test_standardize_looks_at_real_steps_only(dim):
    values = random_rows()
    result = standardize(values, MASK, dim)
    assert (result[MASK == 0] == 0).all()
    pieces = (
        [MASK.bool()] if dim is None else [MASK.bool() & torch.eye(4)[n].bool() for n in (0, 2, 3)]
    )
    for real in pieces:
        expected = values[real].numpy()
        expected = (expected - expected.mean()) / expected.std()
        np.testing.assert_allclose(result[real].numpy(), expected, atol=1e-5)
    assert float(masked_mean(values, MASK)) == pytest.approx(float(values[MASK.bool()].mean()))


@pytest.mark.parametrize("garbage", [math.inf, -math.inf, math.nan])
def test_nothing_in_the_padding_counts(garbage):
    rows = torch.where(MASK > 0, random_rows(), 0.0)
    spoilt = torch.where(MASK > 0, rows, garbage)
    for function in (
        masked_mean,
        standardize,
        lambda values, mask: task_mean(values.T, mask.T),
        lambda values, mask: ppo_surrogate(masked(values, mask), rows, mask, 0.2),
        lambda values, mask: generalized_advantages(values, values, mask, 0.9, 0.8),
    ):
        assert torch.equal(function(spoilt, MASK), function(rows, MASK))


def test_running_moments_are_those_of_all_rows():
    rows = 1e4 + RNG.normal(size=(500, 3)) * [1.0, 10.0, 0.0]
    moments = RunningMoments(3)
    for chunk in np.split(rows, [1, 2, 100, 350]):
        moments.update(torch.from_numpy(chunk))
    np.testing.assert_allclose(moments.mean.numpy(), rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.var.numpy(), rows.var(0), rtol=1e-8, atol=1e-12)
    assert moments.count == 500
    normalizer = Normalizer(4, torch.device("cpu"))
    normalizer.set(slice(1, 4), moments.mean.float(), moments.std())
    normal = normalizer(torch.from_numpy(np.insert(rows, 0, 77.0, axis=1)).float())
    np.testing.assert_allclose(normal[:, 1:3].std(0), 1.0, atol=1e-2)
    assert (normal[:, 1:].abs() <= 10.0).all()
    assert (normal[:, 0] == 77.0).all()  # not its column
    assert normalizer(torch.tensor([0.0, 0.0, 1e9, 1e4]))[1:3].tolist() == [-10.0, 10.0]


def test_moments_of_nothing_change_nothing():
    rows, moments = torch.tensor([[0.5, -3.0]]), RunningMoments(2)
    normalizer = Normalizer(2, torch.device("cpu"))
    torch.testing.assert_close(normalizer(rows), rows)
    normalizer.set(slice(0, 2), moments.mean.float(), moments.std())
    torch.testing.assert_close(normalizer(rows), rows)


# Actions.


def test_discrete_actions_follow_their_chances():
    head = action_head(spaces.Discrete(3, start=5))
    chances = torch.tensor([0.1, 0.0, 0.9])
    outputs = chances.log().expand(4000, 3)
    actions = head.sample(outputs, None, ActionNoise(torch.Generator().manual_seed(0)))
    shares = torch.bincount(actions, minlength=3) / 4000
    assert shares.tolist() == pytest.approx([0.1, 0.0, 0.9], abs=0.02)
    assert set(head.to_env(actions)) == {5, 7}
    assert head.sample(outputs, None, None).tolist() == [2] * 4000


def test_box_actions_are_stretched_to_the_bounds_and_clipped_for_the_env_only():
    head = action_head(BOX)
    outputs = torch.tensor([[0.0, 0.0], [0.5, -0.5], [3.0, -3.0]])
    actions = head.sample(outputs, torch.zeros(2), None)
    assert head.to_env(actions).tolist() == [[0.0, 2.0], [0.5, 1.0], [1.0, 0.0]]
    torch.testing.assert_close(actions, outputs)
    draws = head.sample(
        outputs[1].expand(4000, 2),
        torch.tensor([-1.0, 9.0]),
        ActionNoise(torch.Generator().manual_seed(0)),
    )
    assert draws.mean(0).tolist() == pytest.approx([0.5, -0.5], abs=0.5)
    expected = [math.exp(-1.0), math.exp(LOG_STD_MAX)]
    assert draws.std(0).tolist() == pytest.approx(expected, rel=0.05)


def test_log_probabilities_are_summed_over_action_dimensions():
    head = action_head(BOX)
    outputs, log_std = torch.tensor([[0.3, -0.2]]), torch.tensor([-0.5, 9.0])
    action = torch.tensor([[0.1, 0.4]])
    expected = 0.0
    for x, mean, s in zip([0.1, 0.4], [0.3, -0.2], [-0.5, LOG_STD_MAX]):
        z = (x - mean) / math.exp(s)
        expected += -0.5 * z * z - s - 0.5 * math.log(2.0 * math.pi)
    log_prob = head.distribution(outputs, log_std).log_prob(action)
    assert log_prob.tolist() == pytest.approx([expected], abs=1e-5)


def test_an_unbounded_box_is_left_as_it_is():
    head = action_head(spaces.Box(-np.inf, np.inf, (2,)))
    assert head.to_env(torch.tensor([[7.0, -9.0]])).tolist() == [[7.0, -9.0]]


def test_advantages_with_a_discount_of_each_step_by_their_definition():
    rewards, values = random_rows(), random_rows()
    gamma = torch.from_numpy(RNG.uniform(0.5, 1.0, size=MASK.shape)).float()
    advantages = generalized_advantages(rewards, values, MASK, gamma, 0.8)
    for n, length in enumerate(LENGTHS):
        v = [*values[:length, n].tolist(), 0.0]
        for t in range(len(MASK)):
            expected, weight = 0.0, 1.0
            for k in range(t, length):
                delta = float(rewards[k, n]) + float(gamma[k, n]) * v[k + 1] - v[k]
                expected += weight * delta
                weight *= 0.8 * float(gamma[k, n])
            assert float(advantages[t, n]) == pytest.approx(expected, abs=1e-4)
