"""Memory and policy for actions that use tools on things (:class:`metarl.tools.ToolUse`)."""

from typing import NamedTuple

import torch
from torch import nn

from metarl.agents.common.actions import IMPOSSIBLE
from metarl.agents.common.initialization import orthogonal_
from metarl.agents.common.memory.contract import Memory, MemorySizes, NoOptions, State
from metarl.tools import ToolUse
from metarl.trial import TrialInput

_TOLERANCE = 1e-3  # of values that are read


class Table(NamedTuple):
    """What an observation shows, of shapes (..., ...).

    Attributes:
        looks: One-hot, of shape (..., things + 1, look_size); the last thing is none, all zeros.
        kinds: The kind of each tool, of shape (..., tools + 1); that of an absent tool, and of the
            last one, which is none, is the number of kinds.
        counts: How many tools of each kind there are, of shape (..., kinds).
    """

    looks: torch.Tensor
    kinds: torch.Tensor
    counts: torch.Tensor


class TableReader(nn.Module):
    """Reads things and tools from rows that begin with an observation.

    Args:
        tools: Where they are.
    """

    columns: torch.Tensor
    values: torch.Tensor
    tools: torch.Tensor
    kinds: torch.Tensor

    def __init__(self, tools: ToolUse):
        super().__init__()
        self.num_things, self.num_kinds = len(tools.things), len(tools.kinds)
        entries = [entry for entry, values in enumerate(tools.looks) for _ in values]
        columns = torch.tensor(tools.things)[:, entries]  # (things, look_size)
        self.look_size = len(entries)
        self._keep("columns", columns)
        self._keep("values", torch.tensor([value for values in tools.looks for value in values]))
        self._keep("tools", torch.tensor(tools.tools))
        self._keep("kinds", torch.tensor(tools.kinds))

    def _keep(self, name: str, values: torch.Tensor) -> None:
        self.register_buffer(name, values, persistent=False)

    def forward(self, rows: torch.Tensor) -> Table:
        seen = (rows[..., self.columns] - self.values).abs() < _TOLERANCE
        looks = nn.functional.pad(seen.to(rows.dtype), (0, 0, 0, 1))  # a last thing: none
        alike = ((rows[..., self.tools, None] - self.kinds).abs() < _TOLERANCE).to(rows.dtype)
        # Where there is none of the kinds, nothing is subtracted from their number.
        below = torch.arange(self.num_kinds, 0, -1, dtype=rows.dtype, device=rows.device)
        kinds = self.num_kinds - (alike @ below)
        kinds = nn.functional.pad(kinds, (0, 1), value=self.num_kinds).long()
        return Table(looks, kinds, alike.sum(-2))


class ToolMemory(Memory):
    """A memory for each kind of tool: what its uses have done so far in the trial.

    Each use is encoded: how the thing looked before and after, and the reward. The memory of a kind
    is the greatest value of each feature over all uses of that kind (after Beck et al. 2024,
    "SplAgger", which takes maxima over all transitions). Neither the order of the uses counts nor
    how many there were, and one encoder serves all kinds, so what it learns from one it knows of
    all. Nothing is multiplied over time: gradients reach any step at once.

    The state is the last observation, of shape (n, size), and the memories, (n, kinds, units).

    Args:
        tools: What actions are about.
        trial_input: Where rows hold the parts of a step.
        units: The features of each kind of tool.
        generator: The source of the initial weights.
    """

    things: torch.Tensor
    used: torch.Tensor

    def __init__(
        self, tools: ToolUse, trial_input: TrialInput, units: int, generator: torch.Generator
    ):
        size, hidden = trial_input.size, len(tools.kinds) * units
        super().__init__(MemorySizes(size, size, hidden), NoOptions(), generator)
        self.units, self.input = units, trial_input
        self.reader = TableReader(tools)
        things, used = torch.tensor(tools.actions).T
        self.register_buffer("things", things % (len(tools.things) + 1), persistent=False)
        self.register_buffer("used", used % (len(tools.tools) + 1), persistent=False)
        self.encoder = nn.Linear(2 * self.reader.look_size + 1, units)
        self.output = nn.Linear(units, units)
        orthogonal_(self.encoder, 2.0**0.5, generator)
        orthogonal_(self.output, 1.0, generator)

    def initial_state(self, num_lanes: int) -> State:
        zeros = self.output.weight.new_zeros
        return (
            zeros(num_lanes, self.input.observation.stop),
            zeros(num_lanes, self.reader.num_kinds, self.units),
        )

    def forward(
        self, inputs: torch.Tensor, state: State, time: torch.Tensor, starts: torch.Tensor
    ) -> tuple[torch.Tensor, State]:
        last, memories = state
        seen = inputs[..., self.input.observation]
        looks, kinds, _ = self.reader(torch.cat([last[None], seen]))
        actions = inputs[..., self.input.action].argmax(-1, keepdim=True)  # (T, n, 1)
        thing = self.things[actions][..., None].expand(*actions.shape, looks.shape[-1])
        before, after = (look.gather(-2, thing).squeeze(-2) for look in (looks[:-1], looks[1:]))
        kind = kinds[:-1].gather(-1, self.used[actions]).squeeze(-1)
        # The first observation of an episode shows other things than the use before it.
        kind = kind.masked_fill(starts, self.reader.num_kinds)
        use = torch.cat([before, after, inputs[..., self.input.reward]], -1)
        effect = torch.relu(self.output(torch.relu(self.encoder(use))))  # (T, n, units)
        kept = nn.functional.one_hot(kind, self.reader.num_kinds + 1)[..., :-1, None]
        found = (kept * effect[..., None, :]).cummax(0).values  # (T, n, kinds, units)
        found = torch.maximum(found, memories)
        return found.flatten(-2), (seen[-1], found[-1])


