"""The inner loop of MAML: a policy-gradient step for every task, on its own episodes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from metarl.agents.common.losses import masked, task_mean
from metarl.agents.maml.policy import Stacked, StackedPolicy


@dataclass(frozen=True)
class Batch:
    """The data of one round: K episodes of each of M tasks, task by task.

    Attributes:
        observations: Of shape (M, n, size), where n is the largest number of steps of a task.
        actions: As sampled, of shape (M, n) or (M, n, action_size).
        advantages: Standardised for each task, of shape (M, n), zero in the padding.
        mask: 1 where a step is real and 0 in the padding, of shape (M, n).
        log_probs: Of the actions, when they were taken, of shape (M, n).
        returns: The mean return of the K episodes, of shape (M,).
        num_episodes: K.
    """

    observations: torch.Tensor
    actions: torch.Tensor
    advantages: torch.Tensor
    mask: torch.Tensor
    log_probs: torch.Tensor
    returns: torch.Tensor
    num_episodes: int

    def thin(self, stride: int) -> "Batch":
        """Return every ``stride``-th step, or a little fewer.

        The steps of K episodes take turns: a stride with a factor in common with K would leave out
        whole episodes.
        """
        while math.gcd(stride, self.num_episodes) > 1:
            stride += 1
        names = ("observations", "actions", "advantages", "mask", "log_probs")
        return replace(self, **{name: getattr(self, name)[:, ::stride] for name in names})


@dataclass(frozen=True)
class InnerOptions:
    """How inner steps are taken; see :class:`metarl.agents.maml.MAMLConfig`."""

    inner_steps: int
    inner_lr: float
    learn_inner_lr: Literal["per_step", "per_parameter"] | None
    halve_inner_lr: bool
    inner_objective: Literal["log_prob", "ratio"]
    adapt_only_last_layer: bool
    first_order: bool
    gamma: float
    gae_lambda: float


class InnerLoop:
    """Inner steps from the parameters that all tasks share to those of each task.

    Args:
        policy: The policy.
        options: How steps are taken.

    Attributes:
        rates: The inner step sizes that are learned, if any.
    """

    def __init__(self, policy: StackedPolicy, options: InnerOptions):
        self.policy = policy
        self.options = options
        self._names = [
            name
            for name, _ in policy.named_parameters()
            if not options.adapt_only_last_layer or name in policy.last_layer
        ]
        rates: dict[str, torch.Tensor] = {}
        if options.learn_inner_lr == "per_step":
            rates["steps"] = torch.full((options.inner_steps,), options.inner_lr)
        elif options.learn_inner_lr == "per_parameter":
            for name in self._names:
                rates[name] = torch.full_like(policy.get_parameter(name), options.inner_lr)
        device = next(policy.parameters()).device
        self.rates = nn.ParameterDict({n: nn.Parameter(rate) for n, rate in rates.items()})
        self.rates.to(device)

    def theta(self) -> list[nn.Parameter]:
        """Return what the outer loop learns: the policy's parameters and the inner rates."""
        return [*self.policy.parameters(), *self.rates.parameters()]

    def adapt(self, supports: Sequence[Batch], num_tasks: int, *, differentiable: bool) -> Stacked:
        """Return every task's parameters after the inner steps in training.

        Args:
            supports: The episodes of each step.
            num_tasks: The number of tasks.
            differentiable: Whether to differentiate the outcome by theta.
        """
        parameters = self.policy.stacked(num_tasks)
        # Acting made no graph: the steps are repeated here on the collected episodes.
        for step, batch in enumerate(supports):
            parameters, _ = self.step(parameters, batch, step, differentiable=differentiable)
        return parameters

    def step(
        self,
        parameters: Stacked,
        batch: Batch,
        step: int,
        *,
        at_test: bool = False,
        differentiable: bool = False,
    ) -> tuple[Stacked, Sequence[torch.Tensor]]:
        """Take one step up every task's policy gradient (Finn et al. 2017, eq. 4).

        Args:
            parameters: The parameters of every task, as part of a graph or as leaves.
            batch: Episodes acted with them.
            step: The number of steps before this one.
            at_test: Whether the step is taken at test; see :meth:`rate`.
            differentiable: Whether the outcome is to be differentiated.

        Returns:
            The new parameters, and the gradients, each of shape (num_tasks, *shape).
        """
        log_probs = self.policy(batch.observations, parameters).log_prob(batch.actions)
        if self.options.inner_objective == "ratio":
            # The same gradient at the parameters that acted, but another Hessian.
            log_probs = masked(log_probs - batch.log_probs, batch.mask).exp()
        # The sum's gradient by one task's parameters is that of the task's own objective: one
        # backward pass serves all tasks.
        objective = task_mean(log_probs * batch.advantages, batch.mask).sum()
        gradients = torch.autograd.grad(
            objective,
            [parameters[name] for name in self._names],
            create_graph=differentiable and not self.options.first_order,
        )
        updated = dict(parameters)
        for name, gradient in zip(self._names, gradients):
            updated[name] = parameters[name] + self.rate(name, step, at_test) * gradient
        return updated, gradients

    def rate(self, name: str, step: int, at_test: bool) -> torch.Tensor | float:
        """Return the step size of a parameter.

        In training, steps taken while acting are repeated to be differentiated, so the step size
        must be the same for both.

        Args:
            name: The parameter's name.
            step: The number of steps before this one.
            at_test: Whether the step is taken at test, where ``halve_inner_lr`` counts.
        """
        options = self.options
        rate: torch.Tensor | float = options.inner_lr
        if options.learn_inner_lr == "per_parameter":
            rate = self.rates[name]
        elif options.learn_inner_lr == "per_step":
            # At test there may be more steps than rates: the last rate serves them.
            rate = self.rates["steps"][min(step, options.inner_steps - 1)]
        return 0.5 * rate if at_test and options.halve_inner_lr and step > 0 else rate


def mean_norm(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the mean over tasks of the gradients' norm, a scalar."""
    squares = torch.stack([g.detach().flatten(1).square().sum(1) for g in gradients])
    return squares.sum(0).sqrt().mean()
