"""Claim: a gradient step on a few episodes solves a new task, as Finn et al. (2017) published.

``python -m metarl.experiments.study_maml FAMILY`` trains MAML and what it is measured against
(multi-task pretraining, random parameters, an oracle that is told the task), lets each adapt to 40
held-out tasks for three inner steps, and writes the raw returns, a table and a picture. What is
finished is not repeated, and an interrupted training continues from its last checkpoint.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from metarl import envs, evaluate
from metarl.agents import AGENTS, MAML
from metarl.agents.presets import find_preset
from metarl.experiments import published
from metarl.experiments.commands import resume, train
from metarl.experiments.figures import draw_adaptation
from metarl.experiments.overrides import parse_overrides
from metarl.experiments.restoring import load_agent
from metarl.experiments.runs import Run, git_commit
from metarl.files import atomic_write
from metarl.report import versions

TEST_EPISODES = {"navigation-2d": 40, "ant-dir-rllab": 40}
"""Episodes before an inner step at test, where the paper takes other than in training."""

UNADAPTED = ("inner_steps=0", "learn_inner_lr=null")
"""What makes MAML an agent that does not adapt in training."""

COLORS = {"maml": "#0072B2", "pretrained": "#E69F00", "random": "#999999", "oracle": "#009E73"}
NUM_TASKS, NUM_ROUNDS, EVALUATION_SEED = 40, 4, 7


@dataclass(frozen=True)
class Options:
    """Train and judge MAML, and what it is measured against."""

    family: Annotated[str, tyro.conf.Positional] = "navigation-2d"
    """The family of tasks."""
    learners: tuple[str, ...] = ("maml", "pretrained", "random", "oracle")
    """Which learners."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """The seed of each training."""
    total_timesteps: int | None = None
    """Env steps of each training; None takes the preset's."""
    overrides: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="set")] = ()
    """Hyperparameters other than the preset's, as name=value; may be repeated."""
    threads: int = 1
    """Threads of torch."""

    @property
    def results(self) -> Path:
        """Where the results are kept."""
        return Path("experiments/results") / f"maml-{self.family}"


def trained(learner: str, seed: int, options: Options) -> tuple[MAML, dict[str, Any]]:
    """Return a learner after training, and the record of its training."""
    if learner == "random":
        chosen = dict(find_preset("maml", options.family).hyperparameters)
        chosen |= parse_overrides(AGENTS["maml"], options.overrides)
        untrained = MAML(envs.make(options.family), seed=seed, device="cpu", **chosen)
        started = {"commit": git_commit(), "versions": versions()}
        return untrained, {**started, "wall_seconds": 0.0, "curve": []}
    directory = Path("runs/study-maml") / options.family / f"{learner}-seed{seed}"
    family = f"{options.family}-told" if learner == "oracle" else options.family
    if not directory.exists():
        train(
            "maml",
            family,
            run_dir=directory,
            total_timesteps=options.total_timesteps,
            seed=seed,
            device="cpu",
            overrides=[*options.overrides, *(UNADAPTED if learner != "maml" else [])],
        )
    elif not Run.open(directory).agent.exists():
        resume(directory)
    run = Run.open(directory)
    agent = load_agent(run)
    assert isinstance(agent, MAML)
    rows = run.progress()
    rounds = [f"rollout/return_after_{step}_steps" for step in range(agent.config.inner_steps + 1)]
    return agent, {
        "commit": run.config["git_commit"],
        "versions": run.config["versions"],
        "wall_seconds": round(sum(float(row["time/seconds"]) for row in rows), 1),
        "curve": [[round(float(row[name]), 2) for name in rounds] for row in rows],
    }


