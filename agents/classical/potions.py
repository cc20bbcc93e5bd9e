"""What each action is worth to one who knows the chemistry, for many tables at once."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Ways = Callable[[bytes, int], tuple[Array, Array, Any]]

USED, NUM_KINDS = 8, 6
"""The corner of a stone that was used; the number of kinds of potions."""
_BITS = 5  # of a count: four hold the 12 potions, the fifth shows a count below zero
_SHIFTS = _BITS * np.arange(NUM_KINDS)
_BELOW_ZERO = int((1 << (_SHIFTS + _BITS - 1)).sum())
_TOO_MANY = int((15 << _SHIFTS).sum())  # potions of each kind: more than there are


class Plans:
    """What is worth doing with each stone of each chemistry.

    Args:
        after: The corner after each potion, of shape (n, 8, 6).
        ways: :func:`metarl.agents.classical.alchemy.ways`.
        cost: What a potion costs. A small one makes a plan with fewer potions the better of two
            that earn the same.
    """

    def __init__(self, after: Array, ways: Ways, cost: float):
        tables, graphs = np.unique(after.reshape(-1, USED * NUM_KINDS), axis=0, return_inverse=True)
        self._graphs, self._cost = graphs.reshape(-1), cost
        self._after = tables.reshape(-1, USED, NUM_KINDS)
        found = [[ways(table.tobytes(), corner)[:2] for corner in range(USED)] for table in tables]
        most = max(len(earned) for corners in found for _, earned in corners)
        shape = (len(tables), USED + 1, most)
        self._potions = np.full(shape, _TOO_MANY)
        self._gains = np.full(shape, -np.inf)
        self._potions[:, USED, 0], self._gains[:, USED, 0] = 0, 0.0  # nothing to do
        for graph, corners in enumerate(found):
            for corner, (used, earned) in enumerate(corners):
                self._potions[graph, corner, : len(used)] = (used << _SHIFTS).sum(axis=1)
                self._gains[graph, corner, : len(used)] = earned - cost * used.sum(axis=1)

    def totals(self, lanes: Array, corners: Array, potions: Array) -> Array:
        """Return the most that the stones of each table can still earn, of shape (n,).

        Args:
            lanes: The chemistry of each table, of shape (n,).
            corners: Of the stones, of shape (n, 3).
            potions: How many there are of each kind, packed, of shape (n,).
        """
        graphs = self._graphs[lanes][:, None]
        used, gains = self._potions[graphs, corners], self._gains[graphs, corners]  # (n, 3, m)
        left = potions[:, None, None] | _BELOW_ZERO
        # All pairs of ways with the first two stones, then all triples: a count that falls below
        # zero borrows the bit above it.
        pairs = used[:, 0, :, None] + used[:, 1, None, :]
        possible = ((left - pairs) & _BELOW_ZERO) == _BELOW_ZERO
        pairs = np.where(possible, pairs, 0)
        earned = np.where(possible, gains[:, 0, :, None] + gains[:, 1, None, :], -np.inf)
        triples = pairs[..., None] + used[:, 2, None, None, :]
        possible = ((left[..., None] - triples) & _BELOW_ZERO) == _BELOW_ZERO
        earned = np.where(possible, earned[..., None] + gains[:, 2, None, None, :], -np.inf)
        best: Array = earned.max(axis=(1, 2, 3))
        return best

    def uses(self, lanes: Array, corners: Array, counts: Array, rewards: Array) -> Array:
        """Return what follows from each use of a stone: the rewards, less the cost of potions.

        Args:
            lanes: The chemistry of each table, of shape (n,).
            corners: Of the stones, of shape (n, 3).
            counts: How many potions there are of each kind, of shape (n, 6).
            rewards: For a stone at each corner in the cauldron, of shape (8,).

        Returns:
            The best that can follow, for each stone with each kind of potion, and last with the
            cauldron, of shape (n, 3, 7); -inf where there is no such stone or potion.
        """
        potions = (counts << _SHIFTS).sum(axis=1)
        worth = np.full((*corners.shape, NUM_KINDS + 1), -np.inf)
        for stone, kind in np.ndindex(*worth.shape[1:]):
            sold = kind == NUM_KINDS
            (rows,) = np.nonzero((corners[:, stone] < USED) & (sold | (counts[:, kind % 6] > 0)))
            at, then = corners[rows, stone], corners[rows].copy()
            if sold:
                then[:, stone], gains, left = USED, rewards[at], potions[rows]
            else:
                then[:, stone] = self._after[self._graphs[lanes[rows]], at, kind]
                gains, left = np.full(len(rows), -self._cost), potions[rows] - (1 << _SHIFTS[kind])
            worth[rows, stone, kind] = gains + self.totals(lanes[rows], then, left)
        return worth
