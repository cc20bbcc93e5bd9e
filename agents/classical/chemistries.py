"""An alchemist that knows which chemistries are possible after what it has seen."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.agents.classical.alchemy import (
    CORNER_REWARDS,
    POTIONS,
    actions_of_uses,
    check_is_alchemy,
    colors_of,
    parts,
    ways,
)
from metarl.agents.classical.potions import NUM_KINDS, USED, Plans
from metarl.distribution import TaskDistribution
from metarl.errors import check_at_least
from metarl.evaluation.adaptation import Adaptation, Transition, check_rows
from metarl.seeding import Seed, stream
from metarl.tasks import Tasks

Array = NDArray[Any]

_POTION_COST = 0.01  # the better of two plans that earn the same is the one with fewer potions
_BELIEFS, _TABLES = 50, 1000  # that are handled at a time, to save memory


class ExactBelief:
    """It takes the action that is worth most on average over the chemistries that are possible.

    The belief is exact: of the 109 x 48 x 8 chemistries (with rotations four times as many) it
    drops those that contradict an outcome, and the prior is the family's. What an action is worth
    counts as if the chemistry were known from the next step on (QMDP: Littman, Cassandra &
    Kaelbling 1995, "Learning policies for partially observable environments"). An ideal observer
    would also act to find out more.

    Args:
        tasks: A family of chemistries.
        num_samples: How many possible chemistries are drawn for the average.

    Raises:
        ValueError: If it is another family.
    """

    name = "exact belief"
    episodes_per_adaptation = 1

    def __init__(self, tasks: TaskDistribution, num_samples: int = 16):
        check_is_alchemy(self, tasks)
        check_at_least(1, num_samples=num_samples)
        self._chemistries, self._num_samples = Chemistries(tasks), num_samples

    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> Adaptation:
        """Return a player of ``num_tasks`` tasks; ``deterministic`` has no effect."""
        check_at_least(1, num_tasks=num_tasks)
        rng = np.random.default_rng(stream(seed, "actions"))
        return _Believer(self._chemistries, num_tasks, self._num_samples, rng)


class Chemistries:
    """All chemistries of a family: appearances of stones x meanings of colors x graphs.

    Args:
        tasks: The family.

    Attributes:
        looks: What is seen of a stone at each corner, by appearance, of shape (a, 8, 4).
        meanings: What each color is, of shape (48, 6).
        after: The corner after each potion, by graph, of shape (109, 8, 6).
        prior: The probability of each graph, of shape (109,).
        shape: How many appearances, meanings and graphs there are.
    """

    def __init__(self, tasks: TaskDistribution):
        values = {name: np.asarray(p.finite_values) for name, p in tasks.parameters.items()}
        seen: list[str] = [name for name in ("stones", "rotation") if name in values]
        pairs = np.indices([len(values[name]) for name in seen]).reshape(len(seen), -1)
        appearances = {name: values[name][index] for name, index in zip(seen, pairs)}
        edges = values["edges"]
        self.looks: Array = _model(tasks, appearances).looks
        self.meanings = values["potions"]
        self.after: Array = _model(tasks, {"edges": edges}).next_corners
        # 0, 1, 2, 3 constraints leave out 0, 2, 3 or 4, 5 edges. Each number is equally likely.
        constraints = -(-(edges == 0).sum(axis=1) // 2)
        self.prior = 1.0 / np.bincount(constraints)[constraints]
        self.shape = (len(self.looks), len(self.meanings), len(edges))

    def corners(self, looks: Array) -> Array:
        """Return the corners of stones by appearance, of shape (n, a); -1 where none looks so.

        Args:
            looks: Of shape (n, 4).
        """
        same = (self.looks == looks[:, None, None]).all(axis=3)  # (n, a, 8)
        corners: Array = np.where(same.any(axis=2), same.argmax(axis=2), -1)
        return corners

    def allowing(self, before: Array, colors: Array, after: Array) -> Array:
        """Return which chemistries allow what potions did to stones, of shape (n, a, 48, 109).

        Args:
            before: How each stone looked, of shape (n, 4).
            colors: Of the potions, of shape (n,).
            after: How each stone looks then, of shape (n, 4).
        """
        start, end = self.corners(before), self.corners(after)
        moved = self.after.transpose(1, 2, 0)[start]  # (n, a, 6, 109)
        allowed = (moved == end[..., None, None]) & (start >= 0)[..., None, None]
        kinds = self.meanings[:, colors].T  # (n, 48)
        return np.take_along_axis(allowed, kinds[:, None, :, None], axis=2)


def _model(tasks: TaskDistribution, columns: dict[str, Array]) -> Any:
    """Return environments with some parameters, and the defaults of the others."""
    number = len(next(iter(columns.values())))
    default = {
        name: np.repeat(np.asarray(parameter.default)[None], number, axis=0)
        for name, parameter in tasks.parameters.items()
    }
    env: Any = tasks.make_vec(number)
    env.set_tasks(Tasks(tasks.name, {**default, **columns}))
    return env


class _Believer:
    """Keeps the chemistries that are possible in each task, and a sample of them."""

    def __init__(
        self, chemistries: Chemistries, num_tasks: int, num_samples: int, rng: np.random.Generator
    ):
        self._all, self._rng = chemistries, rng
        self._plans = Plans(chemistries.after, ways, _POTION_COST)
        self._lanes = np.arange(num_tasks)
        self._possible = np.ones((num_tasks, *chemistries.shape), dtype=np.bool_)
        self._samples = np.zeros((num_tasks, num_samples), dtype=np.int64)  # flat indices
        self._redraw = np.ones(num_tasks, dtype=np.bool_)

    def act(self, observations: Array) -> Array:
        check_rows(observations, len(self._lanes))
        stones, potions = parts(observations)
        here, left = stones[:, :, 4] == 0, potions[:, :, 1] == 0
        corners = self._all.corners(stones[:, :, :4].reshape(-1, 4)).reshape(*here.shape, -1)
        fits = ((corners >= 0) | ~here[:, :, None]).all(axis=1)  # (num_tasks, appearances)
        for lanes in _chunks(np.flatnonzero(self._redraw), _BELIEFS):
            self._draw(lanes, fits[lanes])
        self._redraw[:] = False
        # The chemistries that were drawn in each task, each once, and how often.
        (playing,) = np.nonzero(here.any(axis=1))
        size = self._possible[0].size
        keys, counts = np.unique(
            playing[:, None] * size + self._samples[playing], return_counts=True
        )
        lanes, drawn = np.divmod(keys, size)
        appearances, meanings, graphs = np.unravel_index(drawn, self._all.shape)
        at = np.where(here[lanes], corners[lanes, :, appearances], USED)
        colors = colors_of(potions)[lanes]
        kinds = np.take_along_axis(self._all.meanings[meanings], colors, axis=1)
        kinds = np.where(left[lanes], kinds, NUM_KINDS)
        worth = np.zeros((len(lanes), 3 * (1 + POTIONS)))
        for rows in _chunks(np.arange(len(lanes)), _TABLES):
            numbers = (kinds[rows, :, None] == np.arange(NUM_KINDS)).sum(axis=1)
            uses = self._plans.uses(graphs[rows], at[rows], numbers, CORNER_REWARDS)
            worth[rows] = actions_of_uses(uses, kinds[rows])
        actions = np.zeros(len(self._lanes), dtype=np.int64)
        if len(playing):
            first = np.searchsorted(lanes, playing)
            mean = np.add.reduceat(counts[:, None] * worth, first)
            actions[playing] = np.where(mean.max(axis=1) > 0, 1 + mean.argmax(axis=1), 0)
        return actions

    def observe(self, transition: Transition) -> None:
        before, potions = parts(transition.observations)
        after, _ = parts(transition.next_observations)
        stone, item = np.divmod(np.maximum(transition.actions - 1, 0), 1 + POTIONS)
        potion = np.maximum(item - 1, 0)
        mixed = (item > 0) & (transition.actions > 0) & transition.active
        mixed &= (before[self._lanes, stone, 4] == 0) & (potions[self._lanes, potion, 1] == 0)
        colors = colors_of(potions)
        for lanes in _chunks(np.flatnonzero(mixed), _BELIEFS):
            one = (lanes, stone[lanes])
            self._possible[lanes] &= self._all.allowing(
                before[one][:, :4], colors[lanes, potion[lanes]], after[one][:, :4]
            )
        still = np.take_along_axis(
            self._possible.reshape(len(self._lanes), -1), self._samples, axis=1
        )
        # Another episode has other stones, whose looks may tell more.
        self._redraw |= ~still.all(axis=1) | transition.episode_end

    def _draw(self, lanes: Array, fits: Array) -> None:
        """Draw possible chemistries for some tasks.

        Args:
            lanes: The tasks, of shape (n,).
            fits: Which appearances the stones on the table allow, of shape (n, a).
        """
        possible = self._possible[lanes] & fits[:, :, None, None]
        changed = ~possible.any(axis=(1, 2, 3))  # a task that has become another one
        possible[changed] = fits[changed][:, :, None, None]
        self._possible[lanes] = possible
        weights = (possible * self._all.prior).reshape(len(lanes), -1)
        ends = weights.cumsum().reshape(weights.shape)[:, -1:]
        starts = np.concatenate([np.zeros((1, 1)), ends[:-1]])
        shares = self._rng.random((len(lanes), self._samples.shape[1]))
        places = np.searchsorted(weights.cumsum(), starts + shares * (ends - starts), side="right")
        places -= np.arange(len(lanes))[:, None] * weights.shape[1]
        self._samples[lanes] = np.clip(places, 0, weights.shape[1] - 1)


def _chunks(rows: Array, size: int) -> Iterator[Array]:
    for first in range(0, len(rows), size):
        yield rows[first : first + size]
