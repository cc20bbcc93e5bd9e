"""Memories of RL²'s network: what they have seen of a trial, as a tensor."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import nn

from metarl.agents.common.actions import orthogonal_, uniform_


def tanh_layers(input_size: int, sizes: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    """Return layers of these sizes, each followed by tanh; none of them changes nothing."""
    layers: list[nn.Module] = []
    for size in sizes:
        linear = nn.Linear(input_size, size)
        orthogonal_(linear, 2.0**0.5, generator)
        layers += [linear, nn.Tanh()]
        input_size = size
    return nn.Sequential(*layers)


class Memory(nn.Module, ABC):
    """An encoder and a recurrent cell. Its state is one tensor, (num_slots, n, hidden_size).

    Args:
        row_size: The length of an input's row: observation, last action, last reward, episode end.
        num_features: The number of features of images, which follow the row.
        hidden_size: The number of units of the cell.
        encoder: The sizes of tanh layers before the cell.
        generator: The source of the initial weights.

    Attributes:
        cell_class: The recurrent cell of PyTorch, of one layer.
        num_slots: How many tensors of shape (n, hidden_size) the state is made of.
        steps_per_piece: How many steps, of all trials together, one thread takes at a time in an
            update: the most that stay in a core's cache.
    """

    cell_class: Callable[[int, int], nn.RNNBase]
    num_slots: int
    steps_per_piece: int

    def __init__(
        self,
        row_size: int,
        num_features: int,
        hidden_size: int,
        encoder: Sequence[int],
        generator: torch.Generator,
    ):
        super().__init__()
        self.hidden_size = hidden_size
        input_size = row_size + num_features
        self.encoder = tanh_layers(input_size, encoder, generator)
        self.encoded_size = input_size = encoder[-1] if encoder else input_size
        self.cell = type(self).cell_class(input_size + self.recalled_size(), hidden_size)
        for weights in self.cell.parameters():
            uniform_(weights, hidden_size, generator)

    def recalled_size(self) -> int:
        """Return how many numbers the cell takes besides the present input."""
        return 0

    def initial_state(self, num_trials: int) -> torch.Tensor:
        """Return the state at the start of a trial: zeros, (num_slots, n, hidden_size)."""
        weights = next(self.cell.parameters())
        return weights.new_zeros(self.num_slots, num_trials, self.hidden_size)

    def kept(self, before: torch.Tensor, after: torch.Tensor, active: torch.Tensor) -> torch.Tensor:
        """Return the state after a step in which only some trials took part.

        Args:
            before: The state before the step, of all trials.
            after: The state after it.
            active: Which trials took part, of shape (n,).
        """
        return torch.where(active[:, None], after, before)

    @abstractmethod
    def forward(
        self, inputs: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Continue from a state.

        Args:
            inputs: Input rows with features, of shape (time, n, row_size + num_features).
            state: The state before the first row.

        Returns:
            Features of shape (time, n, hidden_size), and the state after the last row.
        """


