"""The inner loop of MAML: episodes of many tasks side by side, a gradient step for each task."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from metarl.agents.linear_baseline import linear_baseline
from metarl.agents.losses import discounted_returns, generalized_advantages, standardize
from metarl.agents.stacked import Stacked
from metarl.vector import flatten_observations

if TYPE_CHECKING:
    from metarl.agents.maml import MAML

Array = NDArray[Any]


@dataclass(frozen=True)
class Batch:
    """What was seen in one round: K episodes of each of M tasks, task by task.

    Attributes:
        observations: Of shape (M, n, size), where n is the largest number of steps of a task.
        actions: As sampled, of shape (M, n) or (M, n, action_size).
        advantages: Standardised for each task, of shape (M, n), zero in the padding.
        mask: 1 where a step is real and 0 in the padding, of shape (M, n).
        log_probs: Of the actions, when they were taken, of shape (M, n).
        returns: The mean return of the K episodes, of shape (M,).
    """

    observations: torch.Tensor
    actions: torch.Tensor
    advantages: torch.Tensor
    mask: torch.Tensor
    log_probs: torch.Tensor
    returns: torch.Tensor

    def thin(self, stride: int) -> "Batch":
        """Return every ``stride``-th step."""
        names = ("observations", "actions", "advantages", "mask", "log_probs")
        return replace(self, **{name: getattr(self, name)[:, ::stride] for name in names})


def task_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean over each task's real steps: (M, n) to (M,)."""
    return (values * mask).sum(1) / mask.sum(1)


class GradientAdaptation:
    """Gradient-based adaptation at work: after each round of K episodes, one step for every task.

    Episodes are acted with the parameters as of the round's start. In a round every task counts
    K whole episodes, whatever their lengths.

    Args:
        agent: The agent; only read.
        num_tasks: The number of tasks, M.
        num_episodes: K, the episodes of a round.
        generator: Draws the actions.

    Attributes:
        parameters: The present parameters of every task.
        num_inner_steps: How many steps were taken.
    """

    lockstep = True

    def __init__(
        self, agent: "MAML", num_tasks: int, num_episodes: int, generator: torch.Generator
    ):
        self._agent = agent
        self._shape = (num_tasks, num_episodes)
        self._generator = generator
        self.parameters = {n: p.detach() for n, p in agent.policy.stacked(num_tasks).items()}
        self.num_inner_steps = 0
        self._clear()

    def _clear(self) -> None:
        # Observations, actions and the policy's outputs; each step of shape (M, K, ...).
        self._acted: tuple[list[torch.Tensor], ...] = ([], [], [])
        self._rewards: list[Array] = []
        self._active: list[Array] = []
        self._ended = np.zeros(self._shape[0] * self._shape[1], dtype=np.bool_)

    def act(self, observations: Array) -> Array:
        if self._ended.all():
            self._learn()
        agent = self._agent
        flat = flatten_observations(agent.observation_space, observations)
        seen = torch.from_numpy(flat).to(agent.device).reshape(*self._shape, -1)
        with torch.no_grad():
            outputs = agent.policy.outputs(seen, self.parameters)
            actions = agent.policy.sample(outputs, self.parameters, self._generator)
        for steps, values in zip(self._acted, (seen, actions, outputs)):
            steps.append(values)
        return agent.policy.head.to_env(actions.flatten(0, 1))

    def observe(
        self,
        observations: Array,
        actions: Array,
        rewards: Array,
        terminated: Array,
        truncated: Array,
        next_observations: Array,
        active: NDArray[np.bool_],
    ) -> None:
        # What follows a lane's episode before the round is over is not part of it.
        self._rewards.append(np.array(rewards, dtype=np.float32))  # an environment may reuse it
        self._active.append(active & ~self._ended)
        self._ended |= active & (terminated | truncated)

    def _learn(self) -> float:
        """Take the round's gradient step; return the gradients' mean norm."""
        step, self.num_inner_steps = self.num_inner_steps, self.num_inner_steps + 1
        scale = 0.5 if self._agent.halve_inner_lr and step > 0 else 1.0
        before = {name: tensor.requires_grad_() for name, tensor in self.parameters.items()}
        after, norm = self._agent.inner_step(before, self.take_batch(), step, scale=scale)
        self.parameters = {name: tensor.detach() for name, tensor in after.items()}
        return norm

    def take_batch(self) -> Batch:
        """Return the completed round, and forget it."""
        agent = self._agent
        acted = [torch.stack(steps, dim=1) for steps in self._acted]  # (M, time, K, ...)
        rewards, mask = (
            torch.as_tensor(np.stack(steps), dtype=torch.float32, device=agent.device)
            for steps in (self._rewards, self._active)
        )
        rewards = rewards * mask  # (time, M * K)
        shape = (-1, *self._shape)
        returns = discounted_returns(rewards, agent.gamma).reshape(shape)
        values = linear_baseline(acted[0].transpose(0, 1), returns, mask.reshape(shape))
        advantages = generalized_advantages(
            rewards, values.flatten(1), mask, agent.gamma, agent.gae_lambda
        )
        self._clear()
        acted += [steps.reshape(shape).transpose(0, 1) for steps in (advantages, mask)]
        parts = [steps.flatten(1, 2) for steps in acted]  # task by task: (M, time * K, ...)
        real = parts[-1]
        longest = int(real.sum(1).max())
        if longest < real.shape[1]:  # episodes ended early: move the padding to the end, cut it
            order = real.argsort(dim=1, descending=True, stable=True)[:, :longest]
            parts = [_take(part, order) for part in parts]
        seen, actions, outputs, advantages, real = parts
        with torch.no_grad():
            log_probs = agent.policy.distribution(outputs, self.parameters).log_prob(actions)
        return Batch(
            observations=seen,
            actions=actions,
            log_probs=log_probs,
            advantages=standardize(advantages, real, dim=1),
            mask=real,
            returns=rewards.sum(0).reshape(self._shape).mean(1),
        )

    def policy(self, task: int = 0) -> "AdaptedPolicy":
        """Return the present policy of one task, which SB3's ``evaluate_policy`` understands."""
        if self._ended.all():
            self._learn()
        own = {name: tensor[task : task + 1] for name, tensor in self.parameters.items()}
        return AdaptedPolicy(self._agent, own, self._generator)


