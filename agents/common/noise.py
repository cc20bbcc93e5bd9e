"""The random numbers that actions are drawn with."""

from collections.abc import Callable, Sequence

import torch

from metarl.seeding import stream_seed


class ActionNoise:
    """Random numbers for the actions in all lanes, or in some of them.

    Those of all lanes are drawn in one call and those of the own lanes are kept, so a lane gets the
    same numbers in whatever process it is. A row for each lane of the batch costs next to nothing
    beside the network that acts.

    Args:
        generator: What they are drawn from.
        num_lanes: How many lanes there are, in all processes; None takes those that are asked for.
        own: Which of them are acted in here.
    """

    def __init__(
        self,
        generator: torch.Generator,
        num_lanes: int | None = None,
        own: slice = slice(None),
    ):
        self._generator = generator
        self._num_lanes = num_lanes
        self._own = own

    @property
    def device(self) -> torch.device:
        """Where the numbers are."""
        return self._generator.device

    def uniform(self, shape: Sequence[int]) -> torch.Tensor:
        """Draw from U[0, 1); the own lanes are along the first dimension."""
        return self._draw(torch.rand, shape)

    def normal(self, shape: Sequence[int]) -> torch.Tensor:
        """Draw from N(0, 1); the own lanes are along the first dimension."""
        return self._draw(torch.randn, shape)

    def restart(self) -> None:
        """Go on with other numbers, for the next episodes.

        How many were drawn for the last ones depends on the own lanes: on how long the longest of
        their episodes was.
        """
        self._generator.manual_seed(stream_seed(self._generator.initial_seed(), "next"))

    def state(self) -> torch.Tensor:
        """Return where the stream is, as bytes."""
        return self._generator.get_state()

    def restore_state(self, state: torch.Tensor) -> None:
        """Go on from where a stream was."""
        self._generator.set_state(state)

    def _draw(self, sample: Callable[..., torch.Tensor], shape: Sequence[int]) -> torch.Tensor:
        rows = shape[0] if self._num_lanes is None else self._num_lanes
        drawn = sample((rows, *shape[1:]), generator=self._generator, device=self.device)
        return drawn[self._own]
