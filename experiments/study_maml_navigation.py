"""Claim: on 2D navigation a gradient step on a few episodes finds the goal, as published.

``python -m metarl.experiments.study_maml_navigation`` trains MAML and what it is measured against
(multi-task pretraining, random parameters, an oracle that is told the goal), lets each adapt to 40
held-out goals for three inner steps, and writes the raw returns, a table and two pictures. What
is finished is not done again, and an interrupted training goes on where its last checkpoint was.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from stable_baselines3.common.logger import Logger

from metarl import TaskDistribution, envs, evaluate
from metarl.agents import MAML
from metarl.checkpoint import atomic_write
from metarl.envs.navigation import draw_adaptation
from metarl.evaluation import versions
from metarl.experiments.presets import find_preset

RESULTS = Path("experiments/results/maml-navigation-2d")
PUBLISHED = {
    "maml": (-40.4, -11.7, -3.3, -3.2),
    "pretrained": None,
    "random": (-82.7, -58.0, -53.8, -46.8),
    "oracle": (-2.3,),
}
BAR = (-45.0, -11.7, -4.5, -4.0)
NUM_TASKS, NUM_EPISODES, NUM_ROUNDS, EVALUATION_SEED = 40, 40, 4, 7


@dataclass(frozen=True)
class Options:
    """Train and judge MAML on dense 2D navigation."""

    learners: tuple[str, ...] = ("maml", "pretrained", "random", "oracle")
    """Which learners."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """The seed of each training."""
    iterations: int = 80
    """Outer updates; learners that do not adapt in training get twice as many, for as many env
    steps."""
    threads: int = 1
    """Threads of torch."""


def make(learner: str, seed: int, tasks: TaskDistribution) -> MAML:
    """Build a learner, untrained."""
    options = dict(find_preset("maml", tasks.name).hyperparameters)
    if learner in ("pretrained", "oracle"):
        options["inner_steps"] = 0
    return MAML(tasks.told() if learner == "oracle" else tasks, seed=seed, device="cpu", **options)


def train(agent: MAML, iterations: int, checkpoint: Path) -> dict[str, Any]:
    """Train, or go on training; return the time it took and the curve of training returns."""
    state: dict[str, Any] = {"wall_seconds": 0.0, "cpu_seconds": 0.0, "curve": []}
    sidecar = checkpoint.with_suffix(".json")
    if checkpoint.exists():
        agent.restore(checkpoint)
        state = json.loads(sidecar.read_text())
        del state["curve"][agent.iteration :]  # a crash may fall between the two files
    agent.set_logger(Logger(None, []))
    wall, cpu = time.perf_counter(), time.process_time()
    while agent.iteration < iterations:
        agent.learn(1, reset_num_timesteps=False)
        assert agent.last_rollout is not None
        state["curve"].append(np.round(agent.last_rollout.returns.mean(axis=0), 2).tolist())
        if agent.iteration % 10 == 0 or agent.iteration == iterations:
            state["wall_seconds"] += time.perf_counter() - wall
            state["cpu_seconds"] += time.process_time() - cpu
            wall, cpu = time.perf_counter(), time.process_time()
            atomic_write(sidecar, json.dumps(state))
            agent.save(checkpoint)
    return state


def judge(agent: MAML) -> tuple[list[Any], dict[str, Any]]:
    """Return raw returns of shape (tasks, rounds, episodes), and the tasks."""
    agent.episodes_per_adaptation = NUM_EPISODES
    report = evaluate(
        agent,
        agent.tasks,
        num_tasks=NUM_TASKS,
        num_episodes=NUM_ROUNDS * NUM_EPISODES,
        seed=EVALUATION_SEED,
    )
    returns = report.returns.reshape(NUM_TASKS, NUM_ROUNDS, NUM_EPISODES)
    return np.round(returns, 2).tolist(), report.tasks.to_json()


def run(learner: str, seed: int, options: Options) -> None:
    """Train and judge one learner, and write what came of it."""
    path = RESULTS / f"{learner}-seed{seed}.json"
    if path.exists():
        return
    tasks = envs.make("navigation-2d")
    agent = make(learner, seed, tasks)
    iterations = {"random": 0, "maml": 1}.get(learner, 2) * options.iterations
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    checkpoint = Path("runs/study-maml-navigation") / f"{learner}-seed{seed}.safetensors"
    training = train(agent, iterations, checkpoint)
    returns, sampled = judge(agent)
    record = {
        "command": f"python -m metarl.experiments.study_maml_navigation {' '.join(sys.argv[1:])}",
        "learner": learner,
        "seed": seed,
        "iterations": agent.iteration,
        "env_steps": agent.num_timesteps,
        "hyperparameters": agent.hyperparameters,
        "threads": options.threads,
        "commit": commit.stdout.strip(),
        "versions": versions(),
        **training,
        "evaluation": {"seed": EVALUATION_SEED, "tasks": sampled, "returns": returns},
    }
    atomic_write(path, json.dumps(record, separators=(",", ":")) + "\n")
    if learner == "maml" and seed == 0:
        agent.episodes_per_adaptation = NUM_EPISODES
        draw_adaptation(agent, tasks, path=RESULTS / "paths.png")


def records() -> list[dict[str, Any]]:
    """Read all that was written."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*-seed*.json"))]


def means(record: Mapping[str, Any]) -> Any:
    """Return the mean over tasks and episodes after each number of inner steps."""
    return np.asarray(record["evaluation"]["returns"]).mean(axis=(0, 2))


def table() -> str:
    """Return a Markdown table of mean returns, every seed in a row of its own."""
    lines = [
        "| learner | seed | 0 steps | 1 step | 2 steps | 3 steps | env steps | CPU min | min |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records():
        cells = " | ".join(f"{value:.2f}" for value in means(record))
        cost = f"{record['env_steps'] / 1e6:.1f} M | {record['cpu_seconds'] / 60:.1f}"
        cost += f" | {record['wall_seconds'] / 60:.1f}"
        lines.append(f"| {record['learner']} | {record['seed']} | {cells} | {cost} |")
    for learner, values in PUBLISHED.items():
        if values is not None:
            cells = " | ".join(f"{value:.1f}" for value in values)
            lines.append(f"| {learner}, published | | {cells} |" + " |" * (7 - len(values)))
    return "\n".join(lines)


def plot(path: Path) -> None:
    """Draw return after inner steps, a line for each seed of each learner."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    colors = dict(zip(PUBLISHED, ("#0072B2", "#E69F00", "#999999", "#009E73")))
    for record in records():
        learner, seed = record["learner"], record["seed"]
        label = learner if seed == 0 else None
        axes.plot(means(record), marker="o", color=colors[learner], alpha=0.8, label=label)
    for learner, values in PUBLISHED.items():
        if values is not None:
            axes.plot(values, "x:", color=colors[learner], label=f"{learner}, published")
    axes.set(xlabel="inner steps", ylabel="return", title="2D navigation, 40 held-out goals")
    axes.set_xticks(range(NUM_ROUNDS))
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Do what is not done yet, then print the table."""
    options = tyro.cli(Options)
    torch.set_num_threads(options.threads)
    for seed in options.seeds:
        for learner in options.learners:
            run(learner, seed, options)
    atomic_write(RESULTS / "table.md", table() + "\n")
    plot(RESULTS / "returns.png")
    print(table())


if __name__ == "__main__":
    main()
