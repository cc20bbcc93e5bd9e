"""A policy whose parameters may differ from task to task: all tasks in one batched product."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import torch
from gymnasium import spaces
from torch import nn
from torch.distributions import Distribution

from metarl.agents.common.actions import action_head
from metarl.agents.common.noise import ActionNoise
from metarl.agents.training.config import Config, Range, Width

Stacked: TypeAlias = dict[str, torch.Tensor]
"""Parameters of M tasks: for each name a tensor of shape (M, *shape)."""

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
}


@dataclass(frozen=True)
class PolicyConfig(Config):
    """The ``policy_kwargs`` of MAML."""

    hidden_sizes: Sequence[Width] = (100, 100)
    """The number of units of each hidden layer."""
    activation: Literal["relu", "tanh"] = "relu"
    """The nonlinearity of hidden layers."""
    log_std_init: Annotated[float, Range(-100, 100)] = 0.0
    """The initial log standard deviation of Box actions, in units of half the action range."""
    output_gain: Annotated[float, Range(0, 1e6)] = 1.0
    """A factor on the last layer's initial weights. With large observations, 1 gives first actions
    beyond their bounds, where the policy cannot explore."""


class StackedPolicy(nn.Module):
    """A multilayer perceptron that takes its parameters as an argument, stacked over tasks.

    The module's own parameters are those before adaptation.

    Args:
        observation_size: The length of an observation.
        action_space: The action space.
        generator: The source of the initial weights.
        config: Sizes and kinds.
        mask: The part of an observation that says which actions are allowed; None if none does.

    Attributes:
        head: From outputs to action distributions.
        last_layer: The names of the last layer's parameters.
    """

    def __init__(
        self,
        observation_size: int,
        action_space: spaces.Space[Any],
        generator: torch.Generator,
        config: PolicyConfig,
        mask: slice | None = None,
    ):
        super().__init__()
        self._mask = mask
        self.head = action_head(action_space, masked=mask is not None)
        self._activation = _ACTIVATIONS[config.activation]
        sizes = [observation_size, *config.hidden_sizes, self.head.num_outputs]
        self.num_layers = len(sizes) - 1
        for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            weight = torch.empty(fan_in, fan_out)
            gain = config.output_gain if index == self.num_layers - 1 else 1.0
            nn.init.xavier_uniform_(weight, gain, generator=generator)
            self.register_parameter(f"weight{index}", nn.Parameter(weight))
            self.register_parameter(f"bias{index}", nn.Parameter(torch.zeros(fan_out)))
        if self.head.num_log_std:
            log_std = torch.full((self.head.num_log_std,), config.log_std_init)
            self.log_std = nn.Parameter(log_std)
        self.last_layer = (f"weight{self.num_layers - 1}", f"bias{self.num_layers - 1}")

    def stacked(self, num_tasks: int) -> Stacked:
        """Return the module's own parameters, the same for every task."""
        return {name: p.expand(num_tasks, *p.shape) for name, p in self.named_parameters()}

    def outputs(
        self, observations: torch.Tensor, parameters: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the network's outputs, of shape (num_tasks, n, num_outputs).

        Args:
            observations: Of shape (num_tasks, n, observation_size).
            parameters: The parameters of every task.
        """
        features = observations
        for index in range(self.num_layers):
            bias = parameters[f"bias{index}"].unsqueeze(1)
            features = torch.baddbmm(bias, features, parameters[f"weight{index}"])
            if index < self.num_layers - 1:
                features = self._activation(features)
        if self._mask is not None:
            features = self.head.forbid(features, observations[..., self._mask])
        return features

    def distribution(
        self, outputs: torch.Tensor, parameters: Mapping[str, torch.Tensor]
    ) -> Distribution:
        """Return the distributions over actions of the network's outputs."""
        return self.head.distribution(outputs, self._log_std(parameters))

    def sample(
        self,
        outputs: torch.Tensor,
        parameters: Mapping[str, torch.Tensor],
        noise: ActionNoise | None,
    ) -> torch.Tensor:
        """Draw actions from them; the most likely ones without noise."""
        return self.head.sample(outputs, self._log_std(parameters), noise)

    def _log_std(self, parameters: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        return parameters["log_std"].unsqueeze(1) if self.head.num_log_std else None

    def forward(
        self, observations: torch.Tensor, parameters: Mapping[str, torch.Tensor]
    ) -> Distribution:
        """Return the distributions over actions, of batch shape (num_tasks, n).

        Args:
            observations: Of shape (num_tasks, n, observation_size).
            parameters: The parameters of every task.
        """
        return self.distribution(self.outputs(observations, parameters), parameters)
