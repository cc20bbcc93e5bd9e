"""Claim: the classical learners of tabular MDPs earn here what they earn in the literature.

``python -m metarl.experiments.studies.classical_mdps`` plays the five settings of Duan et al.
(2016), table 2, prints the scores next to the published ones and writes the return of every trial.
Each learner is shown with the true prior mean of the rewards, 1, and with the mean 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from numpy.typing import NDArray

from metarl import Agent, TaskDistribution, envs, evaluate
from metarl.agents.classical.mdps import (
    OPSRL,
    PSRL,
    UCRL2,
    EpsilonGreedyMDP,
    GreedyMDP,
    KnownMDP,
)
from metarl.agents.classical.random_actions import RandomActions
from metarl.experiments.publish.papers import CLASSICAL_MDPS, PRIOR_MEAN_0
from metarl.experiments.studies.classical import Score, best_of, print_and_write

WIDTHS = (0.1, 0.2, 0.4, 0.6)
EPSILONS = (0.01, 0.03, 0.1, 0.2, 0.3)


@dataclass(frozen=True)
class Options:
    """Play the classical learners of tabular MDPs and compare with their published scores."""

    num_tasks: int = 1000
    """Held-out tasks, the same for all learners and settings."""
    seed: int = 0
    """Seed of tasks, rewards and learners."""
    episodes: tuple[Literal[10, 25, 50, 75, 100], ...] = (10, 25, 50, 75, 100)
    """Which n of the table to play."""
    out: Path = Path("experiments/results/classical/mdp-returns.npz")
    """Where the returns go. An existing file is not overwritten."""


def scores(options: Options) -> dict[int, list[Score]]:
    """Play all learners, for each n of ``options.episodes``.

    No learner knows n, so shorter trials are the first episodes of the longest one.
    """
    tasks = envs.tabular_mdp(max(options.episodes))
    oracle = tasks.oracle()
    table: dict[int, list[Score]] = {n: [] for n in options.episodes}

    def play(agent: Agent, family: TaskDistribution = tasks) -> NDArray[np.float64]:
        report = evaluate(agent, family, num_tasks=options.num_tasks, seed=options.seed)
        return report.returns.cumsum(axis=1).round(2)

    def score(name: str, n: int, totals: NDArray[np.float64]) -> Score:
        published = CLASSICAL_MDPS[n].get(name.removesuffix(PRIOR_MEAN_0))
        return Score(name, totals[:, n - 1], published)

    def add(name: str, agent: Agent, family: TaskDistribution = tasks) -> None:
        totals = play(agent, family)
        for n in table:
            table[n].append(score(name, n, totals))

    def tune(name: str, make: Callable[..., Agent], parameter: str, grid: Sequence[float]) -> None:
        totals = {value: play(make(tasks, **{parameter: value})) for value in grid}
        for n in table:
            table[n].append(best_of({value: score(name, n, totals[value]) for value in grid}))

    add("random", RandomActions(tasks))
    for label, mean in (("", 1.0), (PRIOR_MEAN_0, 0.0)):
        greedy, eps_greedy, psrl, opsrl, ucrl2 = (
            partial(learner, prior_mean=mean)
            for learner in (GreedyMDP, EpsilonGreedyMDP, PSRL, OPSRL, UCRL2)
        )
        add("greedy" + label, greedy(tasks))
        tune("epsilon-greedy" + label, eps_greedy, "epsilon", EPSILONS)
        add("PSRL" + label, psrl(tasks))
        add("OPSRL" + label, opsrl(tasks))
        tune("UCRL2" + label, ucrl2, "c", WIDTHS)
    add("known MDP (oracle)", KnownMDP(oracle), oracle)
    return table


def main(options: Options) -> None:
    """Play, print and write."""
    settings = (({"num_episodes": n}, played) for n, played in scores(options).items())
    print_and_write("studies.classical_mdps", options, settings)


if __name__ == "__main__":
    main(tyro.cli(Options))
