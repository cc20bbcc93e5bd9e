"""The results of a study: a page with tables and figures, made from the records alone."""

import io
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter

from metarl import Report, envs
from metarl.evaluation.comparison import curve_over_seeds, describe_ends, ends_table
from metarl.evaluation.curves import EXPERIENCE, shown_range
from metarl.evaluation.plotting import COLORS, STYLES, draw_curve, show_experience, styles_of
from metarl.evaluation.tables import Cell, Table, as_markdown, number
from metarl.experiments.cli.overrides import has_earlier_preset
from metarl.experiments.reports.charts import trained_ranges
from metarl.experiments.runs.records import load_training, steps_in_words
from metarl.experiments.studies.jobs import (
    EvaluationJob,
    Places,
    command_of,
    command_to_continue,
    jobs_of,
    load_reports,
)
from metarl.experiments.studies.quantities import with_quantities
from metarl.experiments.studies.study import EvalSpec, Learner, Study
from metarl.files import atomic_write
from metarl.splits import Independent

Reports = Mapping[Learner, Sequence[tuple[int, Report]]]

_WRAPPER = textwrap.TextWrapper(100, break_long_words=False, break_on_hyphens=False)


def write_results(study: Study, places: Places) -> list[Path]:
    """Write a study's page and its figures, from the existing records.

    Returns:
        The written files, the page first.
    """
    page = places.pages / f"{study.name}.md"
    figures: list[Path] = []
    for evaluation, reports in _known(study, places):
        drawn = [figure_over_episodes(evaluation, reports)]
        drawn += [figure_over_values(evaluation, name, reports) for name in evaluation.values]
        if study.axis:
            drawn.append(figure_over_learners(evaluation, study.axis, reports))
        names = _figures(study, evaluation)
        figures += [_save(figure, page.with_name(name)) for figure, name in zip(drawn, names)]
    atomic_write(page, page_text(study, places))
    return [page, *figures]


def page_text(study: Study, places: Places) -> str:
    """Return a study's page as Markdown, from the existing records.

    Raises:
        ValueError: If the records contradict what its text claims.
    """
    sections = [
        _section(evaluation, reports, _figures(study, evaluation))
        for evaluation, reports in _known(study, places)
    ]
    return _page(with_quantities(study, places), sections, places)


def _known(study: Study, places: Places) -> Iterator[tuple[EvalSpec, Reports]]:
    """Yield the evaluations that have results."""
    for evaluation in study.evaluations:
        found = load_reports(study, evaluation, places)
        if reports := {learner: each for learner, each in found.items() if each}:
            yield evaluation, reports


def _figures(study: Study, evaluation: EvalSpec) -> list[str]:
    """Return the names of an evaluation's figures."""
    kinds = [
        "episodes",
        *evaluation.values,
        *([study.axis.replace(" ", "_")] if study.axis else []),
    ]
    return [f"{study.name}-{evaluation.name}-{kind}.png" for kind in kinds]


def _page(study: Study, sections: Sequence[str], places: Places) -> str:
    trainings, outdated = [], False
    command = command_to_continue(study, places)
    jobs = jobs_of(study, places)
    evaluations = [job for job in jobs if isinstance(job, EvaluationJob)]
    used = {other.key for job in evaluations if job.done for other in job.needs}
    for job in jobs:
        if isinstance(job, EvaluationJob):
            continue
        if job.record.is_file():
            record = load_training(job.record)
            minutes = f"{record['training_seconds'] / 60:.1f} min"
            steps = steps_in_words(record)
            if job.training.data is not None:
                steps += f" on {job.training.data.num_tasks:,} histories"
            if taught := record["config"].get("teacher"):
                steps += f", teacher {taught['env_steps'] / 1e6:.1f}M"
            commit = (record["config"]["git_commit"] or "")[:9]
            if earlier := has_earlier_preset(record["config"]):
                commit += ", earlier preset"
            outdated |= earlier
            cells = (f"`{command_of(job.training)}`", steps, minutes, commit)
        elif job.key in used:
            cells = (f"`{command_of(job.training)}`", "", "agent not kept", "")
        else:
            continue
        trainings.append(f"| {' | '.join(cells)} |")
    caveats = list(study.caveats)
    if outdated:
        caveats.append(
            "Trainings marked *earlier preset* had other hyperparameters than their commands use "
            "today ([the effect](runs.md))."
        )
    lead, *details = _paragraphs(f"**Answer.** {study.answer.strip()}")
    done = sum(job.done for job in evaluations)
    if done < len(evaluations):
        caveats.append(
            f"Unfinished: {done} of {len(evaluations)} evaluations are done; `{command} --dry-run` "
            "lists what is missing."
        )
    return "\n".join(
        [
            f"# {study.title or study.name}",
            "",
            f"**Question.** {study.question}",
            "",
            *([lead] if study.answer else []),
            *sections,
            *(["## In detail", "", *details] if details else []),
            "## Limitations",
            "",
            *(f"- {caveat}" for caveat in caveats),
            "- Seeds are rows of their own, with intervals over tasks. Lines in figures are means "
            "over seeds, and bands their 95% intervals, over seeds and tasks. Of two seeds, whose "
            "band would hide all lines, each is a thin line.",
            "",
            "## Commands",
            "",
            f"`{command}` runs what is missing and writes this page; `{command} --dry-run` "
            f"estimates the time. The raw returns are in `{places.results / study.name}/`, the "
            f"trained agents in `{places.trained}/`. The trainings, on one core each:",
            "",
            "| command | env steps | time | commit |",
            "|---|---|---|---|",
            *trainings,
            "",
        ]
    )


