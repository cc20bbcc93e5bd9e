"""A linear recurrence: what is kept of a step depends on the inputs alone, so reading is cheap."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from metarl.agents.common.actions import orthogonal_
from metarl.agents.common.memory.contract import Memory, MemorySizes, State
from metarl.agents.training.config import Config, Count


@dataclass(frozen=True)
class LinearConfig(Config):
    """The ``memory_kwargs`` of a linear recurrence."""

    num_layers: Count = 2
    """The number of recurrent layers. A single one only sums up what it sees."""


class Linear(Memory):
    """A stack of minimal gated recurrent units (Feng et al. 2024, "Were RNNs all we needed?").

    In each layer ``h[t] = (1 - z[t]) * h[t-1] + z[t] * c[t]``, where gate z and candidate c are
    linear in the normalised input of the layer, the gate after a sigmoid. Neither sees ``h[t-1]``,
    so one matrix product makes all of them, and what is left step by step is one multiplication and
    one addition. Each layer adds what it holds to its input.

    Gates start with time scales of 2 to 1,100 steps (after Tallec and Ollivier 2018, "Can recurrent
    neural networks warp time?"): with equal ones of two steps, nothing old would be learned from.

    The state is what the layers hold, of shape (n, num_layers, hidden).
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
        for layer in (self.embedding, *self.layers):
            assert isinstance(layer, nn.Linear)
            orthogonal_(layer, 1.0, generator)
        for layer in self.layers:
            nn.init.uniform_(layer.bias[:size], -7.0, 0.0, generator=generator)  # of the gates

    def initial_state(self, num_lanes: int) -> State:
        return self.embedding.weight.new_zeros(num_lanes, len(self.layers), self.sizes.hidden)

    def forward(
        self, inputs: torch.Tensor, state: State, time: torch.Tensor, starts: torch.Tensor
    ) -> tuple[torch.Tensor, State]:
        features, after = self.embedding(inputs), []
        for norm, layer, held in zip(self.norms, self.layers, state.unbind(1)):
            gates, candidates = layer(norm(features)).chunk(2, -1)
            share = torch.sigmoid(gates)
            held = scan(1.0 - share, share * candidates, held)  # (T, n, hidden)
            features = features + held
            after.append(held[-1])
        return torch.tanh(self.output_norm(features)), torch.stack(after, 1)


def scan(factors: torch.Tensor, terms: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """Return ``h[t] = factors[t] * h[t-1] + terms[t]`` for all steps.

    Args:
        factors: Of shape (T, n, size).
        terms: Of shape (T, n, size).
        start: What is there before the first step, of shape (n, size).

    Returns:
        A tensor of shape (T, n, size).
    """
    result: torch.Tensor = _Scan.apply(factors, terms, start)  # type: ignore[no-untyped-call]
    return result


class _Scan(torch.autograd.Function):
    """The scan, step by step and in place; its gradient is a scan from the end.

    It takes less time than the matrix products around it. Scans of log(T) passes take more on a
    CPU: each pass reads and writes the whole sequence.
    """

    @staticmethod
    def forward(
        ctx: Any, factors: torch.Tensor, terms: torch.Tensor, start: torch.Tensor
    ) -> torch.Tensor:
        result = terms.clone()
        before = start
        for factor, row in zip(factors.unbind(), result.unbind()):
            before = row.addcmul_(factor, before)
        ctx.save_for_backward(factors, result, start)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
        factors, result, start = ctx.saved_tensors
        by_terms = gradient.clone()  # by_terms[t] = gradient[t] + factors[t + 1] * by_terms[t + 1]
        rows = by_terms.unbind()
        for t in reversed(range(len(rows) - 1)):
            rows[t].addcmul_(factors[t + 1], rows[t + 1])
        by_factors = by_terms * torch.cat([start[None], result[:-1]])
        return by_factors, by_terms, factors[0] * by_terms[0]
