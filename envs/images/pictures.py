"""Pictures by class, and their random presentations, thousands at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Bytes = NDArray[np.uint8]

NUM_DRAWS = 9
"""How many random numbers a presentation takes: fixed, so that streams stay in step."""

_NOISE = 31  # the strongest noise: what is left of 255 for it
_SHIFT = 7  # bits behind the point: of 16 in all, they leave room for 256 pixels either way


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures that are divided into classes; a picture may be in several.

    Attributes:
        pixels: All pictures, of shape (num_pictures, side, side, channels).
        names: The classes' names, in alphabetical order, of shape (num_classes,).
        members: The rows in ``pixels`` of the first class's pictures, then of the second's, ...
        starts: Where each class begins in ``members``, of shape (num_classes,).
        counts: How many pictures each class has, of shape (num_classes,).
        splits: For each split its classes: names of which a task takes any N, of shape (n,), or
            whole choices of N names, of shape (n, N).
    """

    pixels: Bytes
    names: NDArray[np.str_]
    members: NDArray[np.intp]
    starts: NDArray[np.intp]
    counts: NDArray[np.intp]
    splits: Mapping[str, NDArray[np.str_]]

    @classmethod
    def gather(
        cls,
        pixels: Bytes,
        classes: Mapping[str, Sequence[int] | Array],
        splits: Mapping[str, Sequence[Any]],
    ) -> "Pictures":
        """Make pictures from classes given as mappings from a name to rows of pictures.

        Args:
            pixels: As above.
            classes: The rows of each class.
            splits: As above.
        """
        names = sorted(classes)
        rows = [np.asarray(classes[name], dtype=np.intp) for name in names]
        counts = np.array([len(some) for some in rows])
        return cls(
            pixels,
            np.array(names),
            np.concatenate(rows),
            np.cumsum(counts) - counts,
            counts,
            {split: np.array(choices) for split, choices in splits.items()},
        )

    def find(self, names: Array) -> NDArray[np.intp]:
        """Return the numbers of classes that exist, from their names, in an array of any shape."""
        return np.asarray(np.searchsorted(self.names, names))

    def pick(self, classes: NDArray[np.intp], chances: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the row of one picture of each class.

        Args:
            classes: Numbers of classes, of shape (n,).
            chances: Which picture, as numbers in [0, 1), of shape (n,).
        """
        picks = (chances * self.counts[classes]).astype(np.intp)
        return np.asarray(self.members[self.starts[classes] + picks])


@dataclass(frozen=True)
class Variation:
    """The random variation of presentations of a picture.

    Attributes:
        size: The least and the greatest side of the picture, in sides of the frame that shows it.
            A picture below 1 lies anywhere in the frame, of one above 1 any part is shown.
        rotation: The greatest angle, in degrees, either way.
        stretch: The greatest logarithm of width by height, either way.
        shear: The greatest shear, either way: by how many pixels a row is moved per row.
        mirrored: Whether half of the presentations are mirror images.
        darkest: The greatest value that is still shown as black. Where a stroke fades out over
            some pixels, this is how thick it is.
        gain: The factor of values above that; they end at 255 less the noise.
        noise: The deviation of the noise that is added.
    """

    size: tuple[float, float]
    rotation: float = 0.0
    stretch: float = 0.0
    shear: float = 0.0
    mirrored: bool = False
    darkest: tuple[int, int] = (0, 0)
    gain: int = 1
    noise: float = 0.0


@dataclass(frozen=True, eq=False)
class Presenter:
    """Shows pictures in a frame, each presentation with its own variation.

    Every frame pixel takes the nearest pixel of the picture, so pictures of about twice the
    frame's side, with soft edges, look best. What is beyond a picture's edge looks like the edge.

    Attributes:
        pixels: The pictures, of shape (num_pictures, side, side, channels).
        frame: The side of what is shown, in pixels.
        variation: The variation of presentations.
    """

    pixels: Bytes
    frame: int
    variation: Variation
    _noise: Bytes = field(init=False)

    def __post_init__(self) -> None:
        # All noise is read from one bank, at a random offset: drawing new noise would take
        # longer than everything else.
        size = self.frame**2 * self.pixels.shape[3]
        bank = np.abs(np.random.default_rng(0).normal(0.0, self.variation.noise, 65_536 + size))
        bank = np.minimum(bank, _NOISE).astype(np.uint8)
        object.__setattr__(self, "_noise", np.lib.stride_tricks.sliding_window_view(bank, size))

    def show(self, rows: NDArray[np.intp], draws: NDArray[np.float64]) -> Bytes:
        """Show pictures.

        Args:
            rows: Which, of shape (n,).
            draws: Numbers in [0, 1) that say how, of shape (n, NUM_DRAWS).

        Returns:
            An array of shape (n, frame, frame, channels).
        """
        num, side, channels = len(rows), self.pixels.shape[1], self.pixels.shape[3]
        places = self._places(draws).astype(np.intp)
        places += (rows * side**2)[:, None, None]
        if channels == 1:
            shown = self.pixels.reshape(-1).take(places)[..., None]
        else:
            shown = self.pixels.reshape(-1, channels).take(places, axis=0)
        # Bytes throughout: black is taken off before it can become negative, white is cut before
        # it can overflow.
        low, high = self.variation.darkest
        black = (low + draws[:, 7] * (high + 1 - low)).astype(np.uint8)[:, None, None, None]
        np.maximum(shown, black, out=shown)
        shown -= black
        np.minimum(shown, (255 - _NOISE) // self.variation.gain, out=shown)
        shown *= np.uint8(self.variation.gain)
        offsets = (draws[:, 8] * len(self._noise)).astype(np.intp)
        shown += self._noise[offsets].reshape(num, self.frame, self.frame, channels)
        return shown

    def _places(self, draws: NDArray[np.float64]) -> Array:
        """Return which pixel of its picture each frame pixel shows, of shape (n, frame, frame)."""
        variation, side = self.variation, self.pixels.shape[1]
        angle, size, stretch, shear, right, down, mirror = 2.0 * draws[:, :7].T - 1.0
        low, high = variation.size
        size = 0.5 * (low + high + size * (high - low))
        angle = np.deg2rad(angle * variation.rotation)
        step = side / (size * self.frame)  # picture pixels per frame pixel
        wide = step * np.exp(-0.5 * variation.stretch * stretch)
        tall = step**2 / wide
        if variation.mirrored:
            wide = np.where(mirror < 0.0, -wide, wide)
        # Row and column of the picture as linear functions of row and column of the frame.
        cos, sin, lean = np.cos(angle), np.sin(angle), variation.shear * shear
        linear = {
            "column": (wide * (cos + lean * sin), wide * (lean * cos - sin)),
            "row": (tall * sin, tall * cos),
        }
        room = 0.5 * np.abs(size - 1.0) * self.frame
        axis = np.arange(self.frame) - 0.5 * (self.frame - 1)
        across, along = axis - (room * right)[:, None], axis - (room * down)[:, None]
        # Whole numbers with some bits behind the point: twice as fast as floats.
        dtype = np.int16 if side <= 2 ** (_SHIFT - 1) else np.int32

        def places(name: str) -> Array:
            by_column, by_row = linear[name]
            columns = (by_column[:, None] * across + 0.5 * side) * 2**_SHIFT
            rows = by_row[:, None] * along * 2**_SHIFT
            found: Array = columns.astype(dtype)[:, None, :] + rows.astype(dtype)[:, :, None]
            found >>= _SHIFT
            np.maximum(found, 0, out=found)
            np.minimum(found, side - 1, out=found)
            return found

        flat: Array = places("row") * dtype(side) + places("column")
        return flat
