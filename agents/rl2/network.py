"""The recurrent actor-critic of RL²."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from gymnasium import spaces
from torch import nn

from metarl.agents.common.actions import action_head, orthogonal_
from metarl.agents.common.memory import MEMORIES, Memory, tanh_layers
from metarl.agents.common.noise import ActionNoise
from metarl.agents.common.vision import Vision
from metarl.agents.training.config import Config, Range, Width
from metarl.errors import InvalidValueError
from metarl.trial import TrialInput


@dataclass(frozen=True)
class NetworkConfig(Config):
    """The ``policy_kwargs`` of RL²."""

    hidden_size: Width = 128
    """The number of units of the memory."""
    memory: Literal["gru", "lstm", "episodic"] = "gru"
    """The recurrent cell; ``episodic`` is a GRU that also recalls earlier steps by their look."""
    encoder: Sequence[Width] = ()
    """The sizes of tanh layers before the memory."""
    recall_encoder: Sequence[Width] = ()
    """The sizes of tanh layers that a step goes through before an ``episodic`` memory keeps it:
    needed where it is a pair that counts, as "this action brought that reward"."""
    head: Sequence[Width] = ()
    """The sizes of tanh layers after the memory, which see the present input as well: there, what
    was found out meets what is seen now, as in "the treasure is red" and "red is left"."""
    channels: Sequence[Width] = (16, 32, 32)
    """The filters of the convolutions that images go through, actor's and critic's alike."""
    image_features: Width = 64
    """The number of features they make of each image."""
    separate_critic: bool = False
    """Whether the critic has an encoder and a memory of its own."""
    log_std_init: Annotated[float, Range(-100, 100)] = -0.5
    """The initial log standard deviation of Box actions, in units of half the action range."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channels:
            raise InvalidValueError("channels must name at least one convolution, got []")
        if self.recall_encoder and self.memory != "episodic":
            raise InvalidValueError(
                f"recall_encoder={self.recall_encoder!r} needs memory='episodic', which recalls; "
                f"got memory={self.memory!r}"
            )


class RecurrentActorCritic(nn.Module):
    """A memory with a policy head and a value head: inputs to actions and values.

    An input is a row and, where observations hold images, their pixels; both go on as one row.

    Args:
        trial_input: The inputs.
        action_space: The action space.
        generator: The source of the initial weights.
        config: Sizes and kinds.
    """

    def __init__(
        self,
        trial_input: TrialInput,
        action_space: spaces.Space[Any],
        generator: torch.Generator,
        config: NetworkConfig,
    ):
        super().__init__()
        size = config.hidden_size
        self.action_head = action_head(action_space)
        num_features = 0
        self.vision = None
        if trial_input.image_shapes:
            self.vision = Vision(
                trial_input.image_shapes, config.channels, config.image_features, generator
            )
            num_features = self.vision.num_features

        def memory() -> Memory:
            own: dict[str, Any] = {}
            if config.memory == "episodic":
                own["recall_encoder"] = config.recall_encoder
            sizes = (trial_input.size, num_features, size, config.encoder)
            return MEMORIES[config.memory](*sizes, generator, **own)

        self.actor = memory()
        self.critic = memory() if config.separate_critic else None
        joined = size + trial_input.size + num_features
        self.policy_layers = tanh_layers(joined, config.head, generator)
        self.value_layers = tanh_layers(joined, config.head, generator)
        last = config.head[-1] if config.head else size
        self.policy = nn.Linear(last, self.action_head.num_outputs)
        self.value = nn.Linear(last, 1)
        # A policy that starts close to uniform explores all actions alike.
        orthogonal_(self.policy, 0.01, generator)
        orthogonal_(self.value, 1.0, generator)
        self.log_std = (
            nn.Parameter(torch.full((self.action_head.num_outputs,), config.log_std_init))
            if self.action_head.has_log_std
            else None
        )

    @property
    def steps_per_piece(self) -> int:
        """How many steps, of all trials together, one thread takes at a time in an update."""
        return self.actor.steps_per_piece

    def initial_state(self, num_trials: int) -> torch.Tensor:
        """Return the actor's memory at the start of a trial, of shape (num_slots, n, hidden)."""
        return self.actor.initial_state(num_trials)

    def act(
        self, rows: torch.Tensor, pixels: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Continue from a memory.

        Args:
            rows: Input rows, of shape (time, n, row_size).
            pixels: Their pixels, uint8, of shape (time, n, num_pixels).
            state: The memory before the first row, of shape (num_slots, n, hidden_size).

        Returns:
            What :meth:`distribution` takes, of shape (time, n, num_outputs), and the memory after
            the last row.
        """
        inputs = self._see(rows, pixels)
        features, after = self.actor(inputs, state)
        return self._policy(features, inputs), after

    def distribution(self, outputs: torch.Tensor) -> torch.distributions.Distribution:
        """Return the action distribution of the policy's outputs."""
        return self.action_head.distribution(outputs, self.log_std)

    def sample(self, outputs: torch.Tensor, noise: ActionNoise | None) -> torch.Tensor:
        """Draw actions from outputs of shape (n, num_outputs); the most likely without noise."""
        return self.action_head.sample(outputs, self.log_std, noise)

    def forward(
        self, rows: torch.Tensor, pixels: torch.Tensor
    ) -> tuple[torch.distributions.Distribution, torch.Tensor]:
        """Run over whole trials, from an empty memory.

        Args:
            rows: Input rows, of shape (time, n, row_size).
            pixels: Their pixels, uint8, of shape (time, n, num_pixels).

        Returns:
            The action distribution over (time, n), and the values of shape (time, n).
        """
        inputs = self._see(rows, pixels)
        features = self._run(self.actor, inputs)
        values = features if self.critic is None else self._run(self.critic, inputs)
        return self.distribution(self._policy(features, inputs)), self._value(values, inputs)

    def values(self, rows: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """Return the values alone, of shape (time, n). See :meth:`forward`."""
        inputs = self._see(rows, pixels)
        return self._value(self._run(self.critic or self.actor, inputs), inputs)

    def _policy(self, features: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.policy(self.policy_layers(self._joined(features, inputs)))
        return outputs

    def _value(self, features: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = self.value(self.value_layers(self._joined(features, inputs)))
        return values.squeeze(-1)

    def _joined(self, features: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return what the heads see."""
        return torch.cat([features, inputs], dim=-1) if len(self.policy_layers) else features

    def _see(self, rows: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """Return what memories take."""
        if self.vision is None:
            return rows
        return torch.cat([rows, self.vision(pixels)], dim=-1)

    @staticmethod
    def _run(memory: Memory, inputs: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = memory(inputs, memory.initial_state(inputs.shape[1]))[0]
        return features
