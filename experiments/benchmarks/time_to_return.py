"""How long until an agent is good: RL² with its preset, and RecurrentPPO in the same minutes.

RL² trains until its return on validation tasks reaches a goal. sb3-contrib's RecurrentPPO then
trains as long, on the same trials. Its network, discount, entropy bonus, normalization and number
of epochs are those of RL²'s preset, its rollout of whole trials is one minibatch: it has not been
tuned. Time is CPU time of one thread, without evaluations.

The return is the one that the family's study reports: of a whole trial, or of one of its episodes.

Run: ``pip install 'metarl-suite[benchmark]'`` and
``python -m metarl.experiments.benchmarks.time_to_return gridnavi``
"""

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import tyro
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecNormalize

from metarl import Agent, Report, TaskDistribution, envs, evaluate
from metarl.agents import RL2, SB3Agent, TaskVecEnv
from metarl.agents.presets import find_preset
from metarl.evaluation.report import versions


class Goal(NamedTuple):
    """A return worth waiting for.

    Attributes:
        value: The return.
        of: Which episodes it is of: all together, or the first or the last one.
    """

    value: float
    of: str

    def measured(self, report: Report) -> float:
        """Return the mean over tasks."""
        returns = report.returns.mean(0)  # (num_episodes,)
        return float(
            returns.sum() if self.of == "all" else returns[0 if self.of == "first" else -1]
        )


GOALS = {
    "bandit-100x5": Goal(77.0, "all"),
    "gridnavi": Goal(36.0, "all"),
    "half-cheetah-dir": Goal(900.0, "first"),
    "games-7x7": Goal(2.4, "last"),
}


class Point(NamedTuple):
    """One evaluation: after so many seconds of training and env steps, this return."""

    seconds: float
    env_steps: int
    value: float


class Watch(BaseCallback):
    """Evaluates an agent now and then, and stops it at a return or after some time.

    Args:
        agent: What to evaluate, made from the model.
        tasks: The family.
        goal: The return to stop at, and which it is.
        every: Seconds of training between two evaluations.
        limit: The most seconds of training.
        stop_at_goal: Whether to stop at the goal.
    """

    def __init__(
        self,
        agent: Callable[[Any], Agent],
        tasks: TaskDistribution,
        goal: Goal,
        *,
        every: float,
        limit: float,
        stop_at_goal: bool,
    ):
        super().__init__()
        self._agent, self._tasks, self._goal = agent, tasks, goal
        self._every, self._limit, self._stop_at_goal = every, limit, stop_at_goal
        self.points: list[Point] = []
        self._seconds, self._stopped = 0.0, False

    def _on_training_start(self) -> None:
        self._since = time.process_time()

    def _on_rollout_start(self) -> None:
        now = self._seconds + time.process_time() - self._since
        due = self._every if not self.points else self.points[-1].seconds + self._every
        if now < min(due, self._limit):
            return
        found = evaluate(
            self._agent(self.model), self._tasks, split="validation", num_tasks=200, seed=0
        )
        point = Point(now, self.num_timesteps, self._goal.measured(found))
        self.points.append(point)
        print(
            f"  {now:7.0f} s  {point.env_steps:12,} env steps  return {point.value:.4g}", flush=True
        )
        reached = self._stop_at_goal and point.value >= self._goal.value
        self._stopped = reached or now >= self._limit
        self._seconds, self._since = now, time.process_time()

    def _on_step(self) -> bool:
        return not self._stopped


def recurrent_ppo(tasks: TaskDistribution, num_envs: int, seed: int) -> RecurrentPPO:
    """Return sb3-contrib's agent with RL²'s preset, as far as it has the hyperparameters."""
    preset = find_preset("rl2", tasks).hyperparameters
    policy = preset["policy_kwargs"]
    venv = TaskVecEnv(tasks, num_envs, episodes_per_trial=tasks.episodes_per_trial, seed=seed)
    with contextlib.closing(tasks.make_vec(1)) as env:
        num_steps = env.horizon * tasks.episodes_per_trial
    observations = preset.get("normalize_observation", False)
    rewards = preset.get("normalize_reward", False)
    return RecurrentPPO(
        "MlpLstmPolicy",
        VecNormalize(venv, norm_obs=observations, norm_reward=rewards, gamma=preset["gamma"]),
        n_steps=num_steps,
        batch_size=num_envs * num_steps,
        n_epochs=preset.get("n_epochs", 4),
        gamma=preset["gamma"],
        gae_lambda=preset["gae_lambda"],
        ent_coef=preset.get("ent_coef", 0.0),
        policy_kwargs={
            "lstm_hidden_size": policy["hidden_size"],
            "net_arch": list(policy.get("head", [])),
            "enable_critic_lstm": policy.get("separate_critic", False),
            "shared_lstm": not policy.get("separate_critic", False),
        },
        seed=seed,
        device="cpu",
    )


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        family: One of the families above.
        seeds: How many seeds.
        minutes: The most minutes of each training.
        num_envs: The environments of RecurrentPPO.
        out: A folder for the raw results.
    """

    family: tyro.conf.Positional[str]
    seeds: int = 3
    minutes: float = 60.0
    num_envs: int = 64
    out: Path | None = None


def _on_trials(tasks: TaskDistribution, model: RecurrentPPO) -> Agent:
    return SB3Agent(model, tasks, trials=True, normalize=model.get_vec_normalize_env())


def main(options: Options) -> None:
    """Train both, print their curves and the time of RL² to the goal."""
    torch.set_num_threads(1)
    tasks, goal = envs.make(options.family), GOALS[options.family]
    num_steps = find_preset("rl2", tasks).total_timesteps
    assert num_steps is not None  # the preset of each of these families has one
    print(f"{options.family}: {goal.value} ({goal.of}); RL2 has {num_steps:,} env steps")
    records = []
    for seed in range(options.seeds):
        limit = 60.0 * options.minutes
        ours = Watch(
            lambda model: model, tasks, goal, every=limit / 240, limit=limit, stop_at_goal=True
        )
        print(f" RL2, seed {seed}")
        RL2.from_preset(tasks, seed=seed).learn(num_steps, callback=ours)
        limit = ours.points[-1].seconds
        other = recurrent_ppo(tasks, options.num_envs, seed)
        theirs = Watch(
            partial(_on_trials, tasks),
            tasks,
            goal,
            every=limit / 20,
            limit=limit,
            stop_at_goal=False,
        )
        print(f" RecurrentPPO, seed {seed}")
        other.learn(10**12, callback=theirs)
        last = ours.points[-1]
        reached = "reached" if last.value >= goal.value else "did not reach"
        minutes = f"{last.seconds / 60:.1f} minutes"
        print(
            f" seed {seed}: RL2 {reached} the goal, {last.value:.4g} after {minutes}; "
            f"RecurrentPPO {theirs.points[-1].value:.4g}"
        )
        records.append({"seed": seed, "RL2": ours.points, "RecurrentPPO": theirs.points})
        if options.out is not None:
            options.out.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"goal": goal, "versions": versions(), "seeds": records}, indent=1)
            (options.out / f"{options.family}.json").write_text(f"{text}\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
