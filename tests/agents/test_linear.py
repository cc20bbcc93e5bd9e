"""The linear recurrence: its scan, and how far back it can learn from."""

import pytest
import torch
from test_memories import SIZES, random_inputs, read

from metarl.agents.common.memory.linear import Linear, LinearConfig, scan


def loop(gates, candidates, start):
    result = []
    for gate, candidate in zip(gates, candidates):
        start = gate * start + (1 - gate) * candidate
        result.append(start)
    return torch.stack(result)


@pytest.mark.parametrize("num_steps", [1, 2, 30])
def test_the_scan_and_its_gradient_are_those_of_a_plain_loop(num_steps):
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        values = torch.rand(*shape, generator=generator, dtype=torch.float64)
        return values.requires_grad_()

    given = [drawn(num_steps, 3, 5), drawn(num_steps, 3, 5), drawn(3, 5)]
    weights = torch.randn(num_steps, 3, 5, generator=generator, dtype=torch.float64)
    results = [function(*given) for function in (scan, loop)]
    torch.testing.assert_close(*results)
    gradients = [torch.autograd.grad((result * weights).sum(), given) for result in results]
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other)
        assert (one != 0).all()


def test_features_are_those_of_the_definition():
    memory = Linear(SIZES, LinearConfig(), torch.Generator().manual_seed(0)).double()
    inputs = random_inputs()
    expected = []
    held = [torch.zeros(3, SIZES.hidden, dtype=torch.float64) for _ in range(2)]
    for step in inputs:
        x = memory.embedding(step)
        for i, (norm, layer) in enumerate(zip(memory.norms, memory.layers)):
            gate, candidate = layer(norm(x)).split(SIZES.hidden, -1)
            gate = torch.sigmoid(gate)
            held[i] = gate * held[i] + (1 - gate) * candidate
            x = x + held[i]
        expected.append(torch.tanh(memory.output_norm(x)))
    features, state = read(memory, inputs)
    torch.testing.assert_close(features, torch.stack(expected))
    torch.testing.assert_close(state, torch.stack(held, 1))
