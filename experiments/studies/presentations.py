"""Accuracy at the k-th presentation of a class: the measure of few-shot recognition.

Santoro et al. 2016, "Meta-learning with memory-augmented neural networks", section 4.1: of the
pictures that were the first, the second, ... of their class in a trial, how many were named right.
At the first, an agent can only guess among the classes that it has not seen.

The other table counts the labelled pictures, of any class, before the answer. For comparison: on 5
classes of Omniglot the memory-augmented network of that paper names 82.8% right at the second
presentation and 94.9% at the fifth (table 1).

Run: ``python -m metarl.experiments.studies.presentations runs/rl2-glyphs-5way-seed0``.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray

from metarl import Agent, TaskDistribution, Transition, play
from metarl.errors import InvalidValueError, MetarlError, check_at_least
from metarl.evaluation.statistics import TaskBootstrap
from metarl.evaluation.tables import Table, as_text
from metarl.experiments.publish.runs import open_run
from metarl.experiments.runs.loading import load_agent
from metarl.seeding import stream


@dataclass(frozen=True, eq=False)
class Recognition:
    """Which pictures an agent named right.

    Attributes:
        labels: The true class of each picture, of shape (num_tasks, num_pictures).
        right: Whether it was named, of the same shape.
        ways: How many classes a task has.
    """

    labels: NDArray[np.int64]
    right: NDArray[np.bool_]
    ways: int

    def by_presentation(self) -> NDArray[np.float64]:
        """Return each task's accuracy at the first, second, ... presentation of a class.

        Returns:
            An array of shape (num_tasks, k): in every task at least one class was presented k
            times. Of 50 pictures of 5 classes, at least 10 are of one class.
        """
        counts = (self.labels[:, :, None] == np.arange(self.ways)).cumsum(axis=1)
        presentation = np.take_along_axis(counts, self.labels[:, :, None], axis=2)
        often = -(-self.labels.shape[1] // self.ways)
        counted = presentation == np.arange(1, often + 1)
        hits = (counted & self.right[:, :, None]).sum(axis=1)
        return np.asarray(hits / counted.sum(axis=1))

    def __str__(self) -> str:
        """Return the accuracy as two tables: by presentation, and by labelled pictures seen."""
        num_tasks, num_pictures = self.right.shape
        by_class = self.by_presentation()[:, :10]
        before = [n for n in (0, 1, 2, 3, 5, 10, 20, 50, 100, 200) if n < num_pictures]
        return "\n".join(
            [
                f"{num_tasks} tasks, {num_pictures} pictures each; guessing: {1 / self.ways:.3f}",
                _table("presentation of a class", range(1, len(by_class[0]) + 1), by_class),
                _table(
                    "labelled pictures before", before, self.right[:, before].astype(np.float64)
                ),
            ]
        )


def _table(what: str, numbers: range | list[int], accuracy: NDArray[np.float64]) -> str:
    bootstrap = TaskBootstrap(np.arange(len(accuracy)), seed=0)
    accuracies = bootstrap.estimate(bootstrap.sample(accuracy[None], "mean"))
    rows = tuple((n, accuracies[index]) for index, n in enumerate(numbers))
    return as_text(Table((what, "accuracy (95% interval)"), rows))


def recognize(
    agent: Agent,
    tasks: TaskDistribution,
    *,
    split: str = "held_out",
    num_tasks: int = 400,
    num_pictures: int | None = None,
    seed: int = 1,
) -> Recognition:
    """Let an agent name the pictures of new tasks; all tasks and pictures count.

    Args:
        agent: An agent that learns from one picture at a time.
        tasks: A family of few-shot recognition.
        split: The split to draw tasks from.
        num_tasks: How many tasks.
        num_pictures: The pictures of each task; None takes the family's.
        seed: The seed of everything. Tasks, pictures and answers are those of
            :func:`metarl.evaluate`.

    Raises:
        ValueError: If the family is another, the agent learns from several pictures at once, there
            is no such split, or a number is below 1.
    """
    if num_pictures is None:
        num_pictures = tasks.episodes_per_trial
    check_at_least(1, num_pictures=num_pictures)
    if agent.episodes_per_adaptation > 1:
        raise InvalidValueError(
            f"{agent.name} learns from {agent.episodes_per_adaptation} pictures at a time; "
            "expected an agent that learns from one at a time"
        )
    if "classes" not in tasks.parameters:
        raise InvalidValueError(
            f"{tasks.name!r} is no family of few-shot recognition; try 'glyphs-5way'"
        )
    seen: list[tuple[NDArray[np.int64], NDArray[np.bool_]]] = []

    def record(step: Transition) -> bool:
        observations = step.next_observations
        labels = observations.get("observation", observations)["label"]  # an oracle's view
        seen.append((labels, step.rewards > 0.0))
        return True

    sampled = tasks.sample(split, num_tasks, seed)
    play(agent, tasks, sampled, num_pictures, seed=stream(seed, "evaluation"), on_step=record)
    # Many tasks are played in chunks, one after the other: each has its pictures in a row.
    chunks = [seen[start : start + num_pictures] for start in range(0, len(seen), num_pictures)]
    labels, right = (
        np.concatenate([np.stack(steps, axis=1) for steps in columns])
        for columns in zip(*(zip(*chunk) for chunk in chunks))
    )
    return Recognition(labels, right, ways=sampled.columns["classes"].shape[1])


def main(
    run: Annotated[Path, tyro.conf.Positional],
    split: str = "held_out",
    num_tasks: int = 1000,
    seed: int = 1,
) -> None:
    """Print how well a run's agent recognises classes after some presentations.

    Args:
        run: The run directory.
        split: The split to draw tasks from.
        num_tasks: How many tasks.
        seed: The seed of tasks and pictures.
    """
    learner = load_agent(open_run(run))
    recognition = recognize(learner, learner.tasks, split=split, num_tasks=num_tasks, seed=seed)
    print(f"{learner.name} on {learner.tasks.name}, {split}: {recognition}")


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except (MetarlError, OSError) as error:
        sys.exit(f"few_shot: error: {error}")