def run(learner: str, seed: int, options: Options) -> None:
    """Train and judge one learner, and write its record."""
    path = options.results / f"{learner}-seed{seed}.json"
    if path.exists():
        return
    agent, training = trained(learner, seed, options)
    num_episodes = TEST_EPISODES.get(options.family, agent.episodes_per_adaptation)
    report = evaluate(
        agent,
        agent.tasks,
        num_tasks=NUM_TASKS,
        num_episodes=NUM_ROUNDS * num_episodes,
        episodes_per_adaptation=num_episodes,
        seed=EVALUATION_SEED,
    )
    returns = report.returns.reshape(NUM_TASKS, NUM_ROUNDS, num_episodes)
    record = {
        "command": f"python -m metarl.experiments.study_maml {' '.join(sys.argv[1:])}",
        "learner": learner,
        "seed": seed,
        "env_steps": agent.num_timesteps,
        "hyperparameters": agent.hyperparameters,
        "threads": options.threads,
        **training,
        "evaluation": {
            "seed": EVALUATION_SEED,
            "tasks": report.tasks.to_json(),
            "returns": np.round(returns, 2).tolist(),
        },
    }
    atomic_write(path, json.dumps(record, separators=(",", ":")) + "\n")
    if options.family == "navigation-2d" and learner == "maml" and seed == 0:
        picture = options.results / "paths.png"
        draw_adaptation(agent, agent.tasks, episodes_per_adaptation=num_episodes, path=picture)


def means(record: Mapping[str, Any]) -> Any:
    """Return the mean over tasks and episodes after each number of inner steps.

    The oracle knows the task: only what it does without a step counts.
    """
    curve = np.asarray(record["evaluation"]["returns"]).mean(axis=(0, 2))
    return curve[:1] if record["learner"] == "oracle" else curve


def table(records: list[dict[str, Any]], beside: Mapping[str, tuple[float, ...]]) -> str:
    """Return a Markdown table of mean returns, every seed in a row of its own."""
    lines = [
        "| learner | seed | 0 steps | 1 step | 2 steps | 3 steps | env steps | training |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        cost = f"{record['env_steps'] / 1e6:.1f}M | {record['wall_seconds'] / 60:.1f} min"
        cells = _cells(means(record), 2)
        lines.append(f"| {record['learner']} | {record['seed']} | {cells} | {cost} |")
    for learner, values in beside.items():
        lines.append(f"| {learner}, published | | {_cells(values, 1)} | | |")
    found = {
        learner: np.mean([means(record) for record in records if record["learner"] == learner], 0)
        for learner in {record["learner"] for record in records}
    }
    if {"maml", "pretrained", "oracle"} <= found.keys():
        start, end = found["pretrained"][0], found["oracle"][0]
        share = (found["maml"][1] - start) / (end - start)
        lines += ["", f"One step closes {share:.0%} of the way from pretrained to oracle."]
    return "\n".join(lines)


def _cells(values: Sequence[float], digits: int) -> str:
    padded = [f"{value:.{digits}f}" for value in values] + [""] * (NUM_ROUNDS - len(values))
    return " | ".join(padded)


def plot(
    records: list[dict[str, Any]],
    beside: Mapping[str, tuple[float, ...]],
    family: str,
    path: Path,
) -> None:
    """Draw return after inner steps, a line for each seed of each learner."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    axes = figure.subplots()
    for learner, color in COLORS.items():
        curves = [means(record) for record in records if record["learner"] == learner]
        for index, curve in enumerate(curves):
            label = None if index else learner
            _draw(axes, curve, marker="o", color=color, alpha=0.8, label=label)
        if learner in beside:
            text = f"{learner}, published"
            _draw(axes, beside[learner], marker="x", linestyle=":", color=color, label=text)
    axes.set(xlabel="inner steps", ylabel="return", title=f"{family}, {NUM_TASKS} held-out tasks")
    axes.set_xticks(range(NUM_ROUNDS))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.savefig(path, dpi=120)


def _draw(axes: Any, curve: Sequence[float], **style: Any) -> None:
    """Draw a curve; what is known for no step only is drawn as a level."""
    level = len(curve) == 1
    axes.plot(list(curve) * NUM_ROUNDS if level else curve, **style)


def main() -> None:
    """Run what is missing, then print the table."""
    options = tyro.cli(Options)
    torch.set_num_threads(options.threads)
    for seed in options.seeds:
        for learner in options.learners:
            run(learner, seed, options)
    records = [json.loads(path.read_text()) for path in sorted(options.results.glob("*.json"))]
    beside = published.MAML.get(options.family, {})
    atomic_write(options.results / "table.md", table(records, beside) + "\n")
    plot(records, beside, options.family, options.results / "returns.png")
    print(table(records, beside))


if __name__ == "__main__":
    main()
