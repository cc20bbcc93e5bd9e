"""Chemistries as data: which potion moves which stone where, and how both look.

A stone is a corner of a cube, numbered 0 to 7: bit d is set where coordinate d is +1, otherwise it
is -1. A potion moves along one dimension: ``2 * dimension + 1`` upward, ``2 * dimension`` downward.
"""

import functools
import itertools

import numpy as np
from numpy.typing import NDArray

from metarl.parameters import Choice, Parameter, Table
from metarl.splits import Columns, TaskSet

Ints = NDArray[np.int64]

NUM_CORNERS, NUM_POTIONS = 8, 6
COORDINATES = 2 * (np.arange(NUM_CORNERS)[:, None] >> np.arange(3) & 1) - 1
"""The coordinates of each corner, of shape (8, 3)."""
REWARDS = np.where(COORDINATES.sum(1) == 3, 15, COORDINATES.sum(1)).astype(np.float64)
"""What each corner is worth in the cauldron, of shape (8,)."""
EDGES = tuple(
    (dimension, corner)
    for dimension in range(3)
    for corner in range(NUM_CORNERS)
    if not corner >> dimension & 1
)
"""The 12 edges of the cube: a dimension, and the corner at the lower end."""
ROTATIONS = {
    "none": np.eye(3),
    "x": np.array([[1, 0, 0], [0, 0.5, -0.5], [0, 0.5, 0.5]]),
    "y": np.array([[0.5, 0, 0.5], [0, 1, 0], [-0.5, 0, 0.5]]),
    "z": np.array([[0.5, -0.5, 0], [0.5, 0.5, 0], [0, 0, 1]]),
}
"""From the coordinates of a stone to those that are seen: 45 degrees about an axis, and scaled so
that all are -1, 0 or 1."""


def next_corners(edges: NDArray[np.bool_]) -> Ints:
    """Return where potions move stones.

    Args:
        edges: Which of ``EDGES`` there are, of shape (n, 12).

    Returns:
        The corner after each potion, of shape (n, 8, 6): the same where there is no such edge.
    """
    after = np.tile(np.arange(NUM_CORNERS)[:, None], (len(edges), 1, NUM_POTIONS))
    for number, (dimension, low) in enumerate(EDGES):
        high = low | 1 << dimension
        after[edges[:, number], low, 2 * dimension + 1] = high
        after[edges[:, number], high, 2 * dimension] = low
    return after


@functools.cache
def graphs() -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Return the 109 graphs, and for each the number of its constraints, 0 to 3.

    A constraint says that the edges along one dimension exist only where one of the other two
    coordinates has a certain value. The graphs are those in which every corner can be reached.
    """
    found: dict[tuple[int, ...], int] = {}
    # For each dimension, what the two other coordinates must be: 0, 1, or anything.
    per_dimension = itertools.product((None, 0, 1), repeat=2)
    for constraints in itertools.product(tuple(per_dimension), repeat=3):
        edges = tuple(int(_allowed(constraints[d], d, corner)) for d, corner in EDGES)
        if _connected(edges):
            found[edges] = sum(value is not None for pair in constraints for value in pair)
    order = sorted(found, key=lambda edges: (found[edges], edges))
    return tuple(order), tuple(found[edges] for edges in order)


def _allowed(constraint: tuple[int | None, ...], dimension: int, corner: int) -> bool:
    others = [other for other in range(3) if other != dimension]
    return all(v is None or (corner >> o & 1) == v for o, v in zip(others, constraint))


def _connected(edges: tuple[int, ...]) -> bool:
    reached = {0}
    for _ in range(NUM_CORNERS):
        for exists, (dimension, low) in zip(edges, EDGES):
            pair = {low, low | 1 << dimension}
            if exists and pair & reached:
                reached |= pair
    return len(reached) == NUM_CORNERS


def parameters(rotated: bool) -> dict[str, Parameter]:
    """Return the parameters of a chemistry, with or without a rotation of what is seen."""
    meanings = tuple(
        tuple(
            2 * dimensions[color // 2] + (color % 2 ^ flips[dimensions[color // 2]])
            for color in range(NUM_POTIONS)
        )
        for dimensions in itertools.permutations(range(3))
        for flips in itertools.product((0, 1), repeat=3)
    )
    seen = {"rotation": Choice(tuple(ROTATIONS))} if rotated else {}
    return {
        "edges": Table(graphs()[0], "the rule that the 12 edges make one of 109 connected graphs"),
        "potions": Table(
            meanings,
            "the rule that six colors have the meanings 0 to 5, those of a pair in one dimension",
        ),
        "stones": Table(
            tuple(itertools.product((-1, 1), repeat=3)), "the rule that three signs are -1 or 1"
        ),
        **seen,
    }


def splits(rotated: bool) -> dict[str, TaskSet]:
    """Divide all chemistries: a fifth of the graphs and of the other chemistries are not trained.

    In each split the numbers of constraints that there are have the same probability, and so have
    chemistries with as many constraints.
    """
    every = TaskSet.product(parameters(rotated))
    constraints = np.array(graphs()[1])
    rng = np.random.default_rng(0)
    unseen = [
        graph
        for number in range(4)
        for graph in _fifth(rng, np.flatnonzero(constraints == number)).tolist()
    ]

    def is_unseen(chemistry: Columns) -> NDArray[np.bool_]:
        return np.isin(_graph(chemistry), unseen)

    def balanced(chemistries: TaskSet) -> TaskSet:
        numbers = constraints[_graph(chemistries.columns)]
        return chemistries.weighted(1.0 / np.bincount(numbers)[numbers])

    train, held_out = every.where(lambda chemistry: ~is_unseen(chemistry)).split(0.8, seed=0)
    return {
        "train": balanced(train),
        "held_out": balanced(held_out),
        "unseen_graphs": balanced(every.where(is_unseen)),
    }


def _fifth(rng: np.random.Generator, values: Ints) -> Ints:
    """Return a fifth of some values, rounded down, drawn at random."""
    return rng.permutation(values)[: len(values) // 5]


def _graph(chemistry: Columns) -> Ints:
    """Return the number of each chemistry's graph among :func:`graphs`."""
    bits = 1 << np.arange(len(EDGES))
    codes = np.array(graphs()[0]) @ bits
    order = np.argsort(codes)
    found: Ints = order[np.searchsorted(codes[order], chemistry["edges"] @ bits)]
    return found
