"""Few-shot recognition: classes to recognise after a few examples."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.envs.images.pictures import NUM_DRAWS, Bytes, Pictures, Presenter, Variation
from metarl.errors import check_at_least
from metarl.evaluation.statistics import FEW_TASKS
from metarl.parameters import Parameter
from metarl.seeding import Ids
from metarl.splits import Columns, TaskSampler
from metarl.vector.env import StepResult, TaskVectorEnv

Array = NDArray[Any]
Source: TypeAlias = Callable[[], Pictures]
"""Where pictures come from: called when they are needed, the same ones each time."""

_WIDTH = 320  # pixels, of a rendered picture


class FewShotVectorEnv(TaskVectorEnv):
    """A batch of classification problems: name the class of one picture after another.

    | | |
    |---|---|
    | Task | ``classes``: the names of N classes, shape (N,); the number that stands for a class \
is its place |
    | Observation | ``Dict``: ``image``, ``Box(0, 255, (frame, frame, channels), uint8)``, a \
picture of one of the classes; ``label``, ``Discrete(N + 1)``, the true class of the picture \
before it, N if there was none |
    | Action | ``Discrete(N)``: the class of the picture |
    | Reward | 1 if that is right, else 0 |
    | Start | a random class; one of its pictures; its size, place, turn, ... and noise |
    | End | terminated after one answer; the last observation has the answer's picture, and its \
true class |
    | Distribution | classes of the split, all choices and orders equally likely |

    One presentation is one episode, so the return of an episode is whether the answer was right,
    and its mean over tasks is the accuracy after as many labelled pictures. The label is shown
    once, with the next picture, so the agent must remember the right answer; the classes' numbers
    differ from task to task. After ``reset`` there is no label. Classes are drawn
    independently, so counting how often each came says nothing about the next.

    Source: the task of Santoro et al. 2016, "Meta-learning with memory-augmented neural networks",
    sections 2 and 4.1, with a reward in place of their loss.

    Version history: v0, the first.

    Args:
        num_envs: The number of sub-environments.
        pictures: Where the pictures come from.
        ways: N.
        frame: The side of an observed image, in pixels.
        variation: The variation of presentations of a picture.
        render_mode: ``"rgb_array"`` draws the picture, and below it those of the trial so far,
            framed green where the answer was right and red where it was wrong.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        **TaskVectorEnv.metadata,
        "render_modes": ["rgb_array"],
        "render_fps": 1,
    }

    def __init__(
        self,
        num_envs: int,
        pictures: Source,
        ways: int,
        frame: int,
        variation: Variation,
        render_mode: str | None = None,
    ):
        self._pictures = pictures()
        self._presenter = Presenter(self._pictures.pixels, frame, variation)
        self._ways = ways
        shape = (frame, frame, self._pictures.pixels.shape[3])
        self._images = np.zeros((num_envs, *shape), dtype=np.uint8)
        self._labels = np.zeros(num_envs, dtype=np.int64)
        self._feedback = np.full(num_envs, ways)
        self._answered: list[list[tuple[Bytes, bool]]] = [[] for _ in range(num_envs)]
        super().__init__(
            num_envs,
            parameters={"classes": Classes(pictures, ways)},
            observation_space=spaces.Dict(
                {"image": spaces.Box(0, 255, shape, np.uint8), "label": spaces.Discrete(ways + 1)}
            ),
            action_space=spaces.Discrete(ways),
            horizon=1,
            render_mode=render_mode,
        )

    def set_parameters(self, columns: Mapping[str, Array]) -> None:
        self._classes = self._pictures.find(columns["classes"])

    def reset_lanes(self, ids: Ids) -> dict[str, Array]:
        draws = self.random.uniform(ids, 2 + NUM_DRAWS)
        labels = (draws[:, 0] * self._ways).astype(np.int64)
        classes = np.take_along_axis(self._classes[ids], labels[:, None], axis=1)[:, 0]
        rows = self._pictures.pick(classes, draws[:, 1])
        images = self._presenter.show(rows, draws[:, 2:])
        feedback = self._feedback[ids].copy()
        if self.render_mode is not None:
            for index in np.arange(self.num_envs)[ids][feedback == self._ways]:
                self._answered[index] = []
        self._images[ids], self._labels[ids] = images, labels
        self._feedback[ids] = self._ways  # it is shown once
        return {"image": images, "label": feedback}

    def step_lanes(self, ids: Ids, actions: Array) -> StepResult:
        labels = self._labels[ids].copy()
        right = actions == labels
        self._feedback[ids] = labels
        if self.render_mode is not None:
            for index, correct in zip(np.arange(self.num_envs)[ids], right):
                self._answered[index].append((self._images[index].copy(), bool(correct)))
        observations = {"image": self._images[ids].copy(), "label": labels}
        answered = np.ones(len(labels), dtype=np.bool_)
        return StepResult(observations, right.astype(np.float64), answered)

    def render(self) -> tuple[Any, ...] | None:
        """Return one picture of each sub-environment; None without mode."""
        if self.render_mode is None:
            return None
        return tuple(map(_picture, self._images, self._answered))


