"""The outer loop of MAML: updates of the shared parameters, through the tasks' inner steps."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.distributions import Distribution, kl_divergence

from metarl.agents.common.losses import masked, task_mean
from metarl.agents.common.trust_region import (
    Product,
    conjugate_gradient,
    fisher_product,
    flatten,
    line_search,
    unflatten,
)
from metarl.agents.maml.inner import Batch, InnerLoop
from metarl.agents.maml.policy import Stacked
from metarl.agents.training.ranks import ALONE, Ranks

Measures = dict[str, float]
"""The measures of an update, for the log."""


@dataclass(frozen=True)
class MetaProblem:
    """The objective of an outer update: the return after inner steps, on collected episodes.

    Attributes:
        inner: The policy, its inner steps and their rates.
        supports: The episodes before each inner step.
        query: The episodes after the last.
        exploration_coef: The weight of E-MAML's term.
        ranks: The processes that have the other tasks. Means over tasks are over this process's;
            those of all are reduced here.
    """

    inner: InnerLoop
    supports: Sequence[Batch]
    query: Batch
    exploration_coef: float = 0.0
    ranks: Ranks = ALONE

    def gradient(self, loss: torch.Tensor) -> list[torch.Tensor]:
        """Return the gradient by theta of the mean of all processes' losses."""
        theta = self.inner.theta()
        return self.ranks.mean(*torch.autograd.grad(loss, theta, materialize_grads=True))

    def adapt(self, *, differentiable: bool) -> Stacked:
        """Return every task's parameters after the inner steps."""
        num_tasks = len(self.query.returns)
        return self.inner.adapt(self.supports, num_tasks, differentiable=differentiable)

    def policies(self, adapted: Stacked) -> Distribution:
        """Return the policies with these parameters, at the query's observations."""
        policies: Distribution = self.inner.policy(self.query.observations, adapted)
        return policies

    def loss(self, after: Distribution, clip: float = math.inf) -> torch.Tensor:
        """Return minus the surrogate of the query, and minus E-MAML's term if it has a weight.

        Args:
            after: The policies after the last inner step, at the query's observations.
            clip: How far the ratio may move from 1 (PPO).

        Returns:
            A scalar, the mean over this process's tasks.
        """
        query, policy = self.query, self.inner.policy
        ratio = masked(after.log_prob(query.actions) - query.log_probs, query.mask).exp()
        clipped = ratio.clamp(1.0 - clip, 1.0 + clip)
        gain = torch.minimum(ratio * query.advantages, clipped * query.advantages)
        loss = -task_mean(gain, query.mask).mean()
        if self.exploration_coef and self.supports:
            # Episodes before the step are credited with the return after it (Stadie et al. 2018).
            first = self.supports[0]
            before = policy(first.observations, policy.stacked(len(query.returns)))
            every = self.ranks.gather(query.returns)
            weight = (query.returns - every.mean()) / (every.std() + 1e-8)
            likelihood = task_mean(before.log_prob(first.actions), first.mask)
            loss = loss - self.exploration_coef * (weight * likelihood).mean()
        return loss


def trpo_step(
    problem: MetaProblem,
    *,
    max_kl: float,
    cg_iterations: int,
    cg_damping: float,
    fisher_stride: int,
) -> Measures:
    """Take a step of trust-region policy optimisation (Schulman et al. 2015).

    Args:
        problem: What to improve; its parameters change.
        max_kl: The radius of the trust region.
        cg_iterations: The number of Fisher-vector products.
        cg_damping: Added to the Fisher matrix's diagonal.
        fisher_stride: The products take every ``fisher_stride``-th step of the episodes.
    """
    adapted = problem.adapt(differentiable=True)
    after = problem.policies(adapted)
    loss = problem.loss(after)
    gradient = flatten(problem.gradient(loss))
    product = fisher_of(problem, adapted, cg_damping, fisher_stride)
    direction, residual = conjugate_gradient(product, -gradient, cg_iterations)
    # direction' F direction without one more product: F direction = -gradient - residual.
    curvature = direction.dot(-gradient - residual)
    full_step = (2.0 * max_kl / (curvature + 1e-12)).sqrt() * direction
    measures = move_within_trust_region(problem, after, full_step, max_kl)
    return {**measures, "outer_grad_norm": float(gradient.norm())}


