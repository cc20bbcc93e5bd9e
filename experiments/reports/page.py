"""A page that shows how agents adapt: one HTML file, without network, readable without scripts.

Charts are drawn twice from one specification: as pictures when the page is written, which is what
a reader without scripts, a printer and a phone's preview get, and by Vega in the browser, where
agents can be hidden and values read off. Vega was chosen of the libraries made for this as it is
the smallest that does both (0.9 MB of script; Bokeh 1.5 MB, Plotly 4.6 MB, neither of which draws
without a browser).
"""

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from metarl import Report
from metarl.errors import InvalidValueError, MissingPackageError, printable
from metarl.evaluation.comparison import describe_ends, ends_table
from metarl.evaluation.tables import as_html
from metarl.experiments.reports.charts import (
    Result,
    Spec,
    by_label,
    gains,
    over_episodes,
    over_parameter,
    over_training,
    profiles,
    trained_ranges,
)
from metarl.experiments.reports.page_parts import SCRIPT, STYLE
from metarl.files import atomic_write
from metarl.parameters import Parameter


@dataclass(frozen=True)
class Picture:
    """A picture on a page.

    Attributes:
        data: PNG or GIF.
        caption: What it shows, for all readers.
    """

    data: bytes
    caption: str


@dataclass(frozen=True)
class Page:
    """The content of a page.

    Attributes:
        title: Its heading.
        results: The evaluations; those of one split stand on one axis.
        question: What was asked, in a sentence.
        answer: What the results say: paragraphs, with names in backquotes. The first stands
            above the charts, the others are folded.
        caveats: The limitations, a sentence each.
        pictures: Frames of first and last episodes.
        trained: For each family its tasks' parameters, as in training.
    """

    title: str
    results: Sequence[Result]
    question: str = ""
    answer: str = ""
    caveats: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    trained: Mapping[str, Mapping[str, Parameter]] = field(default_factory=dict)


def write_page(path: str | Path, page: Page) -> None:
    """Write a page as one HTML file.

    Args:
        path: Where.
        page: Its content.

    Raises:
        MissingPackageError: If the library that draws is not installed.
        ValueError: If there are no results.
    """
    try:
        import vl_convert
    except ImportError:
        raise MissingPackageError(
            "drawing pages needs vl-convert-python, which is not installed; install it with: "
            "pip install 'metarl-suite[report]'"
        ) from None
    if not page.results:
        raise InvalidValueError("a page needs at least one result, got none")
    # The library ends the process at a control character.
    page = replace(page, results=[replace(r, label=printable(r.label)) for r in page.results])
    charts: dict[str, Spec] = {}
    splits: dict[str, list[Result]] = {}
    for result in page.results:
        splits.setdefault(result.report.split, []).append(result)
    sections = [
        _split_section(f"split-{index}", split, results, page, charts, vl_convert)
        for index, (split, results) in enumerate(splits.items())
    ]
    labels = list(by_label(page.results))
    notes = dict.fromkeys(note for result in page.results for note in result.report.all_notes())
    count = len(page.results)
    body = [
        f"<header><h1>{_text(page.title)}</h1>",
        *([f"<p class=question>{_text(page.question)}</p>"] if page.question else []),
        _answer(page.answer),
        "</header><main>",
        _controls(labels, list(splits)),
        *sections,
        _learning(page.results, charts, vl_convert),
        _pictures(page.pictures),
        _settings(page.results),
        _list("Limitations", [*page.caveats, *notes, *_general_caveats(page.results)]),
        "</main>",
        f"<footer><p>Made by metarl from {count} evaluation{'s' * (count > 1)}.</p></footer>",
    ]
    # `</script` or `<!--<script` in a name would change where the script element ends.
    specs = json.dumps(charts, separators=(",", ":")).replace("<", "\\u003c")
    bundle = vl_convert.javascript_bundle(None)  # type: ignore[arg-type]  # its stub is stricter
    library = bundle.replace("</script", "<\\/script")
    text = "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<link rel="icon" href="data:,">',
            f"<title>{_text(page.title)}</title><style>{STYLE}</style></head><body>",
            *body,
            f'<script type="application/json" id="charts">{specs}</script>',
            f'<script type="module">{library}\n{SCRIPT}</script>',
            "</body></html>\n",
        ]
    )
    atomic_write(path, text)


