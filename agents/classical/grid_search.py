"""The best search of a grid for a hidden goal."""

import functools
import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Cell = tuple[int, int]

STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))
"""What the actions 0 to 3 of a grid add to the position: up, right, down, left; 4 stays."""


@functools.lru_cache(maxsize=4)
def search_walks(
    goals: Sequence[Cell], start: Cell, size: int, horizon: int, num_episodes: int
) -> NDArray[np.int64]:
    """Compute the best search of a grid for a goal that rewards every step that ends on it.

    The best search has the fewest steps off the goal, summed over the cells where it may be. A
    goal at distance d that is found in step t of an episode costs t - 1 steps in that one, the
    whole horizon in each before and d - 1 in each after. Dynamic programming over (position, cells
    searched) gives the cheapest walk of one episode to each set of searched cells; A* puts episodes
    together, with a bound that no search can beat: the unsearched cells take different steps of
    the next episode, none less than its distance, and are known from then on. The time grows
    with the walks of one episode: seconds for 15 steps.

    Args:
        goals: The cells, all equally likely.
        start: Where every episode starts, which is none of them.
        size: The cells along each side.
        horizon: The steps of an episode.
        num_episodes: The episodes.

    Returns:
        The actions of a best search, of shape (num_episodes, horizon).
    """
    # What is out of reach costs the whole horizon, known or not.
    distances = [min(abs(x - start[0]) + abs(y - start[1]), horizon + 1) for x, y in goals]
    # (bound, episodes left, cells searched, cost, walks): of equal bounds the search that has the
    # fewest episodes left comes first, so the first complete one is soon met.
    waiting: list[tuple[int, int, int, int, tuple[int, ...]]] = [(0, num_episodes, 0, 0, ())]
    done = set()
    while True:
        _, left, searched, cost, walks = heapq.heappop(waiting)
        if left == 0:
            return np.array([[walk >> 2 * t & 3 for t in range(horizon)] for walk in walks])
        if (left, searched) in done:
            continue
        done.add((left, searched))
        left -= 1
        known = sum(d - 1 for i, d in enumerate(distances) if searched >> i & 1)
        for after, (steps, walk) in _cheapest_walks(goals, start, size, horizon, searched).items():
            missing = [d for i, d in enumerate(distances) if not after >> i & 1]
            total = cost + known + steps + horizon * len(missing)
            bound = total + left * sum(d - 1 for d in distances)
            bound += _detours(missing, horizon) if left else 0
            heapq.heappush(waiting, (bound, left, after, total, (*walks, walk)))


def _cheapest_walks(
    goals: Sequence[Cell], start: Cell, size: int, horizon: int, searched: int
) -> dict[int, tuple[int, int]]:
    """Return for each set of cells searched after an episode the cheapest walk that leads to it.

    Sets are bits; walks are numbers to base 4, whose digit t is the action of step t. The cost is
    the sum of t - 1 over the cells that the walk searches first, in step t.
    """
    num_cells = size * size
    bits = [0] * num_cells
    for index, (x, y) in enumerate(goals):
        bits[x * size + y] = 1 << index
    moves: list[list[tuple[int, int, int]]] = [[] for _ in bits]
    for cell, ways in enumerate(moves):
        for action, (dx, dy) in enumerate(STEPS):
            x, y = cell // size + dx, cell % size + dy
            if 0 <= x < size and 0 <= y < size:  # to run into a wall never helps
                ways.append((x * size + y, bits[x * size + y], action))
    # There are some 100,000 states: each is one integer, and so is its cost with its walk.
    walk_bits = 2 * horizon
    states = {searched * num_cells + start[0] * size + start[1]: 0}
    for step in range(horizon):
        following: dict[int, int] = {}
        for state, price in states.items():
            found, cell = divmod(state, num_cells)
            for neighbour, bit, action in moves[cell]:
                new = price + (action << 2 * step)
                if bit & ~found:
                    new += step << walk_bits
                reached = (found | bit) * num_cells + neighbour
                if new < following.get(reached, new + 1):
                    following[reached] = new
        states = following
    best: dict[int, tuple[int, int]] = {}
    for state, price in states.items():
        new_best = divmod(price, 1 << walk_bits)
        found = state // num_cells
        if found not in best or new_best < best[found]:
            best[found] = new_best
    return best


def _detours(distances: Sequence[int], horizon: int) -> int:
    """Return by how much the steps of a walk to all cells exceed their distances, at least."""
    step = excess = 0
    for distance in sorted(distances):
        step = max(step + 1, distance)
        excess += min(step, horizon + 1) - distance
    return excess
