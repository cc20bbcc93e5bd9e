"""An actor-critic with a memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import torch
from gymnasium import spaces
from torch import nn

from metarl.agents.common.actions import action_head
from metarl.agents.common.hypernetwork import Hypernetwork
from metarl.agents.common.initialization import orthogonal_
from metarl.agents.common.layers import tanh_layers
from metarl.agents.common.memory.config import MemoryConfig
from metarl.agents.common.memory.contract import Memory, MemorySizes, State
from metarl.agents.common.memory.registry import MEMORIES
from metarl.agents.common.noise import ActionNoise
from metarl.agents.common.task_prediction import TaskPrediction
from metarl.agents.common.tool_use import ToolMemory, ToolPolicy
from metarl.agents.common.trials import TrialOutputs
from metarl.agents.common.vision import Vision
from metarl.agents.training.config import Range, Width
from metarl.agents.training.interface import TaskInterface
from metarl.errors import InvalidValueError
from metarl.trial import TrialInput

TrialState: TypeAlias = tuple[torch.Tensor, State]
"""How many steps each trial has seen, of shape (n,), and the state of the actor's memory."""


@dataclass(frozen=True)
class NetworkConfig(MemoryConfig):
    """The ``policy_kwargs`` of agents with such a network."""

    encoder: Sequence[Width] = ()
    """The sizes of tanh layers before the memory."""
    head: Sequence[Width] = ()
    """The sizes of tanh layers after the memory, which also take the present input. They combine
    remembered facts with the present input, such as "the treasure is red" and "red is left"."""
    skip: bool = False
    """Whether the heads take the present input beside the memory where ``head`` is empty, too. The
    memory then need not pass on what is seen at present, and can specialise on the task."""
    hypernetwork: Sequence[Width] = ()
    """The sizes of tanh layers on the present input whose weights, like those of the outputs after
    them, are emitted from the memory in each step, in place of ``head``. They learn a policy of its
    own for each task where a head learns one for all. One layer, as ``[32]``, is enough to try."""
    tool_use: Width | None = None
    """For families whose actions use tools on things (``TaskDistribution.tools``): a memory for
    each kind of tool, of so many features, and a policy that scores each pair of a thing and a
    kind by the same layers, in place of ``memory``, ``encoder`` and the policy's ``head``. What is
    learned of one tool is then known of all. None makes no use of what actions are about."""
    channels: Sequence[Width] = (16, 32, 32)
    """The filters of the convolutions that images go through, actor's and critic's alike."""
    image_features: Width = 64
    """The number of features per image."""
    separate_critic: bool = False
    """Whether the critic has an encoder and a memory of its own."""
    privileged_critic: bool = False
    """Whether the critic also sees the encoded task, which the policy never does (Pinto et al.
    2017). What the policy does, and earns, depends on the task and on what it has found out of it:
    the critic's layers take both (Baisero & Amato 2022). Without ``separate_critic`` it needs no
    memory of its own: it reads the actor's, which is then trained by the policy alone."""
    timed_critic: bool = False
    """Whether the critic also sees which share of the episode's time limit has passed (Pardo et al.
    2018). At the limit the next episode begins, elsewhere and with other returns: a critic that
    cannot tell when sees noise, in the last steps before it above all. A memory learns to count
    late, if at all."""
    log_std_init: Annotated[float, Range(-100, 100)] = -0.5
    """The initial log standard deviation of Box actions, in units of half the action range."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channels:
            raise InvalidValueError("channels must name at least one convolution, got []")
        if self.hypernetwork and (self.head or self.skip):
            raise InvalidValueError(
                "hypernetwork takes the place of head and skip: leave both out, got "
                f"head={self.head!r}, skip={self.skip!r}"
            )
        replaced = ("hidden_size", "memory", "memory_kwargs", "encoder", "skip", "hypernetwork")
        usual = {name: getattr(NetworkConfig, name) or None for name in replaced}
        changed = [name for name in replaced if (getattr(self, name) or None) != usual[name]]
        if self.tool_use and changed:
            raise InvalidValueError(
                f"tool_use has a memory and a policy of its own: leave out {', '.join(changed)}"
            )


class RecurrentActorCritic(nn.Module):
    """A memory with a policy head and a value head: inputs to actions and values.

    An input is a row and, where observations hold images, their pixels; both go on as one row.

    Args:
        trial_input: The inputs.
        action_space: The action space.
        generator: The source of the initial weights.
        config: Sizes and kinds.
        interface: What is known of the family; encoded tasks may be used in training.
        predicts_task: Whether the actor's memory is to predict them.
    """

    def __init__(
        self,
        trial_input: TrialInput,
        action_space: spaces.Space[Any],
        generator: torch.Generator,
        config: NetworkConfig,
        interface: TaskInterface,
        predicts_task: bool = False,
    ):
        super().__init__()
        units = config.tool_use or 0
        tools = interface.tools if units else None
        if units:
            if tools is None:
                raise InvalidValueError(
                    "tool_use needs a family that declares its tools (TaskDistribution.tools), "
                    f"got {interface.name}: leave it out"
                )
            tools.check_fits(trial_input.observation.stop, spaces.flatdim(action_space))
        size = len(tools.kinds) * units if tools else config.hidden_size
        self._privileged, self._timed = config.privileged_critic, config.timed_critic
        self._horizon = interface.horizon
        self._episode_end = trial_input.episode_end.start
        self._skip = config.skip or bool(config.head)
        self._mask = trial_input.mask
        self.action_head = action_head(action_space, masked=bool(tools) or self._mask is not None)
        remembers = tools is not None or MEMORIES[config.memory].remembers
        self._visible = slice(trial_input.size) if remembers else trial_input.observation
        row_size = input_size = self._visible.stop
        self.vision = None
        if trial_input.image_shapes:
            self.vision = Vision(
                trial_input.image_shapes, config.channels, config.image_features, generator
            )
            input_size += self.vision.num_features
        sizes = MemorySizes(input_size, row_size, size)
        if config.encoder:
            sizes = MemorySizes(config.encoder[-1], config.encoder[-1], size)

        def memory() -> tuple[nn.Sequential, Memory]:
            if tools:
                return nn.Sequential(), ToolMemory(tools, trial_input, units, generator)
            encoder = tanh_layers(input_size, config.encoder, generator)
            return encoder, MEMORIES[config.memory](sizes, config.memory_config(), generator)

        self.actor_encoder, self.actor = memory()
        self.critic_encoder = self.critic = None
        if config.separate_critic:
            self.critic_encoder, self.critic = memory()
        joined = size + input_size if self._skip else size
        self.policy_layers = tanh_layers(joined, () if tools else config.head, generator)
        # With the task a layer at least, as it counts together with what is known.
        value_head = config.head or ([size] if self._privileged else ())
        seen = size + input_size + interface.task_size if self._privileged else joined
        seen += self._timed
        self.value_layers = tanh_layers(seen, value_head, generator)

        def output(num_inputs: int, num_outputs: int, gain: float) -> nn.Linear:
            layer = nn.Linear(num_inputs, num_outputs)
            orthogonal_(layer, gain, generator)
            return layer

        def emitted(known: int, num_outputs: int, gain: float) -> Hypernetwork:
            sizes = config.hypernetwork
            return Hypernetwork(known, input_size, sizes, num_outputs, gain, generator)

        # A policy that starts close to uniform explores all actions alike.
        num_outputs, last = self.action_head.num_outputs, config.head[-1] if config.head else joined
        last_value = value_head[-1] if value_head else seen
        emits = bool(config.hypernetwork)
        self.policy: nn.Module
        if tools:
            self.policy = ToolPolicy(tools, units, generator)
        else:
            self.policy = (
                emitted(size, num_outputs, 0.01) if emits else output(last, num_outputs, 0.01)
            )
        emits = emits and not self._privileged
        self.value = emitted(size + self._timed, 1, 1.0) if emits else output(last_value, 1, 1.0)
        self.log_std = (
            nn.Parameter(torch.full((self.action_head.num_log_std,), config.log_std_init))
            if self.action_head.num_log_std
            else None
        )

        self.task_prediction = TaskPrediction(interface, size, generator) if predicts_task else None

    @property
    def steps_per_piece(self) -> int:
        """How many steps, of all trials together, one thread takes at a time in an update."""
        return self.actor.steps_per_piece

    def initial_state(self, num_trials: int) -> TrialState:
        """Return what is known at the start of a trial: nothing."""
        memory = self.actor.initial_state(num_trials)
        device = next(self.parameters()).device
        return torch.zeros(num_trials, dtype=torch.int64, device=device), memory

    def reset(self, state: TrialState, where: torch.Tensor) -> TrialState:
        """Return a state in which some trials, of shape (n,), are at their start."""
        time, memory = state
        return time.masked_fill(where, 0), self.actor.reset(memory, where)

    def act(
        self, rows: torch.Tensor, pixels: torch.Tensor, state: TrialState
    ) -> tuple[torch.Tensor, TrialState]:
        """Take one step in each trial.

        Args:
            rows: Input rows, of shape (n, row_size).
            pixels: Their pixels, uint8, of shape (n, num_pixels).
            state: The state before the step; it is not changed.

        Returns:
            What :meth:`distribution` takes, of shape (n, num_outputs), and the state after it.
        """
        features, inputs, state = self._remember(rows, pixels, state)
        return self._policy(features, inputs)[0], state

    def predicted_task(
        self, rows: torch.Tensor, pixels: torch.Tensor, state: TrialState
    ) -> torch.Tensor | None:
        """Return the encoded task that is expected in each trial, of shape (n, task_size).

        Args:
            rows: As for :meth:`act`.
            pixels: The same.
            state: The same.

        Returns:
            The tasks, or None if the network does not predict them.
        """
        if self.task_prediction is None:
            return None
        return self.task_prediction.expected(self._remember(rows, pixels, state)[0])[0]

    def _remember(
        self, rows: torch.Tensor, pixels: torch.Tensor, state: TrialState
    ) -> tuple[torch.Tensor, torch.Tensor, TrialState]:
        """Return features and inputs of one step, of shape (1, n, size), and the state after it."""
        time, memory = state
        inputs = self._see(rows[None], pixels[None])
        starts = self._starts(rows, time)
        encoded = self.actor_encoder(inputs)
        features, memory = self.actor(encoded, memory, time[None], starts[None])
        return features, inputs, (time + 1, memory)

    def distribution(self, outputs: torch.Tensor) -> torch.distributions.Distribution:
        """Return the action distribution of the policy's outputs."""
        return self.action_head.distribution(outputs, self.log_std)

    def sample(self, outputs: torch.Tensor, noise: ActionNoise | None) -> torch.Tensor:
        """Draw actions from outputs of shape (n, num_outputs); the most likely without noise."""
        return self.action_head.sample(outputs, self.log_std, noise)

    def forward(
        self,
        rows: torch.Tensor,
        pixels: torch.Tensor,
        task: torch.Tensor,
        state: State | None = None,
    ) -> TrialOutputs:
        """Run over whole trials, from an empty memory, or over sequences of their steps.

        Args:
            rows: Input rows, of shape (time, n, row_size).
            pixels: Their pixels, uint8, of shape (time, n, num_pixels).
            task: The encoded tasks, of shape (n, task_size), for training alone.
            state: Where sequences start, one of those of :meth:`states`.

        Returns:
            The action distributions, the values, and the loss of predicting the task.
        """
        inputs = self._see(rows, pixels)
        state = self._start(rows) if state is None else state
        features, _ = self._read(rows, inputs, state)
        for_value = features
        if self.critic is not None:
            for_value, _ = self._read(rows, inputs, state, for_critic=True)
        predict = self.task_prediction
        return TrialOutputs(
            self.distribution(self._policy(features, inputs)),
            self._value(for_value, rows, inputs, task, state),
            None if predict is None else predict(features, task),
        )

    def outputs(self, rows: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """Return what :meth:`distribution` takes, of shape (time, n, num_outputs)."""
        inputs = self._see(rows, pixels)
        return self._policy(self._read(rows, inputs, self._start(rows))[0], inputs)

    def values(self, rows: torch.Tensor, pixels: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
        """Return the values alone, of shape (time, n). See :meth:`forward`."""
        inputs, state = self._see(rows, pixels), self._start(rows)
        features, _ = self._read(rows, inputs, state, for_critic=True)
        return self._value(features, rows, inputs, task, state)

    def states(self, rows: torch.Tensor, pixels: torch.Tensor, length: int) -> list[State]:
        """Return the states before steps 0, ``length``, ``2 * length``, ... of whole trials.

        One is the index of the step in its trial, of shape (n,), the state of the actor's memory,
        that of the critic's, if it has its own, and the index of the step in its episode.
        """
        inputs = self._see(rows, pixels)
        found = [self._start(rows)]
        passed = self._passed(rows, found[0])
        for start in range(length, len(rows), length):
            part = slice(start - length, start)
            after = [
                self._read(rows[part], inputs[part], found[-1], for_critic)[1]
                for for_critic in (False, True)[: len(found[-1]) - 2]
            ]
            found.append((found[-1][0] + length, *after, passed[start]))
        return found

    def _policy(self, features: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        outputs = self._head(self.policy_layers, self.policy, features, inputs)
        if self._mask is not None:  # inputs begin with the row
            outputs = self.action_head.forbid(outputs, inputs[..., self._mask])
        return outputs

    def _value(
        self,
        features: torch.Tensor,
        rows: torch.Tensor,
        inputs: torch.Tensor,
        task: torch.Tensor,
        state: State,
    ) -> torch.Tensor:
        if self._privileged and self.critic is None:
            features = features.detach()
        if self._timed:
            passed = self._passed(rows, state).to(features.dtype) / self._horizon
            features = torch.cat([features, passed.unsqueeze(-1)], dim=-1)  # (time, n, size + 1)
        if self._privileged:
            known = task.expand(len(inputs), -1, -1)  # (time, n, task_size)
            values: torch.Tensor = self.value(
                self.value_layers(torch.cat([features, inputs, known], dim=-1))
            )
        else:
            values = self._head(self.value_layers, self.value, features, inputs)
        return values.squeeze(-1)

    def _head(
        self,
        layers: nn.Module,
        output: nn.Module,
        features: torch.Tensor,
        inputs: torch.Tensor,
    ) -> torch.Tensor:
        """Return the outputs of a head, of shape (..., num_outputs)."""
        outputs: torch.Tensor
        if isinstance(output, (Hypernetwork, ToolPolicy)):
            outputs = output(features, inputs)
        else:
            outputs = output(layers(torch.cat([features, inputs], -1) if self._skip else features))
        return outputs

    def _see(self, rows: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """Return the inputs of the memories."""
        rows = rows[..., self._visible]
        if self.vision is None:
            return rows
        return torch.cat([rows, self.vision(pixels)], dim=-1)

    def _start(self, rows: torch.Tensor) -> State:
        """Return the state at the start of trials of rows (time, n, row_size)."""
        num_trials = rows.shape[1]
        critics = [] if self.critic is None else [self.critic.initial_state(num_trials)]
        time, memory = self.initial_state(num_trials)
        return time, memory, *critics, time

    def _read(
        self, rows: torch.Tensor, inputs: torch.Tensor, state: State, for_critic: bool = False
    ) -> tuple[torch.Tensor, State]:
        """Return features of shape (time, n, hidden_size), and the memory's state after them."""
        encoder, memory, before = self.actor_encoder, self.actor, state[1]
        if for_critic and self.critic is not None and self.critic_encoder is not None:
            encoder, memory, before = self.critic_encoder, self.critic, state[2]
        time = state[0] + self._steps(rows)
        result: tuple[torch.Tensor, State] = memory(
            encoder(inputs), before, time, self._starts(rows, time)
        )
        return result

    def _passed(self, rows: torch.Tensor, state: State) -> torch.Tensor:
        """Return how many steps of its episode are over before each step, of shape (time, n)."""
        steps = self._steps(rows)
        begins = self._starts(rows, state[0] + steps)
        latest = torch.where(begins, steps, -state[-1]).cummax(0).values
        return steps - latest

    def _steps(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the index of each row, of shape (time, 1)."""
        return torch.arange(len(rows), device=rows.device)[:, None]

    def _starts(self, rows: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Return where an episode starts: after the end of one, and at the start of the trial."""
        return torch.logical_or(rows[..., self._episode_end], time == 0)