def _take(values: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    index = order.reshape(*order.shape, *[1] * (values.ndim - 2))
    return values.take_along_dim(index, 1)


class Recorder(GradientAdaptation):
    """The same adaptation, keeping what the outer loop needs of every round."""

    def __init__(
        self, agent: "MAML", num_tasks: int, num_episodes: int, generator: torch.Generator
    ):
        super().__init__(agent, num_tasks, num_episodes, generator)
        self.batches: list[Batch] = []
        self.gradient_norms: list[float] = []

    def observe(
        self,
        observations: Array,
        actions: Array,
        rewards: Array,
        terminated: Array,
        truncated: Array,
        next_observations: Array,
        active: NDArray[np.bool_],
    ) -> None:
        super().observe(
            observations, actions, rewards, terminated, truncated, next_observations, active
        )
        self._agent._after_step(rewards, terminated | truncated, active)

    def _learn(self) -> float:
        self.gradient_norms.append(super()._learn())
        return self.gradient_norms[-1]

    def take_batch(self) -> Batch:
        self.batches.append(super().take_batch())
        return self.batches[-1]


class AdaptedPolicy:
    """The policy of one task, with SB3's ``predict``.

    Args:
        agent: The agent.
        parameters: The parameters of one task, stacked: each of shape (1, *shape).
        generator: Draws the actions.
    """

    def __init__(self, agent: "MAML", parameters: Stacked, generator: torch.Generator):
        self._agent = agent
        self._parameters = parameters
        self._generator = generator

    def predict(
        self,
        observation: Array,
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, tuple[Array, ...] | None]:
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
        agent = self._agent
        shape = tuple(agent.observation_space.shape or ())
        values = np.asarray(observation)
        single = values.shape == shape
        if values.shape[int(not single) :] != shape:
            raise ValueError(f"expected observations of shape {shape}, got {values.shape}")
        rows = flatten_observations(agent.observation_space, values.reshape(-1, *shape))
        with torch.no_grad():
            seen = torch.from_numpy(rows).to(agent.device)[None]
            outputs = agent.policy.outputs(seen, self._parameters)
            generator = None if deterministic else self._generator
            sampled = agent.policy.sample(outputs, self._parameters, generator)[0]
        actions = agent.policy.head.to_env(sampled)
        return (actions[0] if single else actions), state
