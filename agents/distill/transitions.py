"""DPT's network: queries that attend to a set of transitions."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import nn

from metarl.agents.common.actions import ActionHead
from metarl.agents.common.initialization import orthogonal_
from metarl.agents.training.config import Config, Count, Range, Width
from metarl.errors import InvalidValueError


@dataclass(frozen=True)
class DPTNetworkConfig(Config):
    """The ``policy_kwargs`` of DPT."""

    hidden_size: Width = 64
    """The number of features; it must be a multiple of ``num_heads``."""
    num_layers: Count = 3
    """The number of blocks."""
    num_heads: Count = 4
    """The heads of each attention."""
    log_std_init: Annotated[float, Range(-100, 100)] = -0.5
    """The initial log standard deviation of Box actions, in units of half the action range."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size % self.num_heads:
            raise InvalidValueError(
                f"hidden_size must be a multiple of num_heads={self.num_heads}, "
                f"got {self.hidden_size}"
            )


class TransitionNetwork(nn.Module):
    """Chooses the action of a query state by attention to transitions, in no order.

    A transition is read alone, once: all blocks attend to what is stored of it. So the choice does
    not depend on the order of the transitions, and acting reads each of them once. Each block also
    has a key and a value of its own, for where there is nothing to attend to.

    Args:
        transition_size: The length of a transition.
        query_size: The length of a query.
        action_head: What the outputs are for.
        config: Its sizes.
        generator: The source of the initial weights.
    """

    def __init__(
        self,
        transition_size: int,
        query_size: int,
        action_head: ActionHead,
        config: DPTNetworkConfig,
        generator: torch.Generator,
    ):
        super().__init__()
        size = config.hidden_size
        self.action_head = action_head
        self.heads = (config.num_heads, size // config.num_heads)
        self.read = nn.Sequential(
            nn.Linear(transition_size, size), nn.ReLU(), nn.Linear(size, size), nn.ReLU()
        )
        self.projection = nn.Linear(size, config.num_layers * 2 * size)
        self.nothing = nn.Parameter(torch.zeros(config.num_layers, 2, *self.heads))
        self.query = nn.Linear(query_size + 1, size)
        self.blocks = nn.ModuleList(
            _Block(size, config.num_heads) for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(size)
        self.policy = nn.Linear(size, action_head.num_outputs)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                orthogonal_(module, 1.0, generator)
        orthogonal_(self.policy, 0.01, generator)  # close to uniform at first
        self.log_std = (
            nn.Parameter(torch.full((action_head.num_log_std,), config.log_std_init))
            if action_head.num_log_std
            else None
        )

    def store(self, transitions: torch.Tensor) -> torch.Tensor:
        """Return keys and values of transitions (..., transition_size).

        They are of shape (..., num_layers, 2, num_heads, size / num_heads).
        """
        projected: torch.Tensor = self.projection(self.read(transitions))
        return projected.reshape(*projected.shape[:-1], *self.nothing.shape)

    def forward(
        self, queries: torch.Tensor, stored: torch.Tensor, visible: torch.Tensor
    ) -> torch.Tensor:
        """Return the policy's outputs, of shape (n, num_queries, num_outputs).

        Args:
            queries: The query states, of shape (n, num_queries, query_size).
            stored: What :meth:`store` gave of transitions, of shape (n, num_transitions, ...).
            visible: Which transitions each query attends to, of shape (n, num_queries,
                num_transitions).
        """
        stored = torch.cat([self.nothing.expand(len(stored), 1, *self.nothing.shape), stored], 1)
        mask = nn.functional.pad(visible, (1, 0), value=True)[:, None]  # (n, 1, queries, T + 1)
        counts = mask[:, 0].sum(-1, keepdim=True)
        features = self.query(torch.cat([queries, counts.log()], -1))
        # To (num_layers, 2, n, num_heads, num_transitions + 1, size / num_heads).
        for block, (keys, values) in zip(self.blocks, stored.permute(2, 3, 0, 4, 1, 5)):
            features = block(features, keys, values, mask, counts)
        outputs: torch.Tensor = self.policy(self.norm(features))
        return outputs


class _Block(nn.Module):
    """Attention to what is stored, then two layers on each query alone."""

    def __init__(self, size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm, self.layers_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.query, self.output = nn.Linear(size, size), nn.Linear(2 * size, size)
        self.layers = nn.Sequential(nn.Linear(size, 4 * size), nn.ReLU(), nn.Linear(4 * size, size))

    def forward(
        self,
        features: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        mask: torch.Tensor,
        counts: torch.Tensor,
    ) -> torch.Tensor:
        """Return features of shape (n, num_queries, size)."""
        queries = self.query(self.attention_norm(features)).unflatten(-1, (self.num_heads, -1))
        read = nn.functional.scaled_dot_product_attention(
            queries.transpose(1, 2), keys, values, mask
        )  # (n, num_heads, num_queries, size / num_heads)
        # Attention gives means. What is certain depends on sums, such as how often an arm has won.
        means = read.transpose(1, 2).flatten(2)
        sums = means * counts
        logs = sums.sign() * sums.abs().log1p()
        features = features + self.output(torch.cat([means, logs], -1))
        updated: torch.Tensor = features + self.layers(self.layers_norm(features))
        return updated
