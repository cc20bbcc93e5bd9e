"""Acting in trials with a memory, and a buffer that keeps what training needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributions import Distribution

from metarl.agents.common.actions import ActionHead
from metarl.agents.common.memory.contract import State, map_state, select, tensors_of
from metarl.agents.common.noise import ActionNoise
from metarl.agents.common.normalization import Normalizer
from metarl.agents.common.trials import Trials
from metarl.agents.training.session import find_numbered, numbered
from metarl.batches import nest, replaced, take
from metarl.evaluation.adaptation import Transition, check_rows
from metarl.spaces import Values, leaf_values
from metarl.trial import TrialInput

Array = NDArray[Any]


class ActingNetwork(Protocol):
    """The interface of a network that acts in trials; a state is that of a memory."""

    action_head: ActionHead

    @property
    def log_std(self) -> torch.Tensor | None:
        """The log standard deviations of Box actions, of shape (num_log_std,), if there are any."""

    def initial_state(self, num_trials: int) -> State:
        """Return the state of trials at their start."""

    def reset(self, state: State, where: torch.Tensor) -> State:
        """Return a state in which some trials, of shape (n,), are at their start."""

    def act(
        self, rows: torch.Tensor, pixels: torch.Tensor, state: State
    ) -> tuple[torch.Tensor, State]:
        """Take one step in each trial.

        Args:
            rows: Input rows, of shape (n, row_size).
            pixels: Their pixels, uint8, of shape (n, num_pixels).
            state: The state before the step; it is not changed.

        Returns:
            What :meth:`distribution` takes, of shape (n, num_outputs), and the state after it.
        """

    def distribution(self, outputs: torch.Tensor) -> Distribution:
        """Return the action distribution of the outputs of ``act``."""

    def sample(self, outputs: torch.Tensor, noise: ActionNoise | None) -> torch.Tensor:
        """Draw actions from outputs of shape (n, num_outputs); the most likely without noise."""


@dataclass(frozen=True)
class RecurrentPolicy:
    """What acts: a network, and how its inputs are made.

    Attributes:
        network: The network.
        trial_input: Makes rows of observations and last transitions.
        normalize: Makes network inputs of rows.
        device: Where the network is.
    """

    network: ActingNetwork
    trial_input: TrialInput
    normalize: Normalizer
    device: torch.device

    @torch.inference_mode()  # faster than no_grad where operations are small
    def act(
        self,
        rows: torch.Tensor,
        pixels: torch.Tensor,
        state: State,
        noise: ActionNoise | None,
    ) -> tuple[torch.Tensor, torch.Tensor, State]:
        """Choose actions.

        Args:
            rows: Input rows before normalisation, of shape (n, row_size).
            pixels: Their pixels, of shape (n, num_pixels).
            state: What is known of the trials.
            noise: Draws the actions; None takes the most likely ones.

        Returns:
            Actions, the policy's outputs (n rows each), and the state after.
        """
        outputs, after = self.network.act(self.normalize(rows), pixels, state)
        return self.network.sample(outputs, noise), outputs, after


class MemoryAdaptation:
    """A memory for every task, and the last transition in it to show to it.

    Args:
        policy: What acts; only read.
        num_tasks: The number of tasks.
        noise: Draws the actions; None takes the most likely ones.
        reset_memory_every: The number of episodes after which a task's memory is reset; None never.
    """

    def __init__(
        self,
        policy: RecurrentPolicy,
        num_tasks: int,
        noise: ActionNoise | None,
        reset_memory_every: int | None = None,
    ):
        self._policy = policy
        self._state = self._state_before = policy.network.initial_state(num_tasks)
        self._noise = noise
        self._read: tuple[torch.Tensor, torch.Tensor] | None = None  # the last rows and pixels
        self._last: tuple[Values, Array, Array] | None = None  # actions, rewards, episode ends
        self._reset_memory_every = reset_memory_every
        self._num_episodes = np.zeros(num_tasks, dtype=np.int64)
        self._fresh = np.ones(num_tasks, dtype=np.bool_)  # where the memory is empty

    def act(self, observations: Values) -> Values:
        return self._act(observations)[0]

    def _act(self, observations: Values) -> tuple[Values, tuple[torch.Tensor, ...]]:
        """Return actions for the environments; rows, pixels, actions and the policy's outputs."""
        check_rows(observations, len(self._num_episodes))
        policy, last = self._policy, self._last
        if last is None:
            inputs = policy.trial_input.start(observations)
        else:
            inputs = policy.trial_input.follow(observations, *last)
            inputs[0][self._fresh, policy.trial_input.observation.stop :] = 0.0
        # The program goes on while a GPU takes them; it must wait for the actions alone.
        rows, pixels = (
            torch.from_numpy(part).to(policy.device, non_blocking=True) for part in inputs
        )
        self._read, self._state_before = (rows, pixels), self._state
        actions, outputs, self._state = policy.act(rows, pixels, self._state, self._noise)
        chosen = policy.network.action_head.to_env(actions)
        return chosen, (rows, pixels, actions, outputs)

    @torch.no_grad()
    def observe(self, transition: Transition) -> None:
        active, ended = transition.active, transition.episode_end
        # Kept across episode ends: an episode starts with the transition that ended the last one.
        last: Any = (transition.actions, transition.rewards, ended)
        fresh = np.zeros_like(active)
        if self._reset_memory_every is not None:
            self._num_episodes += ended
            fresh = ended & (self._num_episodes % self._reset_memory_every == 0)
            if fresh.any():
                self._state = self._policy.network.reset(self._state, self._lanes(fresh))
        if not active.all():  # the others acted on nothing, and have learned nothing
            idle = ~active
            fresh[idle] = self._fresh[idle]
            if self._last is not None:
                last = replaced(last, idle, take(self._last, idle))
            self._state = select(self._lanes(active), self._state, self._state_before)
        self._last, self._fresh = last, fresh

    @torch.no_grad()
    def predicted_task(self) -> Array | None:
        """Return what the network took each task for when it acted last.

        Returns:
            The expected encoded tasks, of shape (num_tasks, task_size), for
            :meth:`metarl.TaskDistribution.decode`; None if the network was not trained to predict
            them (``task_prediction_coef``) or has not acted.
        """
        predict = getattr(self._policy.network, "predicted_task", None)
        if predict is None or self._read is None:
            return None
        rows, pixels = self._read
        expected = predict(self._policy.normalize(rows), pixels, self._state_before)
        return None if expected is None else np.asarray(expected.cpu())

    def state(self) -> dict[str, torch.Tensor]:
        """Return all that it continues from."""
        tensors = numbered("memory", tensors_of(self._state))
        if self._noise is not None:
            tensors["noise"] = self._noise.state()
        if self._last is not None:
            space = self._policy.trial_input.action_space
            actions, *last = self._last
            tensors |= numbered("action", [part for _, part in leaf_values(space, actions)])
            tensors |= numbered("last", last)
        return tensors | numbered("episodes", [self._num_episodes, self._fresh])

    def restore_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over what :meth:`state` gave."""
        policy, memory = self._policy, iter(find_numbered("memory", tensors))
        self._state = map_state(lambda _: next(memory).to(policy.device), self._state)
        if self._noise is not None and "noise" in tensors:
            self._noise.restore_state(tensors["noise"])
        self._num_episodes, self._fresh = (t.numpy() for t in find_numbered("episodes", tensors))
        self._last = None
        if actions := [part.numpy() for part in find_numbered("action", tensors)]:
            rewards, ended = (part.numpy() for part in find_numbered("last", tensors))
            self._last = nest(policy.trial_input.action_space, iter(actions)), rewards, ended

    def _lanes(self, which: NDArray[np.bool_]) -> torch.Tensor:
        return torch.from_numpy(which).to(self._policy.device)


class TrialBuffer(MemoryAdaptation):
    """The same adaptation, keeping what training needs of every step.

    Args:
        policy: What acts.
        num_tasks: The number of tasks.
        num_episodes: The episodes of a trial.
        horizon: The most steps of an episode.
        noise: Draws the actions.
        task: The encoded tasks, of shape (num_tasks, task_size), for training alone.
    """

    def __init__(
        self,
        policy: RecurrentPolicy,
        num_tasks: int,
        num_episodes: int,
        horizon: int,
        noise: ActionNoise,
        task: torch.Tensor,
    ):
        super().__init__(policy, num_tasks, noise)
        self._horizon = horizon
        self._task = task
        self._episodes_left = np.full(num_tasks, num_episodes)
        self._elapsed = np.zeros(num_tasks, dtype=np.int64)  # steps of the present episode
        self._acted: tuple[list[torch.Tensor], ...] = ([], [], [], [])
        self._observed: tuple[list[Array], ...] = ([], [], [], [])

    def act(self, observations: Values) -> Values:
        chosen, acted = self._act(observations)
        for steps, tensor in zip(self._acted, acted):
            steps.append(tensor)
        return chosen

    def observe(self, transition: Transition) -> None:
        super().observe(transition)
        steps_left = self._episodes_left * self._horizon - self._elapsed
        observed = (self._episodes_left, steps_left, transition.rewards, transition.active)
        for steps, values in zip(self._observed, observed):
            steps.append(np.array(values, dtype=np.float32))  # an environment may reuse its own
        # No step is left in the padding, and counting on would overflow 1 - gamma ** -n.
        self._episodes_left = self._episodes_left - transition.episode_end
        self._elapsed = np.where(transition.episode_end, 0, self._elapsed + transition.active)

    def trials(self) -> Trials:
        """Return everything recorded."""
        rows, pixels, actions, outputs = (torch.stack(steps) for steps in self._acted)
        episodes_left, steps_left, rewards, mask = (
            torch.as_tensor(np.stack(steps), device=rows.device) for steps in self._observed
        )
        with torch.no_grad():
            log_probs = self._policy.network.distribution(outputs).log_prob(actions)
        return Trials(
            rows, pixels, actions, log_probs, episodes_left, steps_left, rewards, mask, self._task
        )
