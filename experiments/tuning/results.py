"""The results of a search: a table, the best preset as code, and as a command line."""

import json
import shlex
from collections.abc import Mapping
from glob import escape
from typing import TYPE_CHECKING, Any

from metarl.errors import InvalidValueError
from metarl.evaluation.tables import number, plain_table
from metarl.experiments.cli.overrides import view_arguments
from metarl.experiments.tuning.settings import Settings
from metarl.experiments.tuning.space import values_at
from metarl.experiments.tuning.storage import reading
from metarl.views import label

if TYPE_CHECKING:
    import optuna

MOST_SHOWN = 4
"""Trials beside the preset in the table."""


def trial_line(trial: "optuna.trial.FrozenTrial", settings: Settings) -> str:
    """Return one line about how a trial ended."""
    ended = "cut short"
    if trial.state.name == "COMPLETE":
        ended = number(trial.values[0])
    elif "diverged" in trial.user_attrs:
        ended = "diverged"
    elif trial.state.name == "PRUNED":
        rung, score = max(trial.intermediate_values.items())
        ended = f"{number(score)} at rung {rung}, pruned"
    if trial.user_attrs.get("preset"):
        return f"trial {trial.number}: {ended}; the preset"
    if "hyperparameters" not in trial.user_attrs:  # it was killed before they were stored
        return f"trial {trial.number}: {ended}"
    at_preset = values_at(settings.agent, settings.preset.hyperparameters)
    found = values_at(settings.agent, trial.user_attrs["hyperparameters"])
    changes = [f"{name}={v!r}" for name, v in found.items() if v != at_preset[name]]
    return f"trial {trial.number}: {ended}; {', '.join(changes)}"


def results(study: "optuna.Study", settings: Settings) -> str:
    """Return the best trials next to the preset, and the best one as code and as a command.

    A preset in code is of use only for a family that is part of metarl.

    Args:
        study: The trials.
        settings: The settings of the search.

    Raises:
        ValueError: If no trial is complete, or the journal is damaged.
    """
    with reading(settings.journal):
        trials = study.get_trials(deepcopy=False)
        complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
        complete.sort(key=lambda trial: -trial.values[0])  # stable: the first of equals wins
        if complete:
            num_pruned = sum(trial.state.name == "PRUNED" for trial in trials)
            return _in_words(complete, num_pruned, settings)
    raise InvalidValueError(
        f"none of the {len(trials)} trials in {str(settings.journal)!r} is complete; give the "
        "search more --minutes, or its trainings fewer --total-timesteps"
    )


def _in_words(
    complete: "list[optuna.trial.FrozenTrial]", num_pruned: int, settings: Settings
) -> str:
    best = complete[0]
    preset = [trial for trial in complete if trial.user_attrs.get("preset")][:1]
    beside = f"{number(preset[0].values[0])} with the preset" if preset else "no complete preset"
    others = [trial for trial in complete if trial not in preset][:MOST_SHOWN]
    found: dict[str, Any] = best.user_attrs["hyperparameters"]
    as_preset = ["\nas a preset, for the presets.py of the agent:\n", preset_code(settings, found)]
    if not settings.tasks().built_in:  # patterns are of the families of metarl only
        as_preset = []
    return "\n".join(
        [
            f"\n{settings.agent} on {label(settings.family, settings.view)}: "
            f"{len(complete)} trials complete, {num_pruned} pruned or diverged",
            _table([*preset, *others], settings.agent),
            f"\nbest: trial {best.number}, {number(best.values[0])}, against {beside}; all trained "
            f"with the seed {settings.seed},\nand the best of many is partly luck: confirm it with "
            "other seeds",
            *as_preset,
            "\nas a command:\n",
            train_command(settings, found),
        ]
    )


def _table(trials: "list[optuna.trial.FrozenTrial]", agent: str) -> str:
    columns = [values_at(agent, trial.user_attrs["hyperparameters"]) for trial in trials]
    rows = [
        ("score", *(number(trial.values[0]) for trial in trials)),
        ("± standard error", *(number(trial.user_attrs["standard error"]) for trial in trials)),
        *((name, *(repr(column[name]) for column in columns)) for name in columns[0]),
    ]
    headings = [
        "preset" if trial.user_attrs.get("preset") else f"trial {trial.number}" for trial in trials
    ]
    return plain_table(("", *headings), rows, left=1)


def preset_code(settings: Settings, hyperparameters: Mapping[str, Any]) -> str:
    """Return a preset as Python code, with the evaluation settings of the present preset.

    Args:
        settings: The settings of the search.
        hyperparameters: Its hyperparameters, from JSON.
    """
    name = f"{settings.agent!r}, {escape(settings.family)!r}"
    evaluation = f"num_eval_tasks={settings.preset.num_eval_tasks}"
    if settings.preset.num_eval_episodes is not None:
        evaluation += f", num_eval_episodes={settings.preset.num_eval_episodes}"
    lines = [f"Preset({name}, {settings.env_steps:_}, {{"]
    lines += [f"    {name!r}: {v!r}," for name, v in hyperparameters.items()]
    return "\n".join([*lines, f"}}, {evaluation})"])


def train_command(settings: Settings, hyperparameters: Mapping[str, Any]) -> str:
    """Return the command line that trains with hyperparameters, from JSON, as a trial did."""
    words = ["metarl", "train", settings.agent, settings.family, *view_arguments(settings.view)]
    words += ["--total-timesteps", str(settings.env_steps)]
    words += ["--seed", str(settings.seed)] if settings.seed else []
    preset = json.loads(json.dumps(dict(settings.preset.hyperparameters)))
    for name, value in hyperparameters.items():
        if name not in preset or preset[name] != value:
            words += ["--set", f"{name}={json.dumps(value)}"]
    return shlex.join(words)
