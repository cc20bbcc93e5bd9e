"""Randomness: named streams for a run, and one random stream per sub-environment of a batch."""

import zlib
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from metarl.errors import InvalidTypeError, InvalidValueError

Seed: TypeAlias = int | np.random.SeedSequence
Ids: TypeAlias = slice | NDArray[np.intp]
"""Which sub-environments of a batch: ``slice(None)`` for all, or an array of indices."""

ALL: Ids = slice(None)
_GOLDEN = 0x9E3779B97F4A7C15


def check_seed(seed: object) -> None:
    """Raise unless ``seed`` is a non-negative integer or a SeedSequence.

    Raises:
        TypeError: If it is of another type.
        ValueError: If it is negative, or has more than 64 bits.
    """
    if isinstance(seed, np.random.SeedSequence):
        return
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise InvalidTypeError(f"seed must be an integer of at least 0, got {seed!r}")
    if seed < 0:
        raise InvalidValueError(f"seed must be at least 0, got {seed}")
    if seed >= 2**64:
        raise InvalidValueError(f"seed must be below 2**64, got {int(seed).bit_length()} bits")


def stream(seed: Seed, *path: str | int) -> np.random.SeedSequence:
    """Derive the named stream of a seed.

    The stream depends only on its arguments, so a run stores only its seed and its counters:
    ``stream(seed, "tasks", iteration)`` is always the same.

    Args:
        seed: The root seed.
        path: Names and counters that lead to the stream.

    Returns:
        A SeedSequence, independent of those of all other paths.
    """
    check_seed(seed)
    key = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in path]
    root = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    # A name and a number that share a value must not share a stream, hence the markers.
    marks = [1 if isinstance(part, str) else 0 for part in path]
    spawn_key = (*root.spawn_key, *(value for pair in zip(marks, key) for value in pair))
    return np.random.SeedSequence(root.entropy, spawn_key=spawn_key)


def stream_seed(seed: Seed, *path: str | int) -> int:
    """Return the named stream of a seed as one integer below 2**63, for ``env.reset(seed=...)``."""
    return int(stream(seed, *path).generate_state(1, np.uint64)[0] >> np.uint64(1))


def foreign_seed(seed: int) -> int:
    """Return a seed for an environment of another package, which may accept only 31 bits.

    Small seeds are unchanged. Adding the index of a sub-environment also stays below 2**31.
    """
    return seed % (2**31 - 2**16)


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea and Flood 2014), element by element."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class BatchedRandom:
    """One independent SplitMix64 stream per sub-environment, drawn from all at once.

    The draws of a sub-environment depend on its own seed and on how much it has drawn, never on
    the others: a batch equals single environments draw for draw, and stepping only some
    sub-environments does not change the streams of the others.

    Args:
        seed: The seed of sub-environment 0; sub-environment i is seeded with ``seed + i``, as in
            gymnasium's vector environments.
        num_envs: The number of streams.
    """

    def __init__(self, seed: int, num_envs: int):
        check_seed(seed)
        seeds = np.arange(num_envs, dtype=np.uint64) + np.uint64(seed & 0xFFFFFFFFFFFFFFFF)
        self._state = mix(mix(seeds + np.uint64(_GOLDEN)) ^ np.uint64(_GOLDEN))

    def uniform(self, ids: Ids = slice(None), size: int = 1) -> NDArray[np.float64]:
        """Draw from U[0, 1) in the streams ``ids``. Returns an array of shape (len(ids), size)."""
        start = self._state[ids].copy()  # a slice would be a view of values that change below
        steps = np.arange(1, size + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
        self._state[ids] = start + steps[-1]
        bits = mix(start[:, None] + steps) >> np.uint64(11)
        draws: NDArray[np.float64] = bits.astype(np.float64) * 2.0**-53
        return draws

    def normal(self, ids: Ids = slice(None), size: int = 1) -> NDArray[np.float64]:
        """Draw from N(0, 1) in the streams ``ids``. Returns an array of shape (len(ids), size)."""
        radius, angle = np.split(self.uniform(ids, 2 * size), 2, axis=1)
        # 1 - u lies in (0, 1], where the logarithm is finite (Box and Muller 1958).
        return np.sqrt(-2.0 * np.log1p(-radius)) * np.cos(2.0 * np.pi * angle)
