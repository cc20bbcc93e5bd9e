"""How trials of a search are scored: on tasks that are not reported, at several points."""

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from metarl import TaskDistribution, Tasks, evaluate
from metarl.agents import OnlineLearner
from metarl.agents.training.preset import Preset
from metarl.experiments.cli.commands import EVALUATION_SEED
from metarl.experiments.tuning.storage import import_optuna
from metarl.seeding import stream, stream_seed

if TYPE_CHECKING:
    import optuna

NUM_RUNGS = 5
"""At how many points of a training it is scored, including the end."""
MAX_TASKS = 500


class OutOfTime(Exception):  # noqa: N818
    """The time limit is reached; the next search restarts the unfinished trial."""


@dataclass(frozen=True)
class Evaluator:
    """Scores agents in training, on tasks that are not reported.

    Attributes:
        family: The family.
        tasks: The tasks.
        seed: The seed of episodes and actions.
        description: What the tasks are, in a sentence.
    """

    family: TaskDistribution
    tasks: Tasks
    seed: int
    description: str

    @classmethod
    def of(cls, family: TaskDistribution, preset: Preset, seed: int) -> "Evaluator":
        """Draw the tasks from the distribution of ``train``, without reported tasks."""
        number = min(preset.num_eval_tasks, MAX_TASKS)
        drawn = family.sample("train", number, stream(seed, "tuning"))
        reported = family.sample("held_out", preset.num_eval_tasks, EVALUATION_SEED)
        columns = {n: np.concatenate([c, reported.columns[n]]) for n, c in drawn.columns.items()}
        ids = Tasks(drawn.family, columns).group_ids()
        fresh = ~np.isin(ids[:number], ids[number:])
        evaluated = drawn[fresh] if fresh.any() else drawn
        if fresh.any():
            relation = f"none of them is among the {len(reported):,} reported held-out tasks"
        else:
            relation = f"reports on {family.name} use the same tasks, because it has no others"
        if (count := family.num_tasks("train")) is not None:
            relation += f"; training may use them, because train has {count:,} tasks"
        return cls(
            family,
            evaluated,
            stream_seed(seed, "tuning"),
            f"trials are scored on {len(evaluated):,} tasks from the distribution of train, drawn "
            f"with a separate random stream; {relation}; the score is the mean return of the last "
            "adaptation episode",
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
            split="tuning",
            given=self.tasks,
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
