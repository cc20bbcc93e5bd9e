"""Publish runs: raw returns and agents under ``experiments/results/``, tables on pages.

Run: ``python -m metarl.experiments.publish.runs RUN ...``; without runs it only renews the tables
(a few runs in the README, all of them in ``docs/results/runs.md``, all figures of papers in
``published.md``) and the index, which ``metarl list`` reads.
"""

import difflib
import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
import tyro

from metarl import Report, envs, play
from metarl.agents import reference
from metarl.agents.training.checkpoint import load_checkpoint
from metarl.entries import OBJECT, check_entries
from metarl.errors import InvalidValueError, found_in
from metarl.evaluation.archive import SUFFIX, TASKS, read_archive, write_archive
from metarl.evaluation.tables import Cell, Table, as_markdown, number
from metarl.experiments.cli.overrides import has_earlier_preset, overrides_in
from metarl.experiments.publish.index import INDEX, Published, as_lines, index_of, read_index
from metarl.experiments.publish.published_table import is_of, published_table
from metarl.experiments.runs.loading import load_agent
from metarl.experiments.runs.records import load_training, steps_in_words
from metarl.experiments.runs.run import Run
from metarl.files import atomic_write, check_no_link
from metarl.views import View, slug

RESULTS = Path("experiments/results/runs")
INSTALLED = Path(__file__).parents[1] / "results" / "runs"
"""What comes with metarl: all runs in a checkout; in the wheel those that README and docs name."""
UNPACKED = Path("runs/published")
"""Where published runs are unpacked: beside the runs that are trained, never among them."""
PAGES = (
    Path("README.md"),
    Path("docs/results/runs.md"),
    Path("docs/results/published.md"),
)

# A task of more numbers than this, as the tables of an MDP, is left out of a record, which would be
# little else: the split and the seed draw it again.
_LARGEST_TASK = 100

KNOWN_GOAL = "goal known"
"""A reference that is played on the tasks of the row: straight to the goal."""
# The rows of the README: agent, family, what the agent must find out, reference; without one it is
# the oracle, and the policy without memory.
HIGHLIGHTS = (
    ("rl2", "gridnavi", "where the goal is", KNOWN_GOAL),
    ("rl2", "glyphs-5way", "five characters, never seen before", f"{number(1 / 5)}, guessing"),
    ("rl2", "games-7x7", "the rules of a game", ""),
    ("rl2", "navigation-sparse", "where the goal is", KNOWN_GOAL),
    ("rl2", "half-cheetah-climb", "which way is up", ""),
    ("rl2", "half-cheetah-slope", "the slope", ""),
    ("maml", "my_tasks:tasks", "the example below", "50, the longest episode"),
)


def publish(run: Run, path: Path | None = None) -> Path:
    """Copy the results of a complete run: configuration, training time, raw returns, the agent.

    Args:
        run: The run.
        path: Where to write the record; the agent is written beside it. None takes
            ``AGENT-TASKS-seedN.json`` in the folder of results, ``AGENT-TASKS-started-seedN.json``
            for a run that started from another agent, ``-taught`` likewise with a teacher.

    Returns:
        Where the record is.

    Raises:
        ValueError: If the run is not complete, or damaged.
    """
    evaluation = run.evaluation / f"held_out{SUFFIX}"
    if not run.agent.exists() or not evaluation.exists():
        raise InvalidValueError(
            f"{str(run.directory)!r} is not complete: finish it with metarl resume"
        )
    header, arrays = read_archive(evaluation)
    with found_in(f"{str(evaluation)!r} is not a report"):  # damaged evaluations are not published
        report = Report.from_archive(header, arrays)
    rows = run.progress()
    try:
        steps = int(rows[-1]["time/total_timesteps"])
        seconds = sum(float(row["time/seconds"]) for row in rows)
    except (LookupError, ValueError) as error:
        log = str(run.directory / "progress.csv")
        raise InvalidValueError(
            f"{log!r} does not say how long the training took ({error}); restore an undamaged one"
        ) from None
    learner = load_agent(run)
    record = {
        "config": run.config,
        learner.unit.replace(" ", "_"): steps,
        "training_seconds": round(seconds, 1),
        "report": header,
    }
    if sum(column[0].size for column in report.tasks.columns.values()) > _LARGEST_TASK:
        arrays = {name: array for name, array in arrays.items() if not name.startswith(TASKS)}
    if path is None:
        started = "-started" if run.config.get("start") else ""
        started += "-taught" if run.config.get("teacher") else ""
        family = slug(run.config["tasks"], run.config.get("view", {}))
        name = f"{run.config['agent']}-{family}{started}-seed{run.config['seed']}"
        path = RESULTS / f"{name.replace(':', '-')}{SUFFIX}"
    learner.save(path.with_suffix(".safetensors"), with_optimizers=False)
    write_archive(path, record, arrays, compact=True)
    return path


