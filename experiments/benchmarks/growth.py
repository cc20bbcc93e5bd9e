"""How time and memory grow with the number of lanes and tasks, from 64 to 8,192.

Each point is measured in a process of its own: how long an iteration of a training, or an
evaluation, takes, simulating, acting and learning apart; and by how much the process has grown.
Presets as they are, with whole trials, except the number of trials or tasks; one thread.

Run: ``python -m metarl.experiments.benchmarks.growth``; it writes ``docs/images/growth.png`` and
``experiments/results/growth.json``, from which ``cost_model`` predicts.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import tyro

from metarl import envs, evaluate
from metarl.agents import AGENTS, OnlineLearner
from metarl.agents.presets import find_preset
from metarl.evaluation.report import versions
from metarl.evaluation.tables import plain_table
from metarl.experiments.benchmarks.turns import in_a_process
from metarl.files import atomic_write

MODULE = "metarl.experiments.benchmarks.growth"
TRAININGS = ("rl2 bandit-100x5", "rl2 half-cheetah-dir", "maml navigation-2d")
EVALUATION = "evaluate rl2 bandit-100x5"
SIZE = {"rl2": "trials_per_iteration", "maml": "meta_batch_size"}
"""The hyperparameter that grows."""
PARTS = ("simulating", "acting", "learning")
LANES = tuple(2**power for power in range(6, 14))


def main(
    lanes: tuple[int, ...] = LANES,
    cases: tuple[str, ...] = (*TRAININGS, EVALUATION),
    rounds: int = 1,
    results: Path = Path("experiments/results/growth.json"),
    figure: Path = Path("docs/images/growth.png"),
) -> None:
    """Measure, print a table, write the raw numbers and the figure.

    Args:
        lanes: The numbers of environments, or of tasks that are evaluated.
        cases: What is measured.
        rounds: How often each point is measured; the fastest counts, the machine being busy.
        results: Where the raw numbers go.
        figure: Where the figure goes.
    """
    found: dict[str, list[dict[str, float]]] = {}
    for case in cases:
        for count in lanes:
            points = [in_a_process(MODULE, "measure", case, str(count)) for _ in range(rounds)]
            found.setdefault(case, []).append(min(points, key=lambda point: point["seconds"]))
        print(f"{case}\n{table(found[case])}\n", flush=True)
    record = {
        "command": f"python -m {MODULE}",
        "rounds": rounds,
        "versions": versions(),
        "points": found,
    }
    atomic_write(results, json.dumps(record, indent=1) + "\n")
    draw(found, figure)


def measure(case: str, count: int) -> dict[str, float]:
    """Return what one iteration, or one evaluation, takes.

    Args:
        case: AGENT FAMILY, or ``evaluate AGENT FAMILY``.
        count: The number of environments, or of tasks evaluated.

    Returns:
        ``lanes``, ``env_steps``, ``seconds``, of which ``simulating``, ``acting`` and ``learning``,
        and ``megabytes``: by how much the process has grown.
    """
    torch.set_num_threads(1)
    *evaluated, name, family = case.split()
    make: Callable[[int], OnlineLearner[Any]] = lambda size: build(name, family, size)  # noqa: E731
    make(2 if name == "maml" else 16).learn(1)  # what is made once is made now
    if evaluated:
        agent = make(16)
        before, started = _peak(), time.perf_counter()
        report = evaluate(agent, agent.tasks, num_tasks=count)
        seconds, parts = time.perf_counter() - started, {}
        env_steps = int(report.lengths.sum())
    else:
        per_task = agent_episodes(name, family)
        agent = make(max(1, count // per_task))
        before, started = _peak(), time.perf_counter()
        parts = timed_parts(agent)
        agent.learn(1)
        seconds = time.perf_counter() - started
        env_steps, count = agent.num_timesteps, agent.n_envs
    return {
        "lanes": count,
        "env_steps": env_steps,
        "seconds": seconds,
        **parts,
        "megabytes": _peak() - before,
    }


def build(name: str, family: str, size: int, **options: Any) -> OnlineLearner[Any]:
    """Return an agent by its preset, with so many trials or tasks in an iteration."""
    chosen = dict(find_preset(name, family).hyperparameters)
    chosen[SIZE[name]] = size
    if name == "rl2":
        chosen["first_episodes_per_trial"] = None
        chosen["trials_per_minibatch"] = min(chosen["trials_per_minibatch"], size)
    agent = AGENTS[name](envs.make(family), **{**chosen, **options}, seed=0)
    assert isinstance(agent, OnlineLearner)
    return agent


def agent_episodes(name: str, family: str) -> int:
    """Return how many environments an agent has for each trial or task."""
    return build(name, family, 2).n_envs // 2


def timed_parts(agent: OnlineLearner[Any]) -> dict[str, float]:
    """Return a record that will hold how long the parts of the next iteration take."""
    parts = dict.fromkeys(PARTS, 0.0)
    agent._env = env = agent.tasks.make_vec(agent.n_envs)

    def watch(owner: Any, method: str, part: str, less: str | None = None) -> None:
        original = getattr(owner, method)

        def timed(*args: Any) -> Any:
            started, inside = time.perf_counter(), parts[less] if less else 0.0
            result = original(*args)
            parts[part] += time.perf_counter() - started
            if less:
                parts[part] -= parts[less] - inside
            return result

        setattr(owner, method, timed)

    watch(env, "step", "simulating")
    watch(agent, "collect", "acting", less="simulating")
    watch(agent, "update", "learning")
    return parts


def _peak() -> float:
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (1e6 if sys.platform == "darwin" else 1e3)


def table(points: Sequence[dict[str, float]]) -> str:
    """Return points as a table."""
    rows = [
        (
            f"{point['lanes']:,.0f}",
            f"{point['env_steps']:,.0f}",
            f"{point['seconds']:.2f}",
            f"{point['env_steps'] / point['seconds']:,.0f}",
            *(f"{point[part] / point['seconds']:.0%}" if part in point else "" for part in PARTS),
            f"{point['megabytes']:,.0f}",
        )
        for point in points
    ]
    return plain_table(("lanes", "env steps", "s", "steps/s", *PARTS, "MB"), rows)


def draw(found: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Draw env steps per second and memory against the number of lanes or tasks."""
    from matplotlib.figure import Figure

    figure = Figure((10, 4), layout="constrained")
    speed, memory = figure.subplots(1, 2)
    for case, points in found.items():
        lanes = [point["lanes"] for point in points]
        rates = [point["env_steps"] / point["seconds"] for point in points]
        speed.plot(lanes, rates, "o-", label=case)
        memory.plot(lanes, [max(point["megabytes"], 1.0) for point in points], "o-", label=case)
    ends = [min(lanes), max(lanes)]
    memory.plot(ends, [end / 8 for end in ends], ":", color="gray", label="in proportion")
    speed.set(ylabel="env steps per second", yscale="log", ylim=(1e4, 2e6), title="Speed")
    memory.set(ylabel="memory (MB)", yscale="log", title="Memory of an iteration or evaluation")
    for axes in (speed, memory):
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(LANES), [f"{count:,}" for count in LANES])
        axes.set_xlabel("lanes (environments side by side), or tasks evaluated")
        axes.grid(alpha=0.3)
    memory.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
    else:
        tyro.cli(main)