def _answer(text: str) -> str:
    """Return the first paragraph, and the others folded: the charts come first."""
    lead, _, details = text.strip().partition("\n\n")
    shown = f"<p>{_marked(lead)}</p>" if lead else ""
    if details:
        paragraphs = "".join(f"<p>{_marked(part)}</p>" for part in details.split("\n\n"))
        shown += f"<details><summary>In detail</summary>{paragraphs}</details>"
    return shown


def _split_section(
    identifier: str,
    split: str,
    results: Sequence[Result],
    page: Page,
    charts: dict[str, Spec],
    vl_convert: Any,
) -> str:
    """Return what is shown of one split; its charts are added to ``charts``."""
    first = results[0].report

    def figure(name: str, spec: Spec, caption: str) -> str:
        return _figure(f"{identifier}-{name}", spec, caption, charts, vl_convert)

    title = ", ".join(dict.fromkeys((first.family, split)))  # a study may name both alike
    parts = [
        f'<section id="{identifier}" class=split aria-labelledby="{identifier}-title">',
        f'<h2 id="{identifier}-title">{_text(title)}</h2>',
        f"<p>{first.describe_tasks()}, the same for all agents.</p>",
        figure(
            "episodes",
            over_episodes(results),
            "Higher is better, and a rising line is an agent that learns in the task: the "
            "return of the next episode, after so many episodes of experience. Bands are 95% "
            "intervals: over tasks for one seed, over seeds and tasks for three and more. Two "
            "seeds are thin lines.",
        ),
    ]
    distributions = page.trained.get(first.family, {})
    for parameter in _scalars(first):
        distribution, column = distributions.get(parameter), first.tasks.columns[parameter]
        trained = trained_ranges(distribution, column.min(), column.max()) if distribution else []
        shaded = " The values of training are shaded." if trained else ""
        parts.append(
            figure(
                f"parameter-{len(parts)}",
                over_parameter(results, parameter, trained),
                f"Where agents are good: return against the task's {parameter}, before experience "
                f"(faint) and after it.{shaded}",
            )
        )
    if any(result.report.rounds.shape[1] > 1 for result in results):
        parts.append(
            figure(
                "gains",
                gains(results),
                "Who gains and who loses: last minus first episode, task by task, sorted. Above "
                "zero the agent has become better in the task.",
            )
        )
    parts.append(
        figure(
            "profiles",
            profiles(results),
            "The distribution of returns at the end: the share of tasks and seeds that earn more "
            "than the value below. A line further up and to the right is better. Where two cross, "
            "it depends on the task which agent is ahead. Bands are 95% intervals.",
        )
    )
    parts += [_numbers(results, title), "</section>"]
    return "\n".join(parts)


def _figure(key: str, spec: Spec, caption: str, charts: dict[str, Spec], vl_convert: Any) -> str:
    """Return a chart as a figure, and add it to ``charts``."""
    charts[key] = spec
    drawn = _own_names(vl_convert.vegalite_to_svg(json.dumps(spec)), key)
    return (
        f'<figure><figcaption id="{key}-caption">{_text(caption)}</figcaption>'
        f'<div class=chart id="{key}" role="img" aria-labelledby="{key}-caption" tabindex="0">'
        f"{drawn}</div></figure>"
    )


def _learning(results: Sequence[Result], charts: dict[str, Spec], vl_convert: Any) -> str:
    """Return how fast agents learned, as far as they were evaluated during training."""
    once = {(each.label, each.seed): each for each in results if each.learning}
    if not once:
        return ""
    caption = (
        "Sample efficiency: the return of the last adaptation episode on validation tasks, against "
        "the env steps of training. A line is a seed."
    )
    chart = _figure("learning", over_training(list(once.values())), caption, charts, vl_convert)
    return f"<section><h2>How fast they learned</h2>{chart}</section>"