def fisher_of(problem: MetaProblem, adapted: Stacked, damping: float, stride: int) -> Product:
    """Return the product with the Hessian, by theta, of the mean divergence after adaptation.

    The mean is over the tasks of all processes.
    """
    inner, few = problem.inner, problem.query.thin(stride)
    leaves = {name: t.detach().clone().requires_grad_() for name, t in adapted.items()}
    after = inner.policy(few.observations, leaves)
    with torch.no_grad():
        old = inner.policy(few.observations, leaves)
    divergence = task_mean(kl_divergence(old, after), few.mask).mean()
    thinned = [batch.thin(stride) for batch in problem.supports]
    outputs = inner.adapt(thinned, len(few.returns), differentiable=True)
    of_own = fisher_product(
        inner.theta(), list(outputs.values()), list(leaves.values()), divergence, damping
    )
    return lambda vector: problem.ranks.mean(of_own(vector))[0]


def ppo_steps(
    problem: MetaProblem,
    optimizer: torch.optim.Optimizer,
    *,
    n_epochs: int,
    clip_range: float,
    max_kl: float,
) -> Measures:
    """Take some steps of proximal policy optimisation, each through the inner steps again.

    Together they are one step of a trust region: Adam's first steps have full length in every
    parameter, and a gradient step through inner steps can throw the adapted policies far away.
    If no part of the step is accepted, Adam's moments return to what they were; if it is
    shortened, they stay those of the whole step.

    Args:
        problem: What to improve; its parameters change.
        optimizer: Of ``problem.inner.theta()``.
        n_epochs: How many steps.
        clip_range: How far the ratio may move from 1.
        max_kl: The radius of the trust region.
    """
    theta = problem.inner.theta()
    start = flatten(theta).detach()
    moments = copy.deepcopy(optimizer.state_dict())
    old = None
    for _ in range(n_epochs):
        after = problem.policies(problem.adapt(differentiable=True))
        old = after if old is None else old
        gradient = problem.gradient(problem.loss(after, clip_range))
        for parameter, slope in zip(theta, gradient):
            parameter.grad = slope
        optimizer.step()
    assert old is not None
    full_step = flatten(theta).detach() - start
    with torch.no_grad():
        for parameter, value in zip(theta, unflatten(start, theta)):
            parameter.copy_(value)
    # The steps are unbounded: halving can shorten them thousands of times.
    measures = move_within_trust_region(problem, old, full_step, max_kl, shrink=0.5)
    if torch.equal(flatten(theta), start):  # no length was accepted: nothing has happened
        optimizer.load_state_dict(moments)
    return measures


def move_within_trust_region(
    problem: MetaProblem,
    old: Distribution,
    full_step: torch.Tensor,
    max_kl: float,
    shrink: float = 0.8,
) -> Measures:
    """Take a step, shortened until the query's loss falls and adapted policies stay close.

    Args:
        problem: The objective, with the parameters before the step.
        old: The policies after the last inner step before this step, at the query's observations.
        full_step: By how much theta is to change, flat.
        max_kl: The radius of the trust region.
        shrink: The factor between two tries.
    """
    theta = problem.inner.theta()
    old_theta = [parameter.detach().clone() for parameter in theta]

    def move(step: torch.Tensor) -> None:
        with torch.no_grad():
            for parameter, start, change in zip(theta, old_theta, unflatten(step, theta)):
                parameter.copy_(start + change)

    def evaluate(step: torch.Tensor) -> tuple[float, float]:
        move(step)
        adapted = problem.adapt(differentiable=False)
        with torch.no_grad():  # values are enough here: no graph through the inner steps
            after = problem.policies(adapted)
            divergence = task_mean(kl_divergence(old, after), problem.query.mask).mean()
            loss, divergence = problem.ranks.mean(problem.loss(after), divergence)
            return float(loss), float(divergence)

    with torch.no_grad():
        before = float(problem.ranks.mean(problem.loss(old))[0])
    found = line_search(evaluate, full_step, before, max_kl, shrink=shrink)
    move(found.step)
    return {
        "loss_before": before,
        "loss_after": found.loss,
        "kl": found.kl,
        "line_search_tries": found.num_tries,
    }


def reptile_step(problem: MetaProblem, optimizer: torch.optim.Optimizer) -> Measures:
    """Move towards the adapted parameters (Nichol et al. 2018, section 3).

    Their mean displacement is the optimiser's gradient. The query makes one more inner step, so all
    collected episodes are learned from.

    Args:
        problem: What to improve; its parameters change.
        optimizer: Of ``problem.inner.theta()``.
    """
    inner, num_tasks = problem.inner, len(problem.query.returns)
    adapted = inner.adapt([*problem.supports, problem.query], num_tasks, differentiable=False)
    names, parameters = zip(*inner.policy.named_parameters())
    with torch.no_grad():
        # Zero, not rounding, where nothing moved: the optimiser would make a step of it.
        moved = [(p - adapted[name]).mean(0) for name, p in zip(names, parameters)]
        for parameter, slope in zip(parameters, problem.ranks.mean(*moved)):
            parameter.grad = slope
    optimizer.step()
    return {}
