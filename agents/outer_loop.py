"""The outer loop of MAML: updates of what is common to all tasks, through their inner steps."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch.distributions import Distribution, kl_divergence

from metarl.agents.inner_loop import Batch, task_mean
from metarl.agents.stacked import Stacked
from metarl.agents.trpo import (
    Product,
    conjugate_gradient,
    fisher_product,
    flatten,
    line_search,
    unflatten,
)

if TYPE_CHECKING:
    from metarl.agents.maml import MAML

Supports = Sequence[Batch]
"""The episodes before each inner step."""


def outer_loss(
    agent: "MAML", supports: Supports, query: Batch, after: Distribution, clip: float = math.inf
) -> torch.Tensor:
    """Return minus the surrogate of the query, and minus E-MAML's term if it has a weight.

    Args:
        agent: The agent.
        supports: The episodes before each inner step.
        query: The episodes after the last.
        after: The policies after the last, at the query's observations.
        clip: How far the ratio may move from 1 (PPO).

    Returns:
        A scalar, the mean over tasks.
    """
    ratio = (after.log_prob(query.actions) - query.log_probs).exp()
    clipped = ratio.clamp(1.0 - clip, 1.0 + clip)
    gain = torch.minimum(ratio * query.advantages, clipped * query.advantages)
    loss = -task_mean(gain, query.mask).mean()
    if agent.exploration_coef and supports:
        first = supports[0]
        before = agent.policy(first.observations, agent.policy.stacked(len(query.returns)))
        weight = (query.returns - query.returns.mean()) / (query.returns.std() + 1e-8)
        likelihood = task_mean(before.log_prob(first.actions), first.mask)
        loss = loss - agent.exploration_coef * (weight * likelihood).mean()
    return loss


def trpo_step(agent: "MAML", supports: Supports, query: Batch) -> None:
    """Take a step of trust-region policy optimisation (Schulman et al. 2015)."""
    theta = agent.theta()
    adapted = agent.adapt(supports, differentiable=True)
    after = agent.policy(query.observations, adapted)
    loss = outer_loss(agent, supports, query, after)
    gradient = flatten(torch.autograd.grad(loss, theta, materialize_grads=True))
    product = fisher_of(agent, supports, query, adapted)
    direction, residual = conjugate_gradient(product, -gradient, agent.cg_iterations)
    curvature = direction.dot(-gradient - residual)
    full_step = (2.0 * agent.max_kl / (curvature + 1e-12)).sqrt() * direction
    move_within_trust_region(agent, supports, query, after, full_step)
    agent.logger.record("train/outer_grad_norm", float(gradient.norm()))


def move_within_trust_region(
    agent: "MAML",
    supports: Supports,
    query: Batch,
    old: Distribution,
    full_step: torch.Tensor,
    shrink: float = 0.8,
) -> None:
    """Take a step, shortened until the query's loss falls and adapted policies stay close.

    Args:
        agent: The agent, with the parameters before the step.
        supports: The episodes before each inner step.
        query: The episodes after the last.
        old: The policies after the last before the step, at the query's observations.
        full_step: By how much theta is to change, flat.
        shrink: The factor between two tries.
    """
    theta = agent.theta()
    old_theta = [parameter.detach().clone() for parameter in theta]

    def move(step: torch.Tensor) -> None:
        with torch.no_grad():
            for parameter, start, change in zip(theta, old_theta, unflatten(step, theta)):
                parameter.copy_(start + change)

    def evaluate(step: torch.Tensor) -> tuple[float, float]:
        move(step)
        adapted = agent.adapt(supports, differentiable=False)
        with torch.no_grad():
            after = agent.policy(query.observations, adapted)
            divergence = task_mean(kl_divergence(old, after), query.mask).mean()
            return float(outer_loss(agent, supports, query, after)), float(divergence)

    with torch.no_grad():
        before = float(outer_loss(agent, supports, query, old))
    found = line_search(evaluate, full_step, before, agent.max_kl, shrink=shrink)
    move(found.step)
    agent.logger.record("train/loss_before", before)
    agent.logger.record("train/loss_after", found.loss)
    agent.logger.record("train/kl", found.kl)
    agent.logger.record("train/line_search_tries", found.num_tries)


def fisher_of(agent: "MAML", supports: Supports, query: Batch, adapted: Stacked) -> Product:
    """Return the product with the Hessian, by theta, of the mean divergence after adaptation."""
    few = query.thin(agent.fisher_stride)
    leaves = {name: t.detach().clone().requires_grad_() for name, t in adapted.items()}
    after = agent.policy(few.observations, leaves)
    with torch.no_grad():
        old = agent.policy(few.observations, leaves)
    divergence = task_mean(kl_divergence(old, after), few.mask).mean()
    thinned = [batch.thin(agent.fisher_stride) for batch in supports]
    outputs = list(agent.adapt(thinned, differentiable=True).values())
    inputs = list(leaves.values())
    return fisher_product(agent.theta(), outputs, inputs, divergence, agent.cg_damping)


def ppo_steps(agent: "MAML", supports: Supports, query: Batch) -> None:
    """Take some steps of proximal policy optimisation, each through the inner steps anew.

    Together they are one step of a trust region: Adam's first steps have full length in every
    parameter, and a gradient step through inner steps can throw the adapted policies far away.
    """
    optimizer = agent._optimizers["optimizer"]
    theta = agent.theta()
    start = flatten(theta).detach()
    old = None
    for _ in range(agent.n_epochs):
        after = agent.policy(query.observations, agent.adapt(supports, differentiable=True))
        old = after if old is None else old
        loss = outer_loss(agent, supports, query, after, agent.clip_range)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert old is not None
    full_step = flatten(theta).detach() - start
    with torch.no_grad():
        for parameter, value in zip(theta, unflatten(start, theta)):
            parameter.copy_(value)
    # Nothing bounds how far they went: halving finds a step that is thousands of times shorter.
    move_within_trust_region(agent, supports, query, old, full_step, shrink=0.5)


def reptile_step(agent: "MAML", supports: Supports, query: Batch) -> None:
    """Move towards the mean of the adapted parameters (Nichol et al. 2018).

    The query makes one more inner step: all that was collected is learned from.
    """
    adapted = agent.adapt([*supports, query], differentiable=False)
    with torch.no_grad():
        for name, parameter in agent.policy.named_parameters():
            parameter.lerp_(adapted[name].mean(0), agent.learning_rate)


OUTER_UPDATES: dict[str, Callable[["MAML", Supports, Batch], None]] = {
    "trpo": trpo_step,
    "ppo": ppo_steps,
    "reptile": reptile_step,
}