def _paragraphs(text: str) -> list[str]:
    """Return paragraphs in lines of one width, each with an empty line after it."""
    return [f"{_WRAPPER.fill(each)}\n" for each in text.split("\n\n")]


def _section(evaluation: EvalSpec, reports: Reports, figures: Sequence[str]) -> str:
    first = next(iter(reports.values()))[0][1]
    where = f"`{evaluation.family}`: {first.describe_tasks()}"
    if evaluation.values:
        grids = (
            f"{name} from {min(values):g} to {max(values):g}, {evaluation.num_tasks} tasks each"
            for name, values in evaluation.values.items()
        )
        where = f"{where}; {'; '.join(grids)}"
    if known := evaluation.overlap(envs.make(evaluation.family)):
        where = f"{where}. Note: {known}"
    lines = [f"## {evaluation.name}", "", f"{where}.", ""]
    for figure in figures:
        what = Path(figure).stem.rpartition("-")[2].replace("_", " ")
        lines += [f"![Return against {what}, for each learner]({figure})", ""]
    for name in evaluation.groups or ("all",):
        if evaluation.groups:
            lines += [f"**{name}**", ""]
        lines += [as_markdown(_table(evaluation, name, reports)), ""]
    lines += [describe_ends(first), ""]
    return "\n".join(lines)


def _table(evaluation: EvalSpec, group: str, reports: Reports) -> Table:
    """Return a table of one group of tasks, each learner and seed in a row."""
    table = ends_table(
        (
            (learner.label, seed, evaluation.part(report, group))
            for learner, found in reports.items()
            for seed, report in found
        ),
        "learner",
    )
    published: list[tuple[Cell, ...]] = []
    for label, figures in evaluation.published.items():
        cells = [number(figures[min(i, len(figures) - 1)]) for i in (0, 1, -1)]
        published.append((f"{label}, published", None, *cells, None, None))
    return replace(table, rows=(*table.rows, *published))


def figure_over_episodes(evaluation: EvalSpec, reports: Reports) -> Figure:
    """Draw return against episodes of experience: all learners, one panel for each group of tasks.

    A line is the mean over seeds; the band is its interval, over seeds and tasks where there are
    several seeds. Of two seeds, each is a thin line instead.
    """
    groups = evaluation.groups or ("all",)
    figure, panels = _panels(len(groups))
    styles, faint = _styles(reports), _faint(reports)
    for axes, name in zip(panels, groups):
        curves = []
        for learner, found in reports.items():
            parts = [evaluation.part(report, name) for _, report in found]
            curve = curve_over_seeds(parts)
            curves.append(curve)
            style = styles[learner]
            draw_curve(axes, learner.label, curve, faint=faint, **style)
            if learner.label in evaluation.published:
                level = evaluation.published[learner.label]
                per_round = parts[0].episodes_per_adaptation
                places = [max(0.5, index * per_round) for index in range(len(level))]
                label = f"{learner.label}, published"
                style = {**style, "linestyle": ":", "drawstyle": "steps-post"}
                axes.plot(places, level, label=label, marker="x", **style)
        show_experience(axes, curves)
        lowest, highest = shown_range(curves)
        levels = [level for figures in evaluation.published.values() for level in figures]
        axes.set_ylim(min([lowest, *levels]), max([highest, *levels]))
        title = evaluation.name if not evaluation.groups else f"{evaluation.name}: {name}"
        axes.set_title(title, loc="left", fontsize="medium")
        axes.set_ylabel("return of the next episode")
        _tidy(axes)
    panels[-1].set_xlabel(EXPERIENCE)
    _add_legend(figure, panels[0])
    return figure


