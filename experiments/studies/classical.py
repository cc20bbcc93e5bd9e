"""Claim: the classical bandit learners earn here what they earn in the literature.

``python -m metarl.experiments.studies.classical`` plays all nine settings of Duan et al. (2016),
table 1, prints the scores next to the published ones and writes the return of every trial.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray

from metarl import Agent, TaskDistribution, envs, evaluate
from metarl.agents.classical import bandits as bandit_learners
from metarl.agents.classical import random_actions as baselines
from metarl.errors import check_at_least
from metarl.evaluation.archive import smallest, write_archive
from metarl.evaluation.report import versions
from metarl.experiments.publish.papers import CLASSICAL_BANDITS, FIRST_TIES
from metarl.experiments.runs.run import git_commit

WIDTHS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
EPSILONS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1)


@dataclass(frozen=True)
class Options:
    """Play the classical bandit learners and compare with their published scores."""

    num_tasks: int = 1000
    """Held-out tasks of each setting, the same for all learners."""
    seed: int = 0
    """Seed of tasks, rewards and learners."""
    pulls: tuple[int, ...] = (10, 100, 500)
    """Which n of the table to play."""
    out: Path = Path("experiments/results/classical/returns.npz")
    """Where the returns go. An existing file is not overwritten."""


@dataclass(frozen=True)
class Score:
    """The score of one learner in one setting.

    Attributes:
        learner: Its name.
        returns: The total reward of each trial, of shape (num_tasks,).
        published: The published mean, if there is one.
        tuned: The mean return for each value tried of a tuned hyperparameter; the returns are
            those of the best.
    """

    learner: str
    returns: NDArray[Any]
    published: float | None = None
    tuned: dict[float, float] | None = None

    @property
    def mean(self) -> float:
        return float(self.returns.mean())

    @property
    def standard_error(self) -> float:
        return float(self.returns.std(ddof=1)) / math.sqrt(len(self.returns))

    @property
    def off_by(self) -> float | None:
        """The difference to the published mean, which varies as much as ours, in its errors."""
        if self.published is None:
            return None
        return (self.mean - self.published) / (math.sqrt(2) * self.standard_error)

    def __str__(self) -> str:
        line = f"  {self.learner:32s}{self.mean:8.2f} +- {self.standard_error:4.2f}"
        if self.published is not None:
            line += f"   published {self.published:.1f}, {self.off_by:+.1f} standard errors"
        if self.tuned is not None:
            line += f"   best of {len(self.tuned)}: {max(self.tuned, key=self.tuned.__getitem__)}"
        return line


def play(
    tasks: TaskDistribution, agent: Agent, num_tasks: int = 1000, seed: int = 0
) -> NDArray[np.int64]:
    """Let an agent play one trial of each held-out bandit.

    The same seed gives the same bandits, and in pull t of bandit i the same random number decides
    on the reward: two agents differ only in their choices.

    Args:
        tasks: The bandits.
        agent: The agent.
        num_tasks: How many bandits.
        seed: The seed.

    Returns:
        The total reward of each trial, of shape (num_tasks,).
    """
    return evaluate(agent, tasks, num_tasks=num_tasks, seed=seed).trial_returns.astype(np.int64)


def scores(num_pulls: int, num_arms: int, num_tasks: int, seed: int) -> Iterator[Score]:
    """Play all learners in one setting, on the same tasks."""
    tasks = envs.bandit(num_pulls, num_arms)
    oracle = tasks.oracle()
    published = CLASSICAL_BANDITS[num_pulls, num_arms]

    def score(name: str, agent: Agent, family: TaskDistribution = tasks) -> Score:
        return Score(name, play(family, agent, num_tasks, seed), published.get(name))

    def tuned(name: str, grid: tuple[float, ...], make: Callable[[float], Agent]) -> Score:
        return best_of({value: score(name, make(value)) for value in grid})

    yield score("random", baselines.RandomActions(tasks))
    yield score("Thompson sampling", bandit_learners.ThompsonSampling(tasks))
    for ties, random_ties in ((FIRST_TIES, False), ("", True)):
        yield score("greedy" + ties, bandit_learners.Greedy(tasks, random_ties=random_ties))
        yield tuned(
            "epsilon-greedy" + ties,
            EPSILONS,
            lambda epsilon, random_ties=random_ties: bandit_learners.EpsilonGreedy(  # type: ignore[misc]
                tasks, epsilon=epsilon, random_ties=random_ties
            ),
        )
    yield tuned("UCB1", WIDTHS, lambda c: bandit_learners.UCB1(tasks, c=c))
    yield score("Gittins index", bandit_learners.GittinsIndex(tasks))
    yield score("known best arm (oracle)", bandit_learners.KnownBestArm(oracle), oracle)


def best_of(tried: Mapping[float, Score]) -> Score:
    """Return the best score of a learner, with the means of all values of a hyperparameter."""
    best = max(tried.values(), key=lambda score: score.mean)
    return replace(best, tuned={value: round(score.mean, 3) for value, score in tried.items()})


def main(options: Options) -> None:
    """Play, print and write."""
    settings = (
        ({"num_pulls": n, "num_arms": k}, scores(n, k, options.num_tasks, options.seed))
        for n, k in CLASSICAL_BANDITS
        if n in options.pulls
    )
    print_and_write("studies.classical", options, settings)


def print_and_write(
    name: str, options: Any, settings: Iterable[tuple[Mapping[str, int], Iterable[Score]]]
) -> None:
    """Print each score as soon as it is known, next to the published one, and write the returns.

    Args:
        name: The module of the study.
        options: Its options, a dataclass with ``num_tasks`` and ``out``.
        settings: What distinguishes each setting from the others, and the scores in it.

    Raises:
        FileExistsError: If the file of the returns exists.
        ValueError: If there are fewer than 2 tasks.
    """
    check_at_least(2, num_tasks=options.num_tasks)
    if options.out.exists():
        raise FileExistsError(f"{options.out} exists; move it, or choose another place with --out")
    start = time.perf_counter()
    print(
        f"Mean total reward over {options.num_tasks} held-out tasks, the same for all learners.\n"
        "What is tuned is tuned on these very tasks, as in the paper: a little optimistic.\n"
        "Standard errors are those of the difference to the published mean."
    )
    found: list[tuple[Mapping[str, int], Score]] = []
    for key, played in settings:
        print("\n  " + ", ".join(f"{of} = {value}" for of, value in key.items()))
        for score in played:
            print(score, flush=True)
            found.append((key, score))
    seconds = time.perf_counter() - start
    head = {
        "command": f"python -m metarl.experiments.{name}",
        "options": {**asdict(options), "out": options.out.as_posix()},
        "git_commit": git_commit(),
        "versions": versions(),
        "wall_time_seconds": round(seconds, 1),
        "results": [
            {**key, "learner": score.learner, "tuned": score.tuned} for key, score in found
        ],
    }
    returns = np.stack([score.returns for _, score in found])  # a row for each result
    write_archive(options.out, head, {"returns": smallest(returns)}, compact=True)
    off_by = [abs(score.off_by) for _, score in found if score.off_by is not None]
    print(
        f"\nOf {len(off_by)} published scores {sum(off < 2 for off in off_by)} are within 2 "
        f"standard errors (by chance about {0.95 * len(off_by):.0f})."
        f"\n{seconds:.0f} s; the return of every trial is in {options.out}"
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