class GRU(Memory):
    """A gated recurrent unit (Cho et al. 2014)."""

    cell_class = nn.GRU
    num_slots = 1
    steps_per_piece = 12_800

    def forward(
        self, inputs: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        features, after = self.cell(self.encoder(inputs), state)
        return features, after


class LSTM(Memory):
    """Long short-term memory (Hochreiter and Schmidhuber 1997): slots are hidden and cell state."""

    cell_class = nn.LSTM
    num_slots = 2
    steps_per_piece = 6_400

    def __init__(
        self,
        row_size: int,
        num_features: int,
        hidden_size: int,
        encoder: Sequence[int],
        generator: torch.Generator,
    ):
        super().__init__(row_size, num_features, hidden_size, encoder, generator)
        with torch.no_grad():  # a memory that lasts from the start (Jozefowicz et al. 2015)
            self.cell.get_parameter("bias_ih_l0")[hidden_size : 2 * hidden_size] += 1.0

    def forward(
        self, inputs: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        encoded = self.encoder(inputs)
        if len(inputs) == 1:  # acting: a sequence of one takes twice as long as a cell
            weights = self.cell.all_weights[0]
            after = torch.stack(torch.lstm_cell(encoded[0], tuple(state), *weights))
            return after[:1], after
        features, (hidden, cell) = self.cell(encoded, (state[:1], state[1:]))
        return features, torch.cat([hidden, cell])


class Episodic(Memory):
    """A gated recurrent unit that recalls what followed when it saw something like the present.

    Each step leaves a pair behind: a key, made of what was seen, and a value, made of the row of
    the step after it, which tells of the action taken, the reward and what else followed. The
    present key is compared with all of the trial, and the values, weighted by likeness, go into
    the unit beside the present input; the less is alike, the less is recalled. What was said of a
    picture, one step late, is thus found by the picture's look (after Santoro et al. 2016, section
    3, and Ritter et al. 2018, "Been there, done that: meta-learning with episodic recall").

    Values of several steps are recalled as one mean. The layers ``recall_encoder`` before them let
    it tell what a mean of rows does not: which reward followed which action.

    The slots of the state are the unit's, the last key, then all keys and all values, oldest
    first: two more after each step, up to ``CAPACITY`` pairs. A key of zeros is that of no step.
    """

    CAPACITY = 500

    cell_class = nn.GRU
    num_slots = 2
    steps_per_piece = 12_800

    def __init__(
        self,
        row_size: int,
        num_features: int,
        hidden_size: int,
        encoder: Sequence[int],
        generator: torch.Generator,
        recall_encoder: Sequence[int] = (),
    ):
        super().__init__(row_size, num_features, hidden_size, encoder, generator)
        self.row_size = row_size
        self.key = nn.Linear(self.encoded_size, hidden_size)
        self.recall_encoder = tanh_layers(row_size, recall_encoder, generator)
        self.value = nn.Linear(recall_encoder[-1] if recall_encoder else row_size, hidden_size)
        for layer in (self.key, self.value):
            orthogonal_(layer, 1.0, generator)
        self.sharpness = nn.Parameter(torch.tensor(8.0))
        self.least = nn.Parameter(torch.tensor(0.5))  # the cosine that weighs as much as nothing

    def recalled_size(self) -> int:
        return self.hidden_size

    def kept(self, before: torch.Tensor, after: torch.Tensor, active: torch.Tensor) -> torch.Tensor:
        # The step has added a pair to all trials. That of the others is of no step, the oldest.
        added = (len(after) - len(before)) // 2
        pairs = (nn.functional.pad(part, (0, 0, 0, 0, added, 0)) for part in before[2:].chunk(2))
        return super().kept(torch.cat([before[:2], *pairs]), after, active)

    def forward(
        self, inputs: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        hidden, last = state[:1], state[1:2]
        old_keys, old_values = state[2:].chunk(2)
        encoded = self.encoder(inputs)
        present = nn.functional.normalize(self.key(encoded), dim=-1)
        rows = inputs[..., : self.row_size]
        new_keys = torch.cat([last, present[:-1]])
        new_values = self.value(self.recall_encoder(rows))
        # Old and new meet in the scores only: in acting, each copy of the old takes as long as all
        # that is computed with it.
        parts = (old_keys, new_keys)
        likeness = torch.cat([torch.einsum("tnd,snd->nts", present, keys) for keys in parts], -1)
        real = torch.cat([keys.norm(dim=-1) for keys in parts]) > 0.0
        # (n, time, pairs): at each step, the pair that it completes is the last to be known.
        times, places = (torch.arange(len(part), device=real.device) for part in (present, real))
        age = times[:, None] + len(old_keys) - places
        known = (age >= 0) & (age < self.CAPACITY) & real.T[:, None]
        scores = (self.sharpness * (likeness - self.least)).masked_fill(~known, -torch.inf)
        # One score of zero besides those of the pairs is that of recalling nothing.
        weights = nn.functional.pad(scores, (0, 1)).softmax(-1)[..., :-1]
        of_old, of_new = weights.tensor_split([len(old_keys)], -1)
        recalled = torch.einsum("nts,snd->tnd", of_old, old_values)
        recalled = recalled + torch.einsum("nts,snd->tnd", of_new, new_values)
        features, hidden = self.cell(torch.cat([encoded, recalled], -1), hidden)
        gone = max(len(real) - self.CAPACITY, 0)
        kept = (slice(gone, None), slice(max(gone - len(old_keys), 0), None))
        keys = [part[slots] for part, slots in zip((old_keys, new_keys), kept)]
        values = [part[slots] for part, slots in zip((old_values, new_values), kept)]
        return features, torch.cat([hidden, present[-1:], *keys, *values])


MEMORIES: dict[str, type[GRU | LSTM | Episodic]] = {
    "gru": GRU,
    "lstm": LSTM,
    "episodic": Episodic,
}