def _own_names(svg: str, key: str) -> str:
    """Return a drawing whose parts have names of its own: the library numbers all that it draws."""
    names = dict.fromkeys(re.findall(r'id="(clip\d+)"', svg))
    for index, name in enumerate(names):
        svg = re.sub(rf"\b{name}\b", f"{key}-part{index}", svg)
    return svg


def _scalars(report: Report) -> list[str]:
    """Return the parameters that are single numbers and differ from task to task."""
    return [
        name
        for name, column in report.tasks.columns.items()
        if column.ndim == 1 and column.dtype.kind in "if" and column.min() < column.max()
    ]


def _numbers(results: Sequence[Result], title: str) -> str:
    """Return how agents begin and end as a table, every seed in a row."""
    table = ends_table((result.label, result.seed, result.report) for result in results)
    return (
        "<details><summary>The numbers</summary><div class=scroll tabindex=0 role=region "
        f'aria-label="The numbers of {_text(title)}">'
        f"{as_html(table, describe_ends(results[0].report))}</div></details>"
    )


def _controls(labels: Sequence[str], splits: Sequence[str]) -> str:
    """Return the controls, which scripts make visible; none where there is nothing to choose."""
    if len(labels) == len(splits) == 1:
        return ""
    boxes = "".join(
        f'<label><input type="checkbox" name="agent" value="{_text(label)}" checked> '
        f"{_text(label)}</label>"
        for label in labels
    )
    choices = "".join(
        f'<option value="split-{index}">{_text(split)}</option>'
        for index, split in enumerate(splits)
    )
    select = (
        '<label>tasks <select id="split"><option value="">all</option>' + choices + "</select>"
        "</label>"
        if len(splits) > 1
        else ""
    )
    return (
        '<form id="controls" class=controls hidden aria-label="What is shown">'
        f"<fieldset><legend>agents</legend>{boxes}</fieldset>{select}</form>"
    )


def _pictures(pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    figures = []
    for picture in pictures:
        kind = "gif" if picture.data.startswith(b"GIF") else "png"
        data = base64.b64encode(picture.data).decode()
        figures.append(
            f'<figure><img alt="{_text(picture.caption)}" src="data:image/{kind};base64,{data}">'
            f"<figcaption>{_text(picture.caption)}</figcaption></figure>"
        )
    return f"<section><h2>First and last episode</h2>{''.join(figures)}</section>"


_SHOWN_SETTINGS = ("command", "seed", "total_timesteps", "tasks", "view", "git_commit")


def _settings(results: Sequence[Result]) -> str:
    """Return how each agent was trained."""
    parts = []
    listed: set[str] = set()
    for result in results:
        key = f"{result.label}, seed {result.seed}"
        if key in listed or not result.config:
            continue
        listed.add(key)
        config = result.config
        entries = [(name, config[name]) for name in _SHOWN_SETTINGS if config.get(name) is not None]
        for name in ("hyperparameters", "versions"):
            if config.get(name):
                entries.append((name, json.dumps(config[name], ensure_ascii=False)))
        terms = "".join(
            f"<dt>{_text(name.replace('_', ' '))}</dt><dd><code>{_text(str(value))}</code></dd>"
            for name, value in entries
        )
        parts.append(f"<details><summary>{_text(key)}</summary><dl>{terms}</dl></details>")
    return f"<section><h2>How they were trained</h2>{''.join(parts)}</section>" if parts else ""


def _general_caveats(results: Sequence[Result]) -> list[str]:
    most = max(len({each.seed for each in found}) for found in by_label(results).values())
    seeds = "One seed of training each" if most == 1 else f"At most {most} seeds of training each"
    return [f"{seeds}: too few to estimate the variation between trainings."] if most < 5 else []


def _list(title: str, sentences: Sequence[str]) -> str:
    if not sentences:
        return ""
    items = "".join(f"<li>{_text(sentence)}</li>" for sentence in sentences)
    return f"<section><h2>{_text(title)}</h2><ul>{items}</ul></section>"


def _marked(paragraph: str) -> str:
    """Return a paragraph as HTML: what stands in backquotes is code, and links are their text."""
    text = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", " ".join(paragraph.split()))
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(text))


def _text(text: str) -> str:
    """Return untrusted text as escaped HTML."""
    return html.escape(printable(text), quote=True)
