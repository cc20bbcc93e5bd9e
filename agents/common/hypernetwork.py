"""A network whose weights another network emits, anew for every step."""

from collections.abc import Sequence

import torch
from torch import nn

from metarl.agents.common.initialization import orthogonal_

CONTEXT_SIZE = 25
"""The length of what is made of the memory before weights are emitted (Beck et al. 2023)."""


class Hypernetwork(nn.Module):
    """A multilayer perceptron of the present input, with weights that depend on the memory.

    The memory is projected to a short context, of which the weights and biases of each layer are a
    linear function (Beck et al. 2022, "Hypernetworks in Meta-Reinforcement Learning"; 2023,
    "Recurrent Hypernetworks are Surprisingly Strong in Meta-RL"). Its matrix starts at zero and its
    bias is an ordinary initialisation of the emitted layer (Bias-HyperInit, 2022, section 4): at
    the start the outputs are those of an ordinary network that ignores the memory.

    Args:
        memory_size: The length of the memory's features.
        input_size: The length of an input.
        sizes: The sizes of the emitted tanh layers.
        num_outputs: The length of an output.
        gain: The gain of the emitted last layer at the start.
        generator: The source of the initial weights.
    """

    def __init__(
        self,
        memory_size: int,
        input_size: int,
        sizes: Sequence[int],
        num_outputs: int,
        gain: float,
        generator: torch.Generator,
    ):
        super().__init__()
        self.context = nn.Linear(memory_size, CONTEXT_SIZE)
        orthogonal_(self.context, 1.0, generator)
        widths = [input_size, *sizes]
        self.layers = nn.ModuleList(
            _EmittedLayer(fan_in, fan_out, 2.0**0.5, generator)
            for fan_in, fan_out in zip(widths, sizes)
        )
        self.output = _EmittedLayer(widths[-1], num_outputs, gain, generator)

    def forward(self, features: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return outputs of shape (..., num_outputs).

        Args:
            features: The memory's features, of shape (..., memory_size).
            inputs: The present inputs, of shape (..., input_size).
        """
        context = self.context(features)
        for layer in self.layers:
            inputs = torch.tanh(layer(context, inputs))
        outputs: torch.Tensor = self.output(context, inputs)
        return outputs


class _EmittedLayer(nn.Module):
    """A layer with the weights ``start + sum of context[k] * change[k]``, biases likewise.

    The weights of a step are never built: the sum is one matrix product with all products of a
    number of the context and one of the input.
    """

    def __init__(self, fan_in: int, fan_out: int, gain: float, generator: torch.Generator):
        super().__init__()
        self.start = nn.Linear(fan_in, fan_out)
        orthogonal_(self.start, gain, generator)
        self.change = nn.Linear(CONTEXT_SIZE * (fan_in + 1), fan_out, bias=False)
        nn.init.zeros_(self.change.weight)

    def forward(self, context: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        with_one = nn.functional.pad(inputs, (0, 1), value=1.0)  # the last is the bias's
        products = (context[..., :, None] * with_one[..., None, :]).flatten(-2)
        outputs: torch.Tensor = self.start(inputs) + self.change(products)
        return outputs
