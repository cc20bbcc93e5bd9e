"""A causal Transformer over the trial, which caches what it has read."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from metarl.agents.common.initialization import orthogonal_, uniform_
from metarl.agents.common.memory.contract import Memory, MemorySizes, State, in_export
from metarl.agents.training.config import Config, Count
from metarl.errors import InvalidValueError


@dataclass(frozen=True)
class TransformerConfig(Config):
    """The ``memory_kwargs`` of a Transformer."""

    num_layers: Count = 2
    """The number of blocks."""
    num_heads: Count = 4
    """The heads of each attention; ``hidden_size`` must be a multiple of twice as many."""
    context: Count | None = None
    """How many steps, the present one included, a block attends to; None attends to the whole
    trial. A step depends on the ``num_layers * (context - 1)`` before it."""


class Transformer(Memory):
    """A causal Transformer over the steps of the trial.

    Layers are normalised before each part of a block, and gates take the place of residual sums
    (GTrXL, Parisotto et al. 2020, "Stabilizing Transformers for Reinforcement Learning"). The gates
    start nearly closed, so a new network almost passes its inputs on. Positions are rotary (Su et
    al. 2021, "RoFormer"): what a step gets from another depends on the number of steps between.

    The state is a cache, so that acting reads each step once: keys and values of the steps so far,
    of shape (n, slots, num_layers, 2, num_heads, hidden / num_heads). Those of step t are in slot
    ``t % context``. Acting writes a step into a free slot of the state that it was given. That does
    not change what is read from it: the index of a step says which slots are filled.
    """

    config_class = TransformerConfig
    steps_per_piece = 6_400

    rates: torch.Tensor

    def __init__(self, sizes: MemorySizes, config: TransformerConfig, generator: torch.Generator):
        super().__init__(sizes, config, generator)
        if sizes.hidden % (2 * config.num_heads):
            raise InvalidValueError(
                f"hidden_size must be a multiple of {2 * config.num_heads}, twice the num_heads of "
                f"the transformer, got {sizes.hidden}"
            )
        self.context, self.num_heads = config.context or sys.maxsize, config.num_heads
        self.embedding = nn.Linear(sizes.inputs, sizes.hidden)
        blocks = [_Block(sizes.hidden, config.num_heads) for _ in range(config.num_layers)]
        self.blocks: Sequence[_Block] = nn.ModuleList(blocks)  # type: ignore[assignment]
        for module in self.modules():
            if isinstance(module, nn.Linear):
                orthogonal_(module, 1.0, generator)
            elif isinstance(module, nn.GRUCell):
                for weights in module.parameters():
                    uniform_(weights, sizes.hidden, generator)
                with torch.no_grad():  # the share of the old is about sigmoid(2) = 0.88
                    module.bias_hh[sizes.hidden : 2 * sizes.hidden] += 2.0
        size = sizes.hidden // config.num_heads
        rates = 10_000.0 ** (-torch.arange(0, size, 2) / size)
        self.register_buffer("rates", rates, persistent=False)

    def initial_state(self, num_lanes: int) -> State:
        heads = (self.num_heads, self.sizes.hidden // self.num_heads)
        return self.embedding.weight.new_zeros(num_lanes, 0, len(self.blocks), 2, *heads)

    def forward(
        self, inputs: torch.Tensor, state: State, time: torch.Tensor, starts: torch.Tensor
    ) -> tuple[torch.Tensor, State]:
        if in_export():
            return self._traced(inputs, state, time)
        time = time.T  # (n, T)
        angles = time[..., None, None, None] * self.rates
        rotation = torch.polar(torch.ones_like(angles), angles)  # (n, T, 1, 1, size / 2)
        features = self.embedding(inputs.transpose(0, 1)).flatten(0, 1)  # (n * T, hidden)
        one_step = time.shape[1] == 1 and not torch.is_grad_enabled()
        if one_step and (last := int(time.max())) < self.context:
            features, state = self._append(features, rotation, state, time, last)
        else:
            features, state = self._read(features, rotation, state, time)
        return features.reshape(*time.shape, -1).transpose(0, 1), state

    def _append(
        self,
        features: torch.Tensor,
        rotation: torch.Tensor,
        state: torch.Tensor,
        time: torch.Tensor,
        last: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take one step in each lane; ``last`` is the largest index of them."""
        state, mask = _with_room(state, last, self.context), None
        slot: Any = (slice(None), last)
        if len(time) > 1 and not bool((time == last).all()):
            slot = (torch.arange(len(time), device=time.device), time[:, 0])
            slots = torch.arange(last + 1, device=time.device)
            mask = (slots <= time).to(self.rates.dtype).log()[:, None, None]  # (n, 1, 1, slots)
        for index, block in enumerate(self.blocks):
            queries, new = block.project(features, rotation)
            state[(*slot, index)] = new[:, 0]
            features = block(features, queries, state[:, : last + 1, index], mask)
        return features, state

    def _read(
        self,
        features: torch.Tensor,
        rotation: torch.Tensor,
        state: torch.Tensor,
        time: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take any number of steps."""
        num_slots, num_steps = state.shape[1], time.shape[1]
        # At the start of a trial, and where all trials are at the same step, the steps follow
        # those in the slots, and there is nothing to hide but the future.
        follows = num_slots + num_steps <= self.context and (
            not num_slots or bool((time[:, 0] == num_slots).all())
        )
        simple = follows and (not num_slots or num_steps == 1)
        mask = None if simple else self._mask(time, num_slots)
        features, new = self._through_blocks(features, rotation, state, mask)
        return features, torch.cat([state, new], 1) if follows else self._stored(state, new, time)

    def _through_blocks(
        self,
        features: torch.Tensor,
        rotation: torch.Tensor,
        state: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features (n * T, hidden), and keys and values of these steps (n, T, ...)."""
        read = []
        for block, cache in zip(self.blocks, state.unbind(2)):
            queries, new = block.project(features, rotation)
            features = block(features, queries, torch.cat([cache, new], 1), mask)
            read.append(new)
        return features, torch.stack(read, 2)

    def _traced(
        self, inputs: torch.Tensor, state: torch.Tensor, time: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Read one step in an exported graph, which has no branches and no complex numbers.

        The slots hold the latest steps in their order, not as a ring.
        """
        angles = time.T[..., None, None, None] * self.rates
        rotation = torch.stack([angles.cos(), angles.sin()], -1)  # (n, 1, 1, 1, size / 2, 2)
        age = torch.arange(state.shape[1], -1, -1)  # (slots + 1,), the present step last
        mask = (age <= time.T).to(self.rates.dtype).log()[:, None, None]  # (n, 1, 1, slots + 1)
        features = self.embedding(inputs[0])  # (n, hidden)
        features, new = self._through_blocks(features, rotation, state, mask)
        state = torch.cat([state, new], 1)
        if self.context < sys.maxsize:  # the oldest is out of sight in the next step
            state = state[:, 1 - self.context :] if self.context > 1 else state[:, :0]
        return features[None], state

    def _mask(self, time: torch.Tensor, num_slots: int) -> torch.Tensor:
        """Return 0 where a step attends to another, else -inf, of shape (n, 1, T, slots + T).

        The stored steps come first.
        """
        slots = torch.arange(num_slots, device=time.device)
        last = time[:, :1] - 1  # (n, 1): the step before these
        # Each slot holds the latest step that has this slot; a negative one was never read.
        stored = last - (last - slots) % max(num_slots, 1)  # (n, slots)
        times = torch.cat([stored, time], 1)[:, None]  # (n, 1, slots + T)
        age = time[..., None] - times  # (n, T, slots + T)
        visible = (times >= 0) & (age >= 0) & (age < self.context)
        return visible.to(self.rates.dtype).log()[:, None]

    def _stored(self, old: torch.Tensor, new: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Return the state after steps whose keys and values are ``new``, (n, T, ...)."""
        # A trial that is read from its start needs no look at the times: a GPU would wait for it.
        num_steps = int(time.max()) + 1 if old.shape[1] else time.shape[1]
        num_new = max(min(num_steps, self.context) - old.shape[1], 0)
        slots = torch.cat([old, old.new_zeros(len(old), num_new, *old.shape[2:])], 1)
        lanes = torch.arange(len(old), device=old.device)[:, None]
        kept = min(time.shape[1], self.context)
        slots[lanes, time[:, -kept:] % self.context] = new[:, -kept:]
        return slots


class _Block(nn.Module):
    """Attention to the steps so far, then two layers on each step alone; a gate after each."""

    def __init__(self, size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm, self.layers_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.projection = nn.Linear(size, 3 * size)
        self.output = nn.Linear(size, size)
        self.layers = nn.Sequential(nn.Linear(size, 4 * size), nn.ReLU(), nn.Linear(4 * size, size))
        self.attention_gate, self.layers_gate = nn.GRUCell(size, size), nn.GRUCell(size, size)

    def project(
        self, features: torch.Tensor, rotation: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return queries (n, T, heads, size), and keys and values (n, T, 2, heads, size).

        Args:
            features: The steps, of shape (n * T, hidden).
            rotation: By what queries and keys are multiplied as complex numbers, of shape
                (n, T, 1, 1, size / 2); or their real and imaginary parts, of shape (..., 2).
        """
        projected = self.projection(self.attention_norm(features))
        projected = projected.view(*rotation.shape[:2], 3, self.num_heads, -1)
        pairs = projected[:, :, :2].unflatten(-1, (-1, 2))
        rotated = _rotated(pairs, rotation).flatten(-2)  # (n, T, 2, heads, size)
        return rotated[:, :, 0], torch.stack([rotated[:, :, 1], projected[:, :, 2]], 2)

    def forward(
        self,
        features: torch.Tensor,
        queries: torch.Tensor,
        keys_and_values: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return features (n * T, hidden).

        Args:
            features: The steps, of shape (n * T, hidden).
            queries: Their queries, of shape (n, T, heads, size).
            keys_and_values: What they attend to, of shape (n, slots, 2, heads, size).
            mask: What is added to the scores; None hides the future alone.
        """
        keys, values = keys_and_values.transpose(1, 3).unbind(2)
        attended = nn.functional.scaled_dot_product_attention(
            queries.transpose(1, 2),
            keys,
            values,
            mask,
            is_causal=mask is None and queries.shape[1] > 1,  # one step has no future
        )  # (n, heads, T, size)
        read = self.output(attended.transpose(1, 2).reshape(features.shape))
        features = _gated(self.attention_gate, features, read)
        return _gated(self.layers_gate, features, self.layers(self.layers_norm(features)))


def _with_room(state: torch.Tensor, slot: int, most: int) -> torch.Tensor:
    """Return a state that has a slot and is free to be written to from there on.

    A state is given away once: who reads on from it a second time gets a copy.
    """
    given_away = getattr(state, "given_away", False)
    if slot < state.shape[1] and not given_away:
        state.given_away = True  # type: ignore[attr-defined]
        return state.view_as(state)
    num_slots = max(state.shape[1], min(most, max(16, 2 * slot)))
    # Laid out so that attention reads what it needs in one go.
    shape = (*state.shape[2:5], len(state), num_slots, state.shape[5])
    room = state.new_zeros(shape).permute(3, 4, 0, 1, 2, 5)
    room[:, : state.shape[1]] = state
    return room


def _rotated(pairs: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """Return the products of complex numbers, as pairs of real numbers."""
    if rotation.is_complex():
        return torch.view_as_real(torch.view_as_complex(pairs) * rotation)
    (a, b), (c, d) = pairs.unbind(-1), rotation.unbind(-1)
    return torch.stack([a * c - b * d, a * d + b * c], -1)


def _gated(gate: nn.GRUCell, old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """Return what a gate makes of old and new features, of shape (n * T, size)."""
    weights = (gate.weight_ih, gate.weight_hh, gate.bias_ih, gate.bias_hh)
    return torch.gru_cell(torch.relu(new), old, *weights)  # in half the time of the module's call
