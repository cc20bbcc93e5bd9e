"""A linear recurrence: what is kept of a step depends on the inputs alone, so reading is cheap."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from metarl.agents.common.initialization import orthogonal_
from metarl.agents.common.memory.contract import Memory, MemorySizes, State
from metarl.agents.training.config import Config, Count


@dataclass(frozen=True)
class LinearConfig(Config):
    """The ``memory_kwargs`` of a linear recurrence."""

    num_layers: Count = 2
    """The number of recurrent layers. A single one only sums up what it sees."""


class Linear(Memory):
    """A stack of minimal gated recurrent units (Feng et al. 2024, "Were RNNs all we needed?").

    In each layer ``h[t] = g[t] * h[t-1] + (1 - g[t]) * c[t]``, where gate g and candidate c are
    linear in the normalised input of the layer, the gate before a sigmoid. Neither sees ``h[t-1]``,
    so one matrix product makes those of all steps. Each layer adds ``h`` to its input.

    Gates start with time scales of 2 to 1,100 steps (after Tallec and Ollivier 2018, "Can recurrent
    neural networks warp time?"): were all of them 2, nothing would be learned from what is old.

    The state is the ``h`` of each layer, of shape (n, num_layers, hidden).
    """

    config_class = LinearConfig
    steps_per_piece = 6_400

    def __init__(self, sizes: MemorySizes, config: LinearConfig, generator: torch.Generator):
        super().__init__(sizes, config, generator)
        size = sizes.hidden
        self.embedding = nn.Linear(sizes.inputs, size)
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(config.num_layers))
        self.layers = nn.ModuleList(nn.Linear(size, 2 * size) for _ in range(config.num_layers))
        self.output_norm = nn.LayerNorm(size)
        orthogonal_(self.embedding, 1.0, generator)
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            orthogonal_(layer, 1.0, generator)
            nn.init.uniform_(layer.bias[:size], 0.0, 7.0, generator=generator)  # of the gates

    def initial_state(self, num_lanes: int) -> State:
        return self.embedding.weight.new_zeros(num_lanes, len(self.layers), self.sizes.hidden)

    def forward(
        self, inputs: torch.Tensor, state: State, time: torch.Tensor, starts: torch.Tensor
    ) -> tuple[torch.Tensor, State]:
        features, after = self.embedding(inputs), []
        for norm, layer, held in zip(self.norms, self.layers, state.unbind(1)):
            gates, candidates = layer(norm(features)).chunk(2, -1)
            held = scan(torch.sigmoid(gates), candidates, held)  # (T, n, hidden)
            features = features + held
            after.append(held[-1])
        return torch.tanh(self.output_norm(features)), torch.stack(after, 1)


def scan(gates: torch.Tensor, candidates: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """Return ``h[t] = gates[t] * h[t-1] + (1 - gates[t]) * candidates[t]`` of all steps.

    Args:
        gates: Of shape (T, n, size).
        candidates: Of shape (T, n, size).
        start: ``h`` before the first step, of shape (n, size).

    Returns:
        A tensor of shape (T, n, size).
    """
    if len(gates) == 1:  # acting: the same numbers in less time
        return torch.lerp(candidates, start, gates)
    result: torch.Tensor = _Scan.apply(gates, candidates, start)  # type: ignore[no-untyped-call]
    return result


class _Scan(torch.autograd.Function):
    """The scan, step by step and in place; its gradient is a scan from the end.

    It takes less time than the matrix products around it. Scans of log(T) passes take more on a
    CPU: each pass reads and writes the whole sequence.
    """

    @staticmethod
    def forward(
        ctx: Any, gates: torch.Tensor, candidates: torch.Tensor, start: torch.Tensor
    ) -> torch.Tensor:
        result = candidates.clone()
        before = start
        for gate, row in zip(gates.unbind(), result.unbind()):
            before = row.lerp_(before, gate)
        ctx.save_for_backward(gates, candidates, start, result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
        gates, candidates, start, result = ctx.saved_tensors
        total = gradient.clone()  # total[t] = gradient[t] + gates[t + 1] * total[t + 1]
        after = total[-1]
        for gate, row in zip(reversed(gates.unbind()[1:]), reversed(total.unbind()[:-1])):
            after = row.addcmul_(gate, after)
        kept = total * gates
        before = torch.cat([start[None], result[:-1]])
        return before.sub_(candidates).mul_(total), total - kept, kept[0]
