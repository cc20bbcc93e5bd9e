"""What a training has shown, in a few lines, and what to try next."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from metarl import Report, compare
from metarl.evaluation.differences import Difference
from metarl.evaluation.tables import range_of_episodes, shown
from metarl.experiments.cli.comparing import common_reports
from metarl.experiments.cli.overrides import view_arguments
from metarl.experiments.runs.run import Run
from metarl.views import slug


def verdict(report: Report, config: Mapping[str, Any]) -> str:
    """Return whether a report shows adaptation from the first episode to the last, and what to try.

    Args:
        report: The report of an agent on held-out tasks.
        config: The configuration of its run.
    """
    rounds, groups = report.rounds.shape[1], report.groups(report.num_episodes)
    if rounds < 2:
        return "adaptation: not evaluated, as there is a single episode in each task"
    gain = report.ends().gain
    first, last = (range_of_episodes(groups[end]) for end in (0, -1))
    change = f"from episode {first} to {last} the return changes by {shown(gain)}"
    if gain.low > 0:
        return f"adaptation: shown; {change}"
    few = "" if gain.low == gain.low else ", without an interval over so few tasks"
    line = f"adaptation: not shown; {change}{few}"
    if report.view.get("oracle") or config["agent"] == "multi-task":
        return f"{line}; none is expected of this agent"
    line = f"{line}; it may be within episode {first}"
    if config.get("with_oracle"):
        return line
    options = " ".join(view_arguments({**config.get("view", {}), "oracle": True}))
    return (
        f"{line}\n"
        f"is knowing the task worth anything? metarl train multi-task {config['tasks']} {options}"
    )


def oracle_directory(run: Run) -> Path:
    """Return where the oracle of a run is: in the same folder, with the same seed."""
    family = slug(run.config["tasks"], {**run.config.get("view", {}), "oracle": True})
    return run.directory.parent / f"multi-task-{family}-seed{run.config['seed']}"


def gap_to_oracle(run: Run) -> str:
    """Return how far the agent of a run is from the oracle that was trained beside it.

    Args:
        run: A complete run, beside which an oracle was trained.
    """
    oracle = Run.open(oracle_directory(run))
    own, other = common_reports([run, oracle], "held_out")
    difference = compare([own, replace(other, agent="oracle")]).differences[0]
    return describe_gap(difference, run.config, oracle)


def describe_gap(difference: Difference, config: Mapping[str, Any], oracle: Run) -> str:
    """Return the last difference of an agent and an oracle in words, and what to try.

    Args:
        difference: The agent's return minus the oracle's.
        config: The configuration of the agent's run.
        oracle: The oracle's run.
    """
    last = len(difference.groups) - 1
    episode = range_of_episodes(difference.groups[last])
    line = (
        f"oracle, trained as long: {shown(float(difference.of_other[last]))} in episode {episode}; "
        f"the agent's return minus this is {shown(difference[last])}"
    )
    if difference.low[last] > 0:
        return (
            f"{line}\nthe agent is ahead: the oracle has not learned all that it could, and shows "
            "no limit; train longer (--total-timesteps)"
        )
    if not difference.high[last] < 0:
        return f"{line}\nno gap to close: knowing the task is worth no more than what the agent has"
    if config["agent"] != "rl2":
        return f"{line}\nto close the gap, train longer (--total-timesteps)"
    predicts = config.get("hyperparameters", {}).get("task_prediction_coef")
    predict = "" if predicts else "--set task_prediction_coef=1, or "
    return (
        f"{line}\nto close the gap, train longer (--total-timesteps), or with what training knows "
        f"of the task:\n{predict}--teacher {oracle.directory} --set teacher_share=0.5"
    )
