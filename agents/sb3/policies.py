"""What SB3's policies lack: images beside rows, and action masks."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from metarl.agents.common.actions import IMPOSSIBLE
from metarl.agents.common.vision import Vision
from metarl.masks import KEY


class RowAndPixels(BaseFeaturesExtractor):
    """The input of SB3's policies for observations in several parts: row and image features.

    Args:
        observation_space: Of rows, and of pixels and masks where there are any.
        shapes: The shape of each image.

    Attributes:
        allowed: The mask of the last observations, for :class:`MaskedPolicy`.
    """

    allowed: torch.Tensor

    def __init__(self, observation_space: spaces.Dict, shapes: Sequence[tuple[int, ...]]):
        (row_size,) = observation_space["row"].shape or (0,)
        super().__init__(observation_space, row_size + 64 * len(shapes))
        self.vision = None
        if shapes:
            generator = torch.Generator().manual_seed(int(torch.randint(2**31, (1,))))
            self.vision = Vision(shapes, (16, 32, 32), 64, generator)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return features of shape (n, features_dim)."""
        if KEY in observations:
            self.allowed = observations[KEY]
        if self.vision is None:
            return observations["row"]
        return torch.cat([observations["row"], self.vision(observations["pixels"])], dim=1)


class MaskedPolicy(MultiInputActorCriticPolicy):
    """SB3's policy without invalid actions, which SB3's own PPO does not know."""

    def _get_action_dist_from_latent(self, latent_pi: torch.Tensor) -> Distribution:
        # Of the same observations: SB3 computes their features in the call before this one.
        extractor, distribution = cast(Any, self.features_extractor), cast(Any, self.action_dist)
        logits = self.action_net(latent_pi).masked_fill(extractor.allowed <= 0, IMPOSSIBLE)
        masked: Distribution = distribution.proba_distribution(logits)
        return masked
