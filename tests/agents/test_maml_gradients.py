"""The mathematics of MAML against slow and independent versions of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import kl_divergence
from walk import collected, make, walk

from metarl.agents.common.losses import discounted_returns, task_mean
from metarl.agents.common.trust_region import (
    conjugate_gradient,
    fisher_product,
    flatten,
    line_search,
)
from metarl.agents.maml.inner import InnerLoop
from metarl.agents.maml.linear_baseline import RIDGE, _projection, _solve, linear_baseline
from metarl.agents.maml.outer import MetaProblem, fisher_of, trpo_step


def problem_of(agent):
    """What the outer update of one iteration is to improve."""
    *supports, query = collected(agent)
    return MetaProblem(agent.inner, supports, query, agent.config.exploration_coef)


def tensors(batch):
    return {name: part for name, part in vars(batch).items() if isinstance(part, torch.Tensor)}


def doubled(problem):
    """The same in double precision, for finite differences."""
    problem.inner.policy.double()
    problem.inner.rates.double()
    *supports, query = (
        replace(batch, **{name: part.double() for name, part in tensors(batch).items()})
        for batch in [*problem.supports, problem.query]
    )
    return replace(problem, supports=supports, query=query)


def with_inner(problem, **options):
    """The same with other inner steps."""
    inner = InnerLoop(problem.inner.policy, replace(problem.inner.options, **options))
    return replace(problem, inner=inner)


def surrogate(problem):
    return problem.loss(problem.policies(problem.adapt(differentiable=True)))


def meta_gradient(problem):
    theta = problem.inner.theta()
    return flatten(torch.autograd.grad(surrogate(problem), theta, materialize_grads=True))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"inner_steps": 2},
        {"inner_steps": 0},
        {"inner_objective": "ratio"},
        {"learn_inner_lr": "per_parameter"},
        {"inner_steps": 2, "learn_inner_lr": "per_step"},
        {"adapt_only_last_layer": True},
        {"exploration_coef": 1.0},
    ],
)
def test_meta_gradient_against_finite_differences(options):
    problem = doubled(problem_of(make(inner_lr=0.5, **options)))
    gradient = meta_gradient(problem)
    theta = problem.inner.theta()
    slow = []
    for parameter, index in ((p, i) for p in theta for i in range(p.numel())):
        values = []
        for change in (3e-6, -3e-6):
            with torch.no_grad():
                parameter.view(-1)[index] += change
            values.append(surrogate(problem).item())
            with torch.no_grad():
                parameter.view(-1)[index] -= change
        slow.append((values[0] - values[1]) / 6e-6)
    assert gradient == pytest.approx(np.array(slow), abs=1e-8)
    assert gradient.abs().max() > 1e-3


def test_meta_gradient_against_a_loop_over_tasks():
    problem = doubled(problem_of(make(inner_lr=0.5, inner_steps=2)))
    named = problem.inner.policy.named_parameters()
    theta = {name: p.detach().clone() for name, p in named}
    leaves = {name: p.requires_grad_() for name, p in theta.items()}

    def log_probs(parameters, batch, task):
        real = batch.mask[task].bool()
        x = batch.observations[task][real]
        hidden = torch.tanh(x @ parameters["weight0"] + parameters["bias0"])
        mean = hidden @ parameters["weight1"] + parameters["bias1"]
        std = parameters["log_std"].clamp(-5.0, 2.0).exp()
        normal = torch.distributions.Normal(mean, std)
        chosen = normal.log_prob(batch.actions[task][real]).sum(-1)
        return chosen, batch.advantages[task][real], batch.log_probs[task][real]

    losses = []
    for task in range(3):
        parameters = leaves
        for batch in problem.supports:
            chosen, advantages, _ = log_probs(parameters, batch, task)
            loss = -(chosen * advantages).mean()
            slopes = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
            parameters = {n: p - 0.5 * g for (n, p), g in zip(parameters.items(), slopes)}
        chosen, advantages, before = log_probs(parameters, problem.query, task)
        losses.append(-((chosen - before).exp() * advantages).mean())
    loss = torch.stack(losses).mean()
    slow = flatten(torch.autograd.grad(loss, list(leaves.values())))
    assert surrogate(problem).item() == pytest.approx(loss.item(), abs=1e-12)
    assert torch.allclose(meta_gradient(problem), slow, atol=1e-12)


def test_second_order_differs_from_first_order():
    problem = doubled(problem_of(make(inner_lr=0.5)))
    second = meta_gradient(problem)
    first = meta_gradient(with_inner(problem, first_order=True))
    # First order is the mean of the query gradients at the adapted parameters.
    after = problem.adapt(differentiable=False)
    adapted = {name: tensor.detach().requires_grad_() for name, tensor in after.items()}
    loss = problem.loss(problem.policies(adapted))
    direct = flatten([g.sum(0) for g in torch.autograd.grad(loss, list(adapted.values()))])
    assert torch.allclose(first, direct, atol=1e-12)
    assert (first - second).norm() > 0.01 * second.norm()


def test_ratio_has_the_gradient_of_log_prob_but_another_hessian():
    problem = doubled(problem_of(make(inner_lr=0.5)))
    # Exactly the policy that acted: sampling was in single precision.
    (support,) = problem.supports
    policy = problem.inner.policy
    with torch.no_grad():
        acted = policy(support.observations, policy.stacked(3))
    support = replace(support, log_probs=acted.log_prob(support.actions))
    problem = replace(problem, supports=[support])
    outcomes = []
    for objective in ("log_prob", "ratio"):
        present = with_inner(problem, inner_objective=objective)
        adapted = flatten(list(present.adapt(differentiable=False).values()))
        outcomes.append((adapted, meta_gradient(present)))
    assert torch.allclose(outcomes[0][0], outcomes[1][0], atol=1e-12)
    assert (outcomes[0][1] - outcomes[1][1]).norm() > 1e-3 * outcomes[0][1].norm()


def test_anil_adapts_nothing_but_the_last_layer():
    problem = problem_of(make(adapt_only_last_layer=True))
    before = problem.inner.policy.stacked(3)
    after = problem.adapt(differentiable=False)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"weight1", "bias1"}


def test_fisher_product_is_the_hessian_of_the_divergence():
    problem = doubled(problem_of(make(inner_lr=0.5, inner_steps=2)))
    theta = problem.inner.theta()
    adapted = problem.adapt(differentiable=False)
    with torch.no_grad():
        old = problem.policies(adapted)
    after = problem.policies(problem.adapt(differentiable=True))
    divergence = task_mean(kl_divergence(old, after), problem.query.mask).mean()
    slopes = flatten(torch.autograd.grad(divergence, theta, create_graph=True))
    hessian = torch.stack(
        [flatten(torch.autograd.grad(slope, theta, retain_graph=True)) for slope in slopes]
    )
    product = fisher_of(problem, adapted, damping=0.25, stride=1)
    eye = torch.eye(len(hessian), dtype=torch.float64)
    ours = torch.stack([product(row) for row in eye])
    assert torch.allclose(ours, hessian + 0.25 * eye, atol=1e-9)
    assert hessian.norm() > 0.1


def test_fisher_product_takes_any_function():
    theta = [torch.tensor([0.5, -1.0], dtype=torch.float64, requires_grad=True)]
    outputs = [torch.stack([theta[0][0] * theta[0][1], theta[0][1] ** 3])]
    inputs = [outputs[0].detach().clone().requires_grad_()]
    divergence = (inputs[0] - inputs[0].detach()).square().sum()
    product = fisher_product(theta, outputs, inputs, divergence, damping=0.0)
    jacobian = torch.tensor([[-1.0, 0.5], [0.0, 3.0]], dtype=torch.float64)
    vector = torch.tensor([0.3, 0.7], dtype=torch.float64)
    assert torch.allclose(product(vector), 2.0 * jacobian.T @ jacobian @ vector)


def test_conjugate_gradient_against_solve():
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(30, 30, generator=generator, dtype=torch.float64)
    matrix = factor @ factor.T + 0.5 * torch.eye(30, dtype=torch.float64)
    target = torch.randn(30, generator=generator, dtype=torch.float64)
    exact = torch.linalg.solve(matrix, target)
    solution, _ = conjugate_gradient(lambda v: matrix @ v, target, 60, tolerance=1e-20)
    assert torch.allclose(solution, exact, atol=1e-8)
    early, residual = conjugate_gradient(lambda v: matrix @ v, target, 5)
    assert torch.allclose(residual, target - matrix @ early)
    assert residual.norm() > 0.01 * target.norm()
    nothing, _ = conjugate_gradient(lambda v: matrix @ v, torch.zeros(30), 5)
    assert nothing.tolist() == [0.0] * 30


def test_line_search_shortens_until_both_conditions_hold():
    # The loss falls for steps below 1, the divergence is the square of the step.
    found = line_search(
        lambda step: (float(step**2 - step), float(step**2)), torch.tensor(2.0), 0.0, 0.5
    )
    # Trying every length would take six; the first divergence of 4 rules out four.
    assert found.num_tries == 3
    assert float(found.step) == pytest.approx(2.0 * 0.8**5)
    assert found.kl <= 0.5
    failed = line_search(lambda step: (1.0, 0.0), torch.tensor(2.0), 0.0, 0.5)
    assert float(failed.step) == 0.0
    assert failed.num_tries == 15
    for kl in (0.0, float("nan"), float("inf")):
        nan = line_search(lambda step, kl=kl: (float("nan"), kl), torch.tensor(2.0), 0.0, 0.5)
        assert (float(nan.step), nan.num_tries) == (0.0, 15)


def test_no_second_order_graph_and_a_fixed_old_policy_in_the_line_search(monkeypatch):
    problem = problem_of(make(meta_batch_size=10, episodes_per_adaptation=10))
    step = problem.inner.step
    graphs = []

    def spy(*args, differentiable=False, **kwargs):
        graphs.append(differentiable)
        return step(*args, differentiable=differentiable, **kwargs)

    old = problem.policies(problem.adapt(differentiable=False))
    monkeypatch.setattr(problem.inner, "step", spy)
    measures = trpo_step(problem, max_kl=0.01, cg_iterations=10, cg_damping=1e-5, fisher_stride=1)
    # One graph for the gradient, one for the Fisher products, none in the line search.
    assert sorted(graphs) == [False] * measures["line_search_tries"] + [True] * 2
    # A divergence from the policy as it is now, not as it was, would be zero.
    after = problem.policies(problem.adapt(differentiable=False))
    divergence = task_mean(kl_divergence(old, after), problem.query.mask).mean()
    assert measures["kl"] == pytest.approx(divergence.item(), rel=1e-4)
    assert measures["kl"] > 0.0


def test_linear_baseline_against_a_fit_for_each_task():
    generator = np.random.default_rng(0)
    lengths = generator.integers(2, 12, (3, 5))
    mask = (np.arange(12)[:, None, None] < lengths).astype(np.float32)
    observations = generator.normal(0.0, 4.0, (12, 3, 5, 2)).astype(np.float32)
    rewards = generator.normal(size=(12, 3, 5)).astype(np.float32) * mask
    returns = discounted_returns(torch.as_tensor(rewards).flatten(1), 0.9).reshape(12, 3, 5)
    values = linear_baseline(torch.as_tensor(observations), returns, torch.as_tensor(mask))
    for task in range(3):
        rows, targets, places = [], [], []
        for episode in range(5):
            for t in range(lengths[task, episode]):
                o = np.clip(observations[t, task, episode], -10.0, 10.0).astype(np.float64)
                clock = t / 100.0
                rows.append([*o, *o**2, clock, clock**2, clock**3, 1.0])
                rest = rewards[t : lengths[task, episode], task, episode]
                targets.append(sum(0.9**k * reward for k, reward in enumerate(rest)))
                places.append((t, task, episode))
        x, y = np.array(rows), np.array(targets)
        weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(8), x.T @ y)
        ours = np.array([values[place].item() for place in places])
        assert ours == pytest.approx(x @ weights, abs=1e-4)


def test_the_baseline_is_refitted_in_each_round():
    """Rewards of the second round are ten times larger: a stale fit would miss them."""
    observations = torch.rand(6, 1, 4, 2, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(6, 1, 4)
    small = linear_baseline(observations, observations.sum(-1), mask)
    large = linear_baseline(observations, 10.0 * observations.sum(-1), mask)
    assert torch.allclose(large, 10.0 * small, atol=1e-2)
    assert torch.allclose(large, 10.0 * observations.sum(-1), atol=1e-2)


@pytest.mark.parametrize("size", [78, 256, 300])  # matrices of 160 and of 516 rows, the largest
def test_large_observations_are_fitted_in_several_threads(size):
    generator = np.random.default_rng(0)
    observations = generator.normal(0.0, 4.0, (20, 3, 10, size)).astype(np.float32)
    returns = generator.normal(size=(20, 3, 10)).astype(np.float32)
    mask = (np.arange(20)[:, None, None] < generator.integers(10, 21, (3, 10))).astype(np.float32)
    given = [torch.from_numpy(part) for part in (observations, returns, mask)]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        values = linear_baseline(*given)
    finally:
        torch.set_num_threads(before)
    if size == 300:
        observations = (given[0] @ _projection(given[0])).numpy()
    clock = np.broadcast_to(np.arange(20.0)[:, None, None] / 100.0, (20, 10, 1))
    for task in range(3):
        o = np.clip(observations[:, task], -10.0, 10.0).astype(np.float64)
        rows = np.concatenate([o, o**2, clock, clock**2, clock**3, np.ones_like(clock)], axis=2)
        real = mask[:, task] > 0
        # Ridge regression as least squares: each weight has a row of its own.
        x = np.concatenate([rows[real], RIDGE**0.5 * np.eye(rows.shape[2])])
        y = np.concatenate([returns[:, task][real], np.zeros(rows.shape[2])])
        weights, *_ = np.linalg.lstsq(x, y, rcond=None)
        ours = values[:, task].numpy()
        assert ours[real] == pytest.approx(rows[real] @ weights, abs=1e-4)
        assert (ours[~real] == 0.0).all()


def test_a_ridge_that_rounding_swallows_is_raised_for_that_task_alone():
    column = torch.arange(1.0, 41.0, dtype=torch.float64)
    singular = 1e9 * column[:, None] * column  # of rank one, and so large that 1e-5 is lost in it
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(100, 40, generator=generator, dtype=torch.float64)
    gram = torch.stack([singular, rows.T @ rows])
    targets = gram @ torch.ones(2, 40, 1, dtype=torch.float64)
    assert torch.linalg.cholesky_ex(gram + RIDGE * torch.eye(40))[1].tolist()[0] > 0
    weights = _solve(gram, targets)
    torch.testing.assert_close(gram @ weights, targets, rtol=1e-5, atol=0.0)
    torch.testing.assert_close(weights[1:], _solve(gram[1:], targets[1:]))


@pytest.mark.parametrize("inner_objective", ["log_prob", "ratio"])
def test_no_gradient_comes_from_the_padding(inner_objective):
    problem = problem_of(make(inner_objective=inner_objective))

    def spoilt(batch):
        assert batch.mask.min() == 0.0
        likely = torch.where(batch.mask > 0, batch.log_probs, -1e4)  # their ratio overflows
        return replace(batch, log_probs=likely)

    supports = [spoilt(batch) for batch in problem.supports]
    padded = replace(problem, supports=supports, query=spoilt(problem.query))
    assert torch.equal(meta_gradient(padded), meta_gradient(problem))


@pytest.mark.parametrize(("episodes", "stride"), [(20, 20), (20, 10), (4, 2), (5, 1)])
def test_thinned_batches_have_steps_of_all_episodes_and_times(episodes, stride):
    agent = make(walk(length=9.0), episodes_per_adaptation=episodes)
    (support, _) = collected(agent)
    places = torch.arange(9 * episodes).expand(3, -1)  # time * K + episode, of each task
    thin = replace(support, advantages=places, mask=torch.ones_like(places)).thin(stride)
    kept = thin.advantages[0]
    assert len(kept) == pytest.approx(9 * episodes / stride, rel=0.35)
    num_episodes = len(set((kept % episodes).tolist()))
    assert num_episodes == min(episodes, len(kept))
    assert len(set((kept // episodes).tolist())) == min(9, len(kept))
