"""Acting and learning by inner steps: K episodes of every task in parallel, then a step."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.agents.common.losses import (
    discounted_returns,
    generalized_advantages,
    masked,
    standardize,
)
from metarl.agents.common.noise import ActionNoise
from metarl.agents.maml.inner import Batch, InnerLoop, mean_norm
from metarl.agents.maml.linear_baseline import linear_baseline
from metarl.agents.maml.policy import Stacked, StackedPolicy
from metarl.agents.training.learner import NO_MEMORY
from metarl.agents.training.session import Tensors, find_numbered, numbered
from metarl.batches import as_batch, take
from metarl.errors import found_in
from metarl.evaluation.adaptation import Transition, check_rows
from metarl.spaces import Values, flatten

Array = NDArray[Any]


class GradientAdaptation:
    """Gradient-based adaptation: after each round of K episodes, one step for every task.

    Episodes are acted with the parameters as of the round's start. In a round every task counts
    K whole episodes, whatever their lengths: side by side in K environments, or one after another
    in one.

    Args:
        inner: The policy and its inner steps; only read.
        observation_space: The observation space of the environments.
        num_tasks: The number of tasks, M.
        num_episodes: K, the episodes of a round.
        noise: Draws the actions.
        sequential: Whether each task has one environment, not K.

    Attributes:
        parameters: The present parameters of every task.
        num_inner_steps: How many steps were taken.
    """

    synchronous = True
    at_test: ClassVar[bool] = True
    """Whether inner steps have the step sizes of test instead of those of training."""

    def __init__(
        self,
        inner: InnerLoop,
        observation_space: spaces.Space[Any],
        num_tasks: int,
        num_episodes: int,
        noise: ActionNoise,
        sequential: bool = False,
    ):
        self._inner = inner
        self._space = observation_space
        self._shape = (num_tasks, 1 if sequential else num_episodes)
        self._passes = num_episodes if sequential else 1
        self._passed: list[tuple[torch.Tensor, ...]] = []
        self._noise = noise
        self.parameters = {n: p.detach() for n, p in inner.policy.stacked(num_tasks).items()}
        self.num_inner_steps = 0
        self._clear()

    def _clear(self) -> None:
        # Observations, actions and the policy's outputs; each step of shape (M, K, ...).
        self._acted: tuple[list[torch.Tensor], ...] = ([], [], [])
        self._rewards: list[Array] = []
        self._active: list[Array] = []
        self._ended = np.zeros(self._shape[0] * self._shape[1], dtype=np.bool_)

    def act(self, observations: Values) -> Values:
        check_rows(observations, len(self._ended))
        # The step is taken when the next round begins: the last round needs no update.
        if self._ended.all():
            self._end_pass()
            self._noise.restart()
        policy = self._inner.policy
        rows = torch.from_numpy(flatten(self._space, observations))
        # The program goes on while a GPU takes them; it must wait for the actions alone.
        seen = rows.to(self._noise.device, non_blocking=True).reshape(*self._shape, -1)
        with torch.no_grad():
            outputs = policy.outputs(seen, self.parameters)
            actions = policy.sample(outputs, self.parameters, self._noise)
        for steps, values in zip(self._acted, (seen, actions, outputs)):
            steps.append(values)
        return policy.head.to_env(actions.flatten(0, 1))

    def observe(self, transition: Transition) -> None:
        # Steps after a lane's episode, before the round is over, are not part of the round.
        self._rewards.append(np.array(transition.rewards, dtype=np.float32))  # may be reused
        self._active.append(transition.active & ~self._ended)
        self._ended |= transition.active & transition.episode_end

    def _end_pass(self) -> None:
        """Store the episodes that have ended; learn if they complete the round."""
        self._passed.append(self._take_pass())
        if len(self._passed) == self._passes:
            self._learn()

    def _learn(self) -> Sequence[torch.Tensor]:
        """Take the round's gradient step; return the gradients, each of shape (M, *shape)."""
        step, self.num_inner_steps = self.num_inner_steps, self.num_inner_steps + 1
        before = {name: tensor.requires_grad_() for name, tensor in self.parameters.items()}
        after, gradients = self._inner.step(before, self.take_batch(), step, at_test=self.at_test)
        self.parameters = {name: tensor.detach() for name, tensor in after.items()}
        return gradients

    def _take_pass(self) -> tuple[torch.Tensor, ...]:
        """Return and clear the recorded observations, actions, outputs, rewards and mask."""
        seen, actions, outputs = (torch.stack(steps) for steps in self._acted)  # (time, M, K, ...)
        rewards, mask = (
            torch.as_tensor(np.stack(steps), dtype=torch.float32, device=seen.device)
            for steps in (self._rewards, self._active)
        )
        self._clear()
        shape = (-1, *self._shape)
        return seen, actions, outputs, masked(rewards, mask).reshape(shape), mask.reshape(shape)

    def take_batch(self) -> Batch:
        """Return and clear the completed round."""
        options = self._inner.options
        passed, self._passed = self._passed or [self._take_pass()], []
        seen, actions, outputs, rewards, mask = map(_side_by_side, zip(*passed))
        shape = rewards.shape  # (time, M, K)
        rewards, mask = rewards.flatten(1), mask.flatten(1)
        returns = discounted_returns(rewards, options.gamma).reshape(shape)
        values = linear_baseline(seen, returns, mask.reshape(shape))
        advantages = generalized_advantages(
            rewards, values.flatten(1), mask, options.gamma, options.gae_lambda
        )
        parts = {
            "observations": seen,
            "actions": actions,
            "outputs": outputs,
            "advantages": advantages.reshape(shape),
            "mask": mask.reshape(shape),
        }
        # A task's steps in one row: (M, time * K, ...).
        parts = {name: part.transpose(0, 1).flatten(1, 2) for name, part in parts.items()}
        real = parts["mask"]
        shortest, longest = (int(count) for count in real.sum(1).aminmax())
        if shortest < real.shape[1]:  # episodes ended early: move the padding to the end, cut it
            order = real.argsort(dim=1, descending=True, stable=True)[:, :longest]
            parts = {name: _take(part, order) for name, part in parts.items()}
        with torch.no_grad():
            distribution = self._inner.policy.distribution(parts["outputs"], self.parameters)
            log_probs = distribution.log_prob(parts["actions"])
        return Batch(
            observations=parts["observations"],
            actions=parts["actions"],
            log_probs=log_probs,
            advantages=standardize(parts["advantages"], parts["mask"], dim=1),
            mask=parts["mask"],
            returns=rewards.sum(0).reshape(shape[1:]).mean(1),
            num_episodes=shape[2],
        )

    def state(self) -> Tensors:
        """Return all that it continues from: adapted weights, and the episodes of the round."""
        tensors = {f"parameters.{name}": tensor for name, tensor in self.parameters.items()}
        tensors |= {"noise": self._noise.state(), "ended": torch.from_numpy(self._ended)}
        tensors["num_inner_steps"] = torch.tensor(self.num_inner_steps)
        for index, parts in enumerate(self._passed):
            tensors |= numbered(f"passed.{index}", parts)
        if self._rewards:  # the steps of the present episode, each of shape (time, ...)
            tensors |= numbered("acted", map(torch.stack, self._acted))
            tensors |= numbered("observed", map(np.stack, (self._rewards, self._active)))
        return tensors

    def restore_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over what :meth:`state` gave."""
        device = self._noise.device
        self.parameters = {n: tensors[f"parameters.{n}"].to(device) for n in self.parameters}
        self.num_inner_steps = int(tensors["num_inner_steps"])
        self._noise.restore_state(tensors["noise"])
        self._clear()
        self._ended = tensors["ended"].numpy().copy()
        self._passed = []
        while parts := find_numbered(f"passed.{len(self._passed)}", tensors):
            self._passed.append(tuple(part.to(device) for part in parts))
        for steps, acted in zip(self._acted, find_numbered("acted", tensors)):
            steps += acted.to(device).unbind()
        for kept, observed in zip(
            (self._rewards, self._active), find_numbered("observed", tensors)
        ):
            kept += list(observed.numpy())

    def policy(self, task: int = 0) -> "AdaptedPolicy":
        """Return the present policy of one task, for SB3's ``evaluate_policy``."""
        if self._ended.all():
            self._end_pass()
        own = {name: tensor[task : task + 1] for name, tensor in self.parameters.items()}
        return AdaptedPolicy(self._inner.policy, self._space, own, self._noise)


