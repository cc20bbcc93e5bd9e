"""An agent in one environment: unbatched, step by step, and saved between two steps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from gymnasium import spaces

from metarl._version import __version__
from metarl.agents.training.checkpoint import (
    checksum,
    gather_tensors,
    load_checkpoint,
    save_checkpoint,
    with_suffix,
)
from metarl.batches import as_batch, map_leaves, take
from metarl.errors import InvalidValueError, check_types
from metarl.evaluation.adaptation import Adaptation, Transition
from metarl.spaces import Values

Tensors = dict[str, torch.Tensor]


@runtime_checkable
class SavedAdaptation(Protocol):
    """An adaptation whose state between two steps can be saved."""

    def state(self) -> Tensors:
        """Return all that it continues from, between an ``observe`` and an ``act``."""

    def restore_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over what :meth:`state` gave, in an adaptation made by the same agent."""


class Session:
    """An agent in one environment of a new task, made by ``agent.session()``.

    ::

        session = agent.session()
        for _ in range(num_episodes):
            observation, _ = env.reset()
            done = False
            while not done:
                action = session.act(observation)
                observation, reward, terminated, truncated, _ = env.step(action)
                session.observe(observation, reward, terminated, truncated)
                done = terminated or truncated

    All it learns of the task stays in it: the agent does not change, and each new session starts
    without experience.

    Args:
        agent: Its name, for messages.
        modules: The agent's modules.
        adaptation: The agent's adaptation to one task, in one environment.
        observation_space: The space of an observation.
    """

    def __init__(
        self,
        agent: str,
        modules: Mapping[str, torch.nn.Module],
        adaptation: Adaptation,
        observation_space: spaces.Space[Any],
    ):
        self._agent, self._modules = agent, modules
        self._adaptation = adaptation
        self._space = observation_space
        self._acted: tuple[Values, Values] | None = None  # the present observation and action

    def act(self, observation: Any) -> Any:
        """Choose an action, ready for ``env.step``.

        Args:
            observation: The present observation.

        Raises:
            ValueError: If it is none of the space, or the last action has not been observed.
        """
        if self._acted is not None:
            raise InvalidValueError(
                "act() was called twice: pass the outcome of each action to observe() first"
            )
        batch = self._batch(observation)
        actions = self._adaptation.act(batch)
        self._acted = batch, actions
        return take(actions, 0)

    def observe(
        self, next_observation: Any, reward: float, terminated: bool, truncated: bool
    ) -> None:
        """Learn from the outcome of the action: the first four values of ``env.step``.

        Args:
            next_observation: The observation after the action; at the end of an episode its last
                one, not the first of the next.
            reward: The reward.
            terminated: Whether the episode has reached a terminal state.
            truncated: Whether it was cut.

        Raises:
            TypeError: If the reward is no number.
            ValueError: If the observation is none of the space, or there was no action.
        """
        if self._acted is None:
            raise InvalidValueError("observe() was called without an action: call act() first")
        check_types((int, float, np.number), "a number", reward=reward)
        after = self._batch(next_observation)
        (before, actions), self._acted = self._acted, None
        self._adaptation.observe(
            Transition(
                before,
                actions,
                np.array([reward], dtype=np.float64),
                np.array([terminated], dtype=np.bool_),
                np.array([truncated], dtype=np.bool_),
                after,
                np.ones(1, dtype=np.bool_),
            )
        )

    def save(self, path: str | Path) -> None:
        """Write what it has learned of the task: a memory, or adapted weights. Not the agent.

        Args:
            path: The file; ``.safetensors`` is appended unless it ends so.

        Raises:
            ValueError: If the last action has not been observed, or the agent's sessions cannot be
                saved.
        """
        if self._acted is not None:
            raise InvalidValueError("a session is saved after observe(), got an action without it")
        state = {"metarl": __version__, "session": self._agent, "weights": self._weights()}
        save_checkpoint(with_suffix(path), self._saved().state(), state)

    def restore(self, path: str | Path) -> None:
        """Continue where a saved session of the same agent was; bit for bit as if never stopped.

        Args:
            path: What was given to :meth:`save`.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged, no session, or one of another agent.
        """
        path = with_suffix(path)
        tensors, state = load_checkpoint(path)
        if state.get("weights") != self._weights():
            raise InvalidValueError(
                f"{str(path)!r} holds no session of this {self._agent}: its weights are others; "
                "load the agent that the session was saved with"
            )
        self._saved().restore_state(tensors)
        self._acted = None

    def _saved(self) -> SavedAdaptation:
        if not isinstance(self._adaptation, SavedAdaptation):
            raise InvalidValueError(f"sessions of {self._agent} cannot be saved")
        return self._adaptation

    def _weights(self) -> str:
        tensors = gather_tensors(self._modules, {})
        return checksum({name: tensor.cpu() for name, tensor in tensors.items()}, {})

    def _batch(self, observation: Any) -> Values:
        batch, single = as_batch(self._space, observation)
        if not single:
            raise InvalidValueError(
                f"a session takes one observation of {self._space}, got a batch of them"
            )
        return map_leaves(np.array, batch)  # an environment may reuse its own


def numbered(name: str, tensors: Any) -> Tensors:
    """Return tensors, or arrays, by the names ``NAME.0``, ``NAME.1`` and so on."""
    return {f"{name}.{i}": torch.as_tensor(tensor) for i, tensor in enumerate(tensors)}


def find_numbered(name: str, tensors: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """Return what :func:`numbered` was given."""
    found: list[torch.Tensor] = []
    while f"{name}.{len(found)}" in tensors:
        found.append(tensors[f"{name}.{len(found)}"].clone())
    return found