def figure_over_values(evaluation: EvalSpec, parameter: str, reports: Reports) -> Figure:
    """Draw return against a parameter's value: the first round of episodes, and the last.

    A line is the mean over seeds and tasks; the range of training is shaded.
    """
    figure, panels = _panels(2)
    panels[1].sharey(panels[0])
    styles, faint = _styles(reports), _faint(reports)
    distribution = envs.make(evaluation.family).sampler("train")
    values = sorted(evaluation.values[parameter])
    own = distribution.parameters[parameter] if isinstance(distribution, Independent) else None
    trained = trained_ranges(own, values[0], values[-1]) if own else []
    for axes, title, end in zip(panels, ("without experience", "at the end"), (0, -1)):
        for low, high in trained:  # the legend has the first: it leaves out labels with a "_"
            label = "training" if (low, high) == trained[0] else "_"
            axes.axvspan(low, high, color="#999999", alpha=0.15, lw=0, label=label)
        for learner, found in reports.items():
            lines = []
            for _, report in found:
                means = report.rounds[:, end]
                column = report.tasks.columns[parameter]
                lines.append([means[np.isclose(column, value)].mean() for value in values])
            style = dict(styles[learner])
            axes.plot(values, np.mean(lines, axis=0), label=learner.label, **style)
            if len(lines) > 1:
                ends = np.min(lines, axis=0), np.max(lines, axis=0)
                axes.fill_between(values, *ends, color=style["color"], alpha=faint, linewidth=0)
        axes.set_title(f"{evaluation.name}, {title}", loc="left", fontsize="medium")
        axes.set_ylabel("return of an episode (mean)")
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        _tidy(axes)
    panels[-1].set_xlabel(parameter)
    _add_legend(figure, panels[0])
    return figure


def figure_over_learners(evaluation: EvalSpec, axis: str, reports: Reports) -> Figure:
    """Draw the first and the last episode against the number that the learners differ in.

    Dots are seeds, with their intervals over tasks; lines are the means over seeds.
    """
    figure, (axes,) = _panels(1)
    places = np.arange(len(reports))
    for index, (label, end) in enumerate((("first episode", 0), ("last episode", 1))):
        ends = [[part.ends()[end] for _, part in found] for found in reports.values()]
        means = [np.mean([estimate.value for estimate in found]) for found in ends]
        axes.plot(places, means, label=label, color=COLORS[index], linestyle=STYLES[index])
        for place, found in zip(places, ends):
            for value, low, high in map(astuple, found):
                arms = [[value - low], [high - value]] if low == low else None
                axes.errorbar(place, value, arms, fmt="o", markersize=4, color=COLORS[index])
    axes.set_xticks(places, [learner.label.split()[0] for learner in reports])
    axes.set(xlabel=axis, ylabel="return of an episode on new tasks")
    axes.set_title(evaluation.name, loc="left", fontsize="medium")
    _tidy(axes)
    _add_legend(figure, axes)
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels, one below the other: a phone shows it half as wide."""
    figure = Figure(figsize=(5.6, 3.2 * count), layout="constrained")
    return figure, list(figure.subplots(count, squeeze=False)[:, 0])


def _add_legend(figure: Figure, axes: Axes) -> None:
    """Put the names of the lines below the panels."""
    lines, names = axes.get_legend_handles_labels()
    figure.set_figheight(figure.get_figheight() + 0.22 * math.ceil(len(names) / 2))
    figure.legend(lines, names, loc="outside lower center", ncols=2, frameon=False)


def _styles(reports: Reports) -> dict[Learner, dict[str, Any]]:
    return {
        learner: {"color": color, "linestyle": STYLES[style % len(STYLES)]}
        for learner, (color, style) in zip(reports, styles_of(each.label for each in reports))
    }


def _faint(reports: Reports) -> float:
    """Return the opacity of overlapping bands."""
    return min(0.12, 0.8 / len(reports))


def _tidy(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> Path:
    buffer = io.BytesIO()
    # Without the software's version the same records give the same bytes.
    figure.savefig(buffer, dpi=110, metadata={"Software": None})
    atomic_write(path, buffer.getvalue())
    return path
