"""Learners: meta-learners, and their baselines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from metarl.agents.classical.alchemy import KnownChemistry, RandomPotions
from metarl.agents.classical.bandits import (
    UCB1,
    DiscountedThompson,
    EpsilonGreedy,
    GittinsIndex,
    Greedy,
    KnownBestArm,
    SlidingWindowUCB,
    ThompsonSampling,
)
from metarl.agents.classical.chemistries import ExactBelief
from metarl.agents.classical.mdps import (
    OPSRL,
    PSRL,
    UCRL2,
    EpsilonGreedyMDP,
    GreedyMDP,
    KnownMDP,
)
from metarl.agents.classical.navigation import GridSearch, KnownGoal, NearestUnvisited
from metarl.agents.classical.random_actions import RandomActions
from metarl.agents.common.memory.contract import Memory, MemorySizes
from metarl.agents.common.memory.registry import register_memory
from metarl.agents.distill import AD, DPT
from metarl.agents.maml import ANIL, EMAML, FOMAML, MAML, ProMP, Reptile
from metarl.agents.rl2 import RL2
from metarl.agents.sb3 import SB3Agent, TaskVecEnv
from metarl.agents.sb3.fine_tune import FineTune, FromScratch
from metarl.agents.sb3.multi_task import MultiTask
from metarl.agents.training.callbacks import EvaluationCallback
from metarl.agents.training.checkpoint import load_checkpoint, with_suffix
from metarl.agents.training.learner import Learner
from metarl.agents.training.offline import OfflineLearner
from metarl.agents.training.online import OnlineLearner
from metarl.agents.varibad import VariBAD
from metarl.distribution import TaskDistribution
from metarl.errors import check_names, found_in
from metarl.evaluation.adaptation import Agent

__all__ = [
    "AD",
    "AGENTS",
    "ANIL",
    "DPT",
    "EMAML",
    "FOMAML",
    "MAML",
    "REFERENCES",
    "RL2",
    "EvaluationCallback",
    "FineTune",
    "FromScratch",
    "Learner",
    "Memory",
    "MemorySizes",
    "MultiTask",
    "OfflineLearner",
    "OnlineLearner",
    "ProMP",
    "Reptile",
    "SB3Agent",
    "TaskVecEnv",
    "VariBAD",
    "load",
    "reference",
    "register_memory",
]

AGENTS: dict[str, type[Learner]] = {
    "ad": AD,
    "anil": ANIL,
    "dpt": DPT,
    "e-maml": EMAML,
    "fine-tune": FineTune,
    "fomaml": FOMAML,
    "from-scratch": FromScratch,
    "maml": MAML,
    "multi-task": MultiTask,
    "promp": ProMP,
    "reptile": Reptile,
    "rl2": RL2,
    "varibad": VariBAD,
}
"""The agents that train, by their names on the command line."""


def load(path: str | Path, tasks: TaskDistribution | None = None, **options: Any) -> Learner:
    """Read a saved agent of any kind; see ``load`` of its class.

    Args:
        path: What was given to ``save``.
        tasks: The family, to train on; without it the agent acts.
        options: Further arguments of ``load``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or does not fit, or holds an agent of your own class,
            which has its own ``load``.
    """
    path = with_suffix(path)
    _, state = load_checkpoint(path)
    kinds = {kind.__name__: kind for kind in AGENTS.values()}
    with found_in(repr(str(path))):
        check_names([state.get("agent")], kinds, "kind of agent")  # type: ignore[list-item]
    return kinds[state["agent"]].load(path, tasks, **options)


REFERENCES: dict[str, Callable[[TaskDistribution], Agent]] = {
    "random": RandomActions,
    "thompson-sampling": ThompsonSampling,
    "discounted-thompson": DiscountedThompson,
    "sliding-window-ucb": SlidingWindowUCB,
    "greedy": Greedy,
    "epsilon-greedy": EpsilonGreedy,
    "ucb1": UCB1,
    "gittins-index": GittinsIndex,
    "known-best-arm": KnownBestArm,
    "bayes-optimal": GridSearch,
    "known-goal": KnownGoal,
    "nearest-unvisited": NearestUnvisited,
    "psrl": PSRL,
    "opsrl": OPSRL,
    "ucrl2": UCRL2,
    "mdp-epsilon-greedy": EpsilonGreedyMDP,
    "mdp-greedy": GreedyMDP,
    "known-mdp": KnownMDP,
    "random-potions": RandomPotions,
    "exact-belief": ExactBelief,
    "known-chemistry": KnownChemistry,
}
"""Agents that need no training, by the names under which families declare them as references.

They have their default hyperparameters, which nothing tunes on the tasks at hand.
"""

_ORACLES = (KnownBestArm, KnownChemistry, KnownGoal, KnownMDP)


def reference(name: str, tasks: TaskDistribution) -> tuple[Agent, TaskDistribution]:
    """Build one of the baselines that a family declares.

    Args:
        name: One of ``tasks.references``.
        tasks: The family.

    Returns:
        The agent, and the view of the family that it is to be evaluated on: the oracle's view for
        an oracle.

    Raises:
        ValueError: If the name is unknown, or the agent cannot play such tasks.
    """
    check_names([name], REFERENCES, "reference")
    view = tasks.oracle() if REFERENCES[name] in _ORACLES else tasks
    # Of tasks that change, an oracle reads the one of the moment, as if they did not change.
    family = view.still.oracle() if view is not tasks and view.still else view
    return REFERENCES[name](family), view
