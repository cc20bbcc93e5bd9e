"""An episodic memory: earlier steps of the trial, recalled by their likeness to the present."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from metarl.agents.common.initialization import orthogonal_
from metarl.agents.common.layers import tanh_layers
from metarl.agents.common.memory.contract import Memory, MemorySizes, State, in_export
from metarl.agents.common.memory.recurrent import recurrent_cell, run_gru
from metarl.agents.training.config import Config, Width


@dataclass(frozen=True)
class EpisodicConfig(Config):
    """The ``memory_kwargs`` of an episodic memory."""

    recall_encoder: Sequence[Width] = ()
    """The sizes of tanh layers that a step goes through before it is kept: needed where it is a
    pair that counts, as "this action brought that reward"."""


class EpisodicState(NamedTuple):
    """What an episodic memory holds of n trials.

    Attributes:
        hidden: The unit's state, of shape (n, hidden).
        last_key: The key of the last step, of shape (n, hidden).
        keys: The pairs' keys, of shape (n, slots, hidden): that which step t completed is in slot
            ``t % CAPACITY``.
        values: Their values, of the same shape.
    """

    hidden: torch.Tensor
    last_key: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor


class Episodic(Memory):
    """A gated recurrent unit that recalls what followed when it saw something like the present.

    Each step leaves a pair behind: a key, made of what was seen, and a value, made of the row of
    the step after it, which holds the action taken, the reward and what else followed. The
    present key is compared with all of the trial, and the values, weighted by likeness, go into
    the unit beside the present input; the less is alike, the less is recalled. What was said of a
    picture, one step late, is thus found by the picture's look (after Santoro et al. 2016, section
    3, and Ritter et al. 2018, "Been there, done that: meta-learning with episodic recall").

    Values of several steps are recalled as one mean. The layers ``recall_encoder`` before them let
    it tell what a mean of rows does not: which reward followed which action.

    It recalls the last ``CAPACITY`` pairs.
    """

    CAPACITY = 500

    config_class = EpisodicConfig
    steps_per_piece = 12_800

    def __init__(self, sizes: MemorySizes, config: EpisodicConfig, generator: torch.Generator):
        super().__init__(sizes, config, generator)
        encoder = config.recall_encoder
        self.cell = recurrent_cell(nn.GRU, sizes.inputs + sizes.hidden, sizes.hidden, generator)
        self.key = nn.Linear(sizes.inputs, sizes.hidden)
        self.recall_encoder = tanh_layers(sizes.row, encoder, generator)
        self.value = nn.Linear(encoder[-1] if encoder else sizes.row, sizes.hidden)
        for layer in (self.key, self.value):
            orthogonal_(layer, 1.0, generator)
        self.sharpness = nn.Parameter(torch.tensor(8.0))
        self.least = nn.Parameter(torch.tensor(0.5))  # the cosine that weighs as much as nothing

    def initial_state(self, num_lanes: int) -> State:
        zeros = self.sharpness.new_zeros(num_lanes, self.sizes.hidden)
        return EpisodicState(zeros, zeros, *[zeros[:, None][:, :0]] * 2)  # no slots

    def forward(
        self, inputs: torch.Tensor, state: State, time: torch.Tensor, starts: torch.Tensor
    ) -> tuple[torch.Tensor, State]:
        present = nn.functional.normalize(self.key(inputs), dim=-1)  # (T, n, hidden)
        if in_export():
            return self._traced(inputs, state, time, present)
        new_keys = torch.cat([state.last_key[None], present[:-1]])
        new_values = self.value(self.recall_encoder(inputs[..., : self.sizes.row]))
        # Old and new meet in the scores only: in acting, each copy of the old takes as long as all
        # that is computed with it.
        likeness = torch.cat(  # (n, T, slots + T)
            [
                torch.einsum("tnd,nsd->nts", present, state.keys),
                torch.einsum("tnd,snd->nts", present, new_keys),
            ],
            -1,
        )
        weights = self._weights(likeness, self._known(time, state.keys.shape[1]))
        of_old, of_new = weights.tensor_split([state.keys.shape[1]], -1)
        recalled = torch.einsum("nts,nsd->tnd", of_old, state.values)
        recalled = recalled + torch.einsum("nts,snd->tnd", of_new, new_values)
        features, hidden = run_gru(self.cell, torch.cat([inputs, recalled], -1), state.hidden)
        keys, values = (
            self._stored(old, new, time)
            for old, new in ((state.keys, new_keys), (state.values, new_values))
        )
        return features, EpisodicState(hidden, present[-1], keys, values)

    def _weights(self, likeness: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Return how much of each pair is recalled, of shape (n, T, pairs)."""
        scores = (self.sharpness * (likeness - self.least)).masked_fill(~known, -torch.inf)
        # One score of zero besides those of the pairs is that of recalling nothing.
        return nn.functional.pad(scores, (0, 1)).softmax(-1)[..., :-1]

    def _traced(
        self, inputs: torch.Tensor, state: State, time: torch.Tensor, present: torch.Tensor
    ) -> tuple[torch.Tensor, State]:
        """Read one step in an exported graph, which has no branches.

        The slots hold the latest pairs in their order, not as a ring, and one that the first step
        seems to complete.
        """
        value = self.value(self.recall_encoder(inputs[0, :, : self.sizes.row]))  # (n, hidden)
        keys = torch.cat([state.keys, state.last_key[:, None]], 1)
        values = torch.cat([state.values, value[:, None]], 1)
        age = torch.arange(state.keys.shape[1], -1, -1)  # (pairs,), the present step's is last
        known = (age < time.T) & (age < self.CAPACITY)  # (n, pairs)
        likeness = torch.einsum("nd,nsd->ns", present[0], keys)[:, None]
        recalled = (self._weights(likeness, known[:, None]) @ values).transpose(0, 1)
        features, hidden = run_gru(self.cell, torch.cat([inputs, recalled], -1), state.hidden)
        keys, values = keys[:, 1 - self.CAPACITY :], values[:, 1 - self.CAPACITY :]
        return features, EpisodicState(hidden, present[0], keys, values)

    def _known(self, time: torch.Tensor, num_slots: int) -> torch.Tensor:
        """Return which pairs each step can recall, the stored ones first: (n, T, slots + T)."""
        steps = torch.arange(len(time), device=time.device)
        slots = torch.arange(num_slots, device=time.device)
        last = time[:1].T - 1  # (n, 1): the step before these
        # Each slot's pair is of the latest step that has this slot. The first step completes none:
        # nothing was seen before it.
        stored = last - (last - slots) % max(num_slots, 1)  # (n, slots)
        old_age = steps[:, None] + (last + 1 - stored)[:, None]  # (n, T, slots)
        old = (old_age < self.CAPACITY) & (stored > 0)[:, None]
        new_age = steps[:, None] - steps  # (T, T)
        new = (new_age >= 0) & (new_age < self.CAPACITY) & (time > 0).T[:, None]  # (n, T, T)
        return torch.cat([old, new], -1)

    def _stored(self, old: torch.Tensor, new: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Return the slots (n, slots, hidden) after new pairs of shape (T, n, hidden)."""
        num_old, num_new = old.shape[1], len(new)
        if not num_old and num_new <= self.CAPACITY:  # a trial from its start
            return new.transpose(0, 1)
        num_added = min(num_old + num_new, self.CAPACITY) - num_old
        slots = torch.cat([old, old.new_zeros(len(old), num_added, old.shape[2])], 1)
        lanes = torch.arange(len(old), device=old.device)[:, None]
        places = time[-self.CAPACITY :].T % self.CAPACITY  # (n, T)
        slots[lanes, places] = new[-self.CAPACITY :].transpose(0, 1)
        return slots