def published_agents() -> list[str]:
    """Return the names of the published runs whose agents are here."""
    agents = (path for folder in (RESULTS, INSTALLED) for path in folder.glob("*.safetensors"))
    return sorted({path.stem for path in agents if path.with_suffix(SUFFIX).is_file()})


def open_run(name: str | Path) -> Run:
    """Open a run directory, or a published run by its name.

    An existing path is a run directory; any other name without slashes is a published run. It is
    first unpacked to ``runs/published/NAME``, where its further evaluations are kept.

    Args:
        name: A run directory; or a published run, as ``rl2-gridnavi-seed0``.

    Raises:
        FileNotFoundError: If it is neither, or the agent of the published run was not kept.
        ValueError: If the run's configuration or the published record is damaged.
    """
    if Path(name).exists():
        return Run.open(name)
    records = (folder / f"{Path(name).name}{SUFFIX}" for folder in (RESULTS, INSTALLED))
    record = next((path for path in records if path.is_file()), None)
    if record is None:
        if any(each.name == str(name) and each.where for each in read_index()):
            raise FileNotFoundError(
                f"the published agent {str(name)!r} is in the repository and not in the wheel; "
                "work in a clone, or take another: metarl list agents"
            )
        if close := difflib.get_close_matches(str(name), published_agents(), n=1, cutoff=0.8):
            raise FileNotFoundError(
                f"{str(name)!r} is neither a run directory nor a published run; "
                f"did you mean {close[0]!r}? metarl list agents shows all"
            )
        return Run.open(name)
    if Path(name).name != str(name):
        raise FileNotFoundError(
            f"there is no run directory {str(name)!r}; the published run is {record.stem!r}"
        )
    published = load_training(record)
    config, agent = published["config"], record.with_suffix(".safetensors")
    if not agent.is_file():
        there = published.get("agent_in_history")
        way = f"git show {shlex.quote(there)} has it, for the code of then; or " if there else ""
        raise FileNotFoundError(
            f"the agent of the published run {record.stem!r} is not kept here: {way}train it "
            f"again with: {config['command']}"
        )
    directory = UNPACKED / record.stem
    data = agent.read_bytes()
    unpacked = directory / "agent.safetensors"
    if not unpacked.is_file():
        state = load_checkpoint(agent)[1]
        with found_in(f"{str(agent)!r} is damaged"):
            check_entries(state, {"hyperparameters": OBJECT})
        # Hyperparameters of early records had other names; the agent's file has today's.
        config["hyperparameters"] = state["hyperparameters"]
        run = Run(directory, config)
        check_no_link(directory)
        check_no_link(run.evaluation)
        atomic_write(directory / "config.json", json.dumps(config, indent=2) + "\n")
        header, arrays = read_archive(record)
        write_archive(run.evaluation / f"held_out{SUFFIX}", header["report"], arrays)
        atomic_write(unpacked, data)
    elif unpacked.read_bytes() != data:
        raise InvalidValueError(
            f"{str(directory)!r} holds another agent than the one published as {record.stem!r}; "
            "move it away to unpack that"
        )
    return Run.open(directory)


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return results as a Markdown table, a row for each run, every seed."""
    columns = (
        *("family", "agent", "seed", "env steps", "training"),
        *("first episode", "last episode", "last minus first", "all episodes"),
    )
    rows: list[tuple[Cell, ...]] = []
    for result in results:
        config, report = result["config"], result["report"]
        cores = f", {config['threads']} threads" if config["threads"] > 1 else ""
        other = "".join(f", `{override}`" for override in overrides_in(config["command"]))
        start = f", started from `{Path(config['start']).stem}`" if config.get("start") else ""
        if taught := config.get("teacher"):
            start += (
                f", taught by `{Path(taught['agent']).stem}` ({taught['env_steps'] / 1e6:.1f}M)"
            )
        earlier = ", earlier preset" if has_earlier_preset(config) else ""
        rows.append(
            (
                report.family_label,
                report.agent,
                config["seed"],
                f"{steps_in_words(result)}{other}{start}{earlier}",
                f"{result['training_seconds'] / 60:.1f} min{cores}",
                *report.ends(),
                report.total(),
            )
        )
    return as_markdown(Table(columns, tuple(rows)))


def highlights(results: Sequence[dict[str, Any]]) -> str:
    """Return a short Markdown table: the gain from adaptation, mean over seeds."""
    columns = (
        *("family", "what an agent must find out", "agent", "seeds"),
        *("first episode", "last episode", "reference"),
    )
    rows: list[tuple[Cell, ...]] = []
    for agent, family, what, beside in HIGHLIGHTS:
        reports = _reports(results, agent, family)
        if not reports:
            continue
        first, last = _ends(reports)
        who = reports[0]
        if not beside:
            found = [
                ("oracle", _reports(results, agent, family, {"oracle": True})),
                ("multi-task", _reports(results, "multi-task", family)),
            ]
            # A baseline that is better must not be overlooked.
            beside = "; ".join(
                f"{number(_ends(each)[1])}, {name}"
                + (", **ahead**" if name == "multi-task" and _ends(each)[1] > last else "")
                for name, each in found
                if each
            )
        elif beside == KNOWN_GOAL:
            beside = f"{number(_known_goal(who))}, {KNOWN_GOAL}"
        rows.append((f"`{who.family}`", what, who.agent, len(reports), first, last, beside))
    return as_markdown(Table(columns, tuple(rows)))


def _reports(
    results: Sequence[dict[str, Any]], agent: str, family: str, view: View = MappingProxyType({})
) -> list[Report]:
    """Return the reports of the trainings from random parameters."""
    return [
        result["report"]
        for result in results
        if is_of(result["config"], agent, family, view) and not result["config"].get("start")
    ]


def _ends(reports: Sequence[Report]) -> tuple[float, float]:
    """Return the mean returns of the first and the last round of episodes."""
    first = np.mean([report.first.mean() for report in reports])
    last = np.mean([report.last.mean() for report in reports])
    return float(first), float(last)


def _known_goal(report: Report) -> float:
    """Return the mean return of walking straight to the goals of a report's tasks."""
    agent, view = reference("known-goal", envs.make(report.family))
    played = play(agent, view, report.tasks, 1, seed=report.seed)
    return float(played.returns.mean())