def _picture(image: Bytes, answered: list[tuple[Bytes, bool]]) -> Bytes:
    """Paint the present image, and below it the last 50 answered ones."""
    height, columns = 160, 10
    cell = _WIDTH // columns
    pixels = np.full((height + 5 * cell, _WIDTH, 3), 255, dtype=np.uint8)
    pixels[5 : height - 5, (_WIDTH - height) // 2 + 5 :][:, : height - 10] = _scaled(
        image, height - 10
    )
    for place, (shown, right) in enumerate(answered[-5 * columns :]):
        top, left = height + place // columns * cell, place % columns * cell
        pixels[top + 1 : top + cell - 1, left + 1 : left + cell - 1] = (
            (0, 158, 115) if right else (213, 94, 0)
        )
        pixels[top + 4 : top + cell - 4, left + 4 : left + cell - 4] = _scaled(shown, cell - 8)
    return pixels


def _scaled(image: Bytes, side: int) -> Bytes:
    """Return an image of another side, in grey or in colour: each pixel the nearest one."""
    places = (np.arange(side) + 0.5) * len(image) / side
    rows = places.astype(np.intp)
    return image[np.ix_(rows, rows)]


class Classes(Parameter):
    """The names of N different classes, in an order.

    Args:
        pictures: Where the classes come from.
        ways: N.
    """

    def __init__(self, pictures: Source, ways: int):
        self.pictures = pictures
        self.shape = (ways,)

    def __repr__(self) -> str:
        return f"Classes({self.shape[0]} different ones of {len(self.pictures().names)})"

    @property
    def default(self) -> Any:
        return np.ravel(self.pictures().splits["train"])[: self.shape[0]].tolist()

    def sample(self, rng: np.random.Generator, num_tasks: int) -> Array:
        return ClassSampler(self.pictures, "train", self.shape[0]).sample(rng, num_tasks)["classes"]

    def contains(self, values: Array) -> NDArray[np.bool_]:
        ordered = np.sort(values, axis=1)
        different = (ordered[:, 1:] != ordered[:, :-1]).all(axis=1)
        return np.asarray(different & np.isin(values, self.pictures().names).all(axis=1))

    def encode(self, values: Array) -> NDArray[np.float32]:
        """Return the classes' places in the alphabetical order of all, in [-1, 1]."""
        pictures = self.pictures()
        places = pictures.find(values) / max(1, len(pictures.names) - 1)
        return (2.0 * places - 1.0).astype(np.float32)


class ClassSampler(TaskSampler):
    """The distribution of a split: classes, or choices of classes, in any order, equally likely.

    Args:
        pictures: Where the classes come from.
        split: The split.
        ways: N, the number of classes of a task.
    """

    def __init__(self, pictures: Source, split: str, ways: int):
        self._pictures = pictures
        self._split = split
        self._ways = ways

    def __repr__(self) -> str:
        return f"ClassSampler({self._split}, {self._ways} ways)"

    @property
    def num_tasks(self) -> int:
        names = self._pictures().splits[self._split]
        if names.ndim == 1:
            return math.perm(len(names), self._ways)
        return len(names) * math.factorial(self._ways)

    @property
    def note(self) -> str | None:
        names = self._pictures().splits[self._split]
        apart = len(names) // self._ways if names.ndim == 1 else len(names)
        if apart >= FEW_TASKS:
            return None
        return (
            f"tasks are choices and orders of {len(np.unique(names))} classes, and those that "
            "share classes count as different tasks: intervals do not cover other classes"
        )

    def sample(self, rng: np.random.Generator, num_tasks: int) -> Columns:
        names = self._pictures().splits[self._split]
        if names.ndim == 1:
            chosen = names[_subsets(rng, len(names), self._ways, num_tasks)]
        else:
            chosen = names[rng.integers(len(names), size=num_tasks)]
        return {"classes": rng.permuted(chosen, axis=1)}


def _subsets(rng: np.random.Generator, total: int, size: int, count: int) -> NDArray[np.intp]:
    """Draw ``count`` sets of ``size`` different numbers below ``total`` (Floyd's algorithm)."""
    sets = np.zeros((count, size), dtype=np.intp)
    for place, bound in enumerate(range(total - size, total)):
        drawn = rng.integers(bound + 1, size=count)
        taken = (sets[:, :place] == drawn[:, None]).any(axis=1)
        sets[:, place] = np.where(taken, bound, drawn)
    return sets


def few_shot(
    name: str,
    pictures: Source,
    *,
    ways: int,
    frame: int,
    variation: Variation,
    splits: Sequence[str] = ("train", "held_out"),
    description: str,
) -> TaskDistribution:
    """Make a family of few-shot recognition from pictures by class.

    Args:
        name: The family's name.
        pictures: Where the pictures come from, as a function that can be pickled.
        ways: N, the number of classes of a task.
        frame: The side of an observed image, in pixels.
        variation: How presentations of a picture differ.
        splits: The names of the splits of ``pictures``.
        description: One line for ``metarl list``.

    Returns:
        The family, with trials of ten presentations of each class on average.

    Raises:
        ValueError: If ``ways`` is below 2.
    """
    check_at_least(2, ways=ways)
    return TaskDistribution(
        name=name,
        parameters={"classes": Classes(pictures, ways)},
        env_factory=functools.partial(
            FewShotVectorEnv, pictures=pictures, ways=ways, frame=frame, variation=variation
        ),
        splits={split: ClassSampler(pictures, split, ways) for split in splits},
        visible=("classes",),
        episodes_per_trial=10 * ways,
        statistic="mean",
        description=description,
        varying_factor="classes",
        built_in=True,
    )