class ToolPolicy(nn.Module):
    """The logits of actions, each made of its thing, the memory of its tool's kind, and the rest.

    Every pair of a thing and a kind of tool is scored by the same layers. All memories together,
    and all that is on the table, are read too, and a learned matrix says which kinds have to do
    with which others, as opposites have. Actions on what is absent are impossible.

    Args:
        tools: What actions are about.
        units: The features of each kind of tool, and the units of the layers.
        generator: The source of the initial weights.
    """

    things: torch.Tensor
    used: torch.Tensor
    without: torch.Tensor

    def __init__(self, tools: ToolUse, units: int, generator: torch.Generator):
        super().__init__()
        self.units, self.reader = units, TableReader(tools)
        num_kinds, look_size = self.reader.num_kinds, self.reader.look_size
        things, used = torch.tensor(tools.actions).T
        self.register_buffer("things", things % (len(tools.things) + 1), persistent=False)
        self.register_buffer("used", used % (len(tools.tools) + 1), persistent=False)
        self.register_buffer("without", used < 0, persistent=False)
        self.context = nn.Linear(num_kinds * units + num_kinds + look_size, units)
        self.of_context = nn.Linear(units, (num_kinds + 1) * units)
        self.of_look = nn.Linear(look_size, units)
        self.of_memory = nn.Linear(units, units, bias=False)
        self.of_relatives = nn.Linear(units, units, bias=False)
        self.relatives = nn.Parameter(torch.full((num_kinds, num_kinds), 1.0 / num_kinds))
        self.together = nn.Linear(units, units)
        self.output = nn.Linear(units, 1)
        for layer in (self.context, self.together):
            orthogonal_(layer, 2.0**0.5, generator)
        for layer in (self.of_context, self.of_look):
            orthogonal_(layer, 1.0, generator)
        for layer in (self.of_memory, self.of_relatives):
            nn.init.orthogonal_(layer.weight, 1.0, generator=generator)
        orthogonal_(self.output, 0.01, generator)

    def forward(self, features: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits of shape (..., actions).

        Args:
            features: Of a :class:`ToolMemory`, of shape (..., kinds * units).
            inputs: The present rows.
        """
        looks, kinds, counts = self.reader(inputs)
        table = torch.cat([features, counts / len(self.reader.tools), looks.sum(-2)], -1)
        context = torch.relu(self.context(table))
        of_kinds = self.of_context(context)
        of_kinds = of_kinds.reshape(*of_kinds.shape[:-1], -1, self.units)
        memories = features.reshape(*features.shape[:-1], -1, self.units)
        of_memories = self.of_memory(memories) + self.of_relatives(self.relatives @ memories)
        of_kinds = of_kinds + nn.functional.pad(of_memories, (0, 0, 0, 1))  # no tool, no memory
        pairs = torch.relu(self.of_look(looks)[..., :, None, :] + of_kinds[..., None, :, :])
        # (..., (things + 1) * (kinds + 1))
        scores = self.output(torch.relu(self.together(pairs))).flatten(-3)
        kind = kinds[..., self.used]
        present = looks.any(-1)
        present = present | (
            torch.arange(present.shape[-1], device=kind.device) == self.reader.num_things
        )
        possible = present[..., self.things] & (self.without | (kind < self.reader.num_kinds))
        logits = scores.gather(-1, self.things * (self.reader.num_kinds + 1) + kind)
        masked: torch.Tensor = logits.masked_fill(~possible, IMPOSSIBLE)
        return masked