def main(runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()) -> None:
    """Publish runs and renew the tables of all pages.

    Args:
        runs: Run directories.
    """
    for directory in runs:
        print(publish(Run.open(directory)))
    results = load_results()
    atomic_write(RESULTS.parent / INDEX.name, as_lines(present_index(results)))
    for page in PAGES:
        if page.is_file():
            atomic_write(page, with_tables(page.read_text(), results))


def load_results() -> list[dict[str, Any]]:
    """Return the records of all published runs."""
    return [load_training(path) for path in sorted(RESULTS.glob(f"*{SUFFIX}"))]


def present_index(results: Sequence[dict[str, Any]]) -> list[Published]:
    """Return the index of the records of all published runs."""
    paths = sorted(RESULTS.glob(f"*{SUFFIX}"))
    pyproject = Path("pyproject.toml")
    return index_of(zip(paths, results), pyproject.read_text() if pyproject.is_file() else "")


def with_tables(text: str, results: Sequence[dict[str, Any]]) -> str:
    """Return a page with the present tables between its markers.

    Args:
        text: The page.
        results: The records of published runs.
    """
    makers: dict[str, Callable[[], str]] = {
        "results": lambda: table(results),
        "highlights": lambda: highlights(results),
        "published": lambda: published_table(RESULTS.parent, results),
    }
    for name, make in makers.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        if begin in text:
            before, rest = text.split(begin)
            _, after = rest.split(end)
            text = f"{before}{begin}\n{make()}\n{end}{after}"
    return text


if __name__ == "__main__":
    tyro.cli(main)