def _take(values: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Return the rows ``order``, of shape (M, n), of each task."""
    index = order.reshape(*order.shape, *[1] * (values.ndim - 2))
    return values.take_along_dim(index, 1)


def _side_by_side(passes: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return passes of shape (time, M, k, ...) as one, the shorter ones padded at their ends."""
    if len(passes) == 1:
        return passes[0]
    longest = max(map(len, passes))
    padded = [
        torch.cat([part, part.new_zeros(longest - len(part), *part.shape[1:])]) for part in passes
    ]
    return torch.cat(padded, dim=2)


class RolloutBuffer(GradientAdaptation):
    """The adaptation in training, keeping what the outer loop needs of every round."""

    at_test = False

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.batches: list[Batch] = []
        self.gradient_norms: list[torch.Tensor] = []

    def _learn(self) -> Sequence[torch.Tensor]:
        gradients = super()._learn()
        self.gradient_norms.append(mean_norm(gradients))
        return gradients

    def take_batch(self) -> Batch:
        self.batches.append(super().take_batch())
        return self.batches[-1]


class AdaptedPolicy:
    """The policy of one task, with SB3's ``predict``.

    Args:
        policy: The policy.
        observation_space: The observation space of the environments.
        parameters: The parameters of one task, stacked: each of shape (1, *shape).
        noise: Draws the actions; None takes the most likely ones.
    """

    def __init__(
        self,
        policy: StackedPolicy,
        observation_space: spaces.Space[Any],
        parameters: Stacked,
        noise: ActionNoise | None,
    ):
        self._policy = policy
        self._space = observation_space
        self._parameters = parameters
        self._noise = noise

    def predict(
        self,
        observation: Values,
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Values, tuple[Array, ...] | None]:
        """Choose actions. SB3's signature; there is no state.

        Args:
            observation: One observation, or a batch of shape (n, *observation_shape).
            state: Ignored, returned as it came.
            episode_start: Ignored.
            deterministic: Whether to take the most likely action instead of sampling.

        Returns:
            The actions and the state.

        Raises:
            ValueError: If the observation has another shape.
        """
        with found_in(NO_MEMORY):
            batch, single = as_batch(self._space, observation)
        rows = flatten(self._space, batch)
        with torch.no_grad():
            seen = torch.from_numpy(rows).to(self._parameters["weight0"].device)[None]
            outputs = self._policy.outputs(seen, self._parameters)
            noise = None if deterministic else self._noise
            sampled = self._policy.sample(outputs, self._parameters, noise)[0]
        actions = self._policy.head.to_env(sampled)
        return (take(actions, 0) if single else actions), state
