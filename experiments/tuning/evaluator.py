"""How trials of a search are scored: on validation tasks, at several points."""

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stable_baselines3.common.callbacks import BaseCallback

from metarl import TaskDistribution, evaluate
from metarl.agents import OnlineLearner
from metarl.agents.training.preset import Preset
from metarl.experiments.tuning.storage import import_optuna
from metarl.seeding import stream_seed

if TYPE_CHECKING:
    import optuna

NUM_RUNGS = 5
"""At how many points of a training it is scored, including the end."""
MAX_TASKS = 500


class OutOfTime(Exception):  # noqa: N818
    """The time limit is reached; the next search restarts the unfinished trial."""


@dataclass(frozen=True)
class Evaluator:
    """Scores agents in training, on validation tasks.

    Attributes:
        family: The family.
        num_tasks: How many tasks.
        seed: The seed of tasks, episodes and actions.
        description: What the tasks are, in a sentence.
    """

    family: TaskDistribution
    num_tasks: int
    seed: int
    description: str

    @classmethod
    def of(cls, family: TaskDistribution, preset: Preset, seed: int) -> "Evaluator":
        """Return the evaluator of a search with that seed."""
        number = min(preset.num_eval_tasks, MAX_TASKS)
        relation = family.overlap("validation") or "none of them is a task of train or held_out"
        return cls(
            family,
            number,
            stream_seed(seed, "tuning"),
            f"trials are scored on {number:,} tasks of validation; {relation}; the score is the "
            "mean return of the last adaptation episode",
        )

    def score(self, learner: OnlineLearner[Any]) -> tuple[float, float]:
        """Return the mean return of the last episode over the tasks, and its standard error.

        If the agent adapts after K episodes (MAML), it is the mean over the K episodes after the
        last adaptation, and there is at least one adaptation.
        """
        parallel = learner.episodes_per_adaptation
        rounds = math.ceil(self.family.episodes_per_trial / parallel)
        if parallel > 1:
            rounds = max(2, rounds)
        report = evaluate(
            learner,
            self.family,
            split="validation",
            num_tasks=self.num_tasks,
            num_episodes=parallel * rounds,
            seed=self.seed,
        )
        return float(report.last.mean()), float(report.last.std() / math.sqrt(report.num_tasks))


class Rungs(BaseCallback):
    """Scores a training as it runs, and ends it if it is pruned or the time limit is reached."""

    def __init__(self, evaluator: Evaluator, trial: "optuna.Trial", deadline: float):
        super().__init__()
        self._evaluator, self._trial, self._deadline = evaluator, trial, deadline
        self._rung = 0

    def _on_training_start(self) -> None:
        self._total = int(self.locals["total_timesteps"])

    def _on_rollout_start(self) -> None:
        rung = NUM_RUNGS * self.num_timesteps // self._total
        if self._rung < rung < NUM_RUNGS:
            self._rung = rung
            self._trial.report(self._evaluator.score(self.model)[0], rung)  # type: ignore[arg-type]
            if self._trial.should_prune() and not self._trial.user_attrs.get("preset"):
                raise import_optuna().TrialPruned

    def _on_step(self) -> bool:
        if time.monotonic() > self._deadline:
            raise OutOfTime
        return True
