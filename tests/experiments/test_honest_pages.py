"""The numbers of README and docs/results, recomputed from the stored raw returns.

This file reads the archives with NumPy alone and computes each statistic in its own way: a number
that was edited by hand, or a change in how metarl computes one, makes it fail.
"""

import functools
import io
import json
import math
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from metarl.experiments.publish.papers import MAML
from metarl.experiments.studies import STUDIES, find_study
from metarl.experiments.studies.jobs import Places
from metarl.experiments.studies.results import page_text

ROOT = Path(__file__).parents[2]
RESULTS, PAGES = Path("experiments/results"), Path("docs/results")
WRITTEN = [name for name in STUDIES if (ROOT / PAGES / f"{name}.md").is_file()]
"""The studies that have been run."""

pytestmark = pytest.mark.usefixtures("results", "_at_the_root")


@pytest.fixture
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


# Reading, without metarl.


@functools.cache
def archive(path):
    """Return the header and the arrays of an archive, with the tasks that it shares."""
    with zipfile.ZipFile(path) as file:
        header = json.loads(file.read("header.json"))
        arrays = {
            name.removesuffix(".npy"): np.load(io.BytesIO(file.read(name)))
            for name in file.namelist()
            if name.endswith(".npy")
        }
    if "tasks_file" in header:
        arrays |= archive(path.parent / "tasks" / f"{header['tasks_file']}.npz")[1]
    return header, arrays


class Evaluation:
    """The raw returns of one record: by task, and by round of episodes."""

    def __init__(self, path):
        self.header, self.arrays = archive(path)
        self.report = self.header.get("report", self.header)
        self.returns = self.arrays["returns"].astype(np.float64)

    def rounds(self, rows=slice(None)):
        returns = self.returns[rows]
        return returns.reshape(len(returns), -1, self.report["episodes_per_adaptation"]).mean(
            axis=2
        )

    def statistic(self, values):
        """Return the mean, or the mean of what is left without a quarter at either end."""
        if self.report["statistic"] == "mean":
            return values.sum() / len(values)
        cut = len(values) // 4
        return np.sort(values)[cut : len(values) - cut].sum() / (len(values) - 2 * cut)

    def influence(self, values):
        """Return by how much each row moves the statistic, times the number of rows.

        Infinite where a quartile is at a gap between returns: resampled tasks lie now on one side
        of it, now on the other.
        """
        if self.report["statistic"] == "mean":
            return values - values.mean()
        many, order = len(values), np.sort(values)

        def moved(cut):
            kept = np.clip(values, order[cut], order[-cut - 1])  # Tukey and McLaughlin 1963
            return (kept - kept.mean()) / (1.0 - 2.0 * cut / many)

        error = round(1.96 * math.sqrt(0.25 * 0.75 * many))  # of the number below a quartile
        spreads = [moved(cut).std() for cut in (max(many // 4 - error, 0), many // 4)]
        if spreads[0] > 3.0 * spreads[1]:
            return np.full(many, math.inf)
        return moved(many // 4)

    def ends(self, rows=slice(None)):
        """Return the statistic of the first, the second and the last round, and of the gain.

        Each with its standard error over distinct tasks: None where there are too few of them for
        an interval, infinite where the normal distribution does not say how wide it is.
        """
        rounds = self.rounds(rows)
        columns = [v[rows] for n, v in self.arrays.items() if n.startswith("tasks/")]
        ids = np.arange(len(rounds))
        if columns:
            flat = [
                np.unique(c.reshape(len(c), -1), axis=0, return_inverse=True)[1] for c in columns
            ]
            distinct = np.unique(
                np.stack([f.reshape(-1) for f in flat]), axis=1, return_inverse=True
            )
            ids = distinct[1].reshape(-1) if distinct[0].shape[1] > 1 else ids

        def spread(moved):
            by_task = np.bincount(ids, moved)
            if len(by_task) < 3:
                return None
            error = float(np.sqrt((by_task**2).sum()) / len(moved))
            return error if len(by_task) >= 20 and error > 0.0 else math.inf

        some = [rounds[:, min(i, rounds.shape[1] - 1)] for i in (0, 1)] + [rounds[:, -1]]
        values = [self.statistic(each) for each in some]
        moved = [self.influence(each) for each in some]
        found = [(value, spread(each)) for value, each in zip(values, moved)]
        gain = moved[2] - moved[0] if np.isfinite(moved).all() else np.full(len(rounds), math.inf)
        return [*found, (values[2] - values[0], spread(gain))]


def tables(text):
    """Return the tables of a page, each as its rows of cells, the head first."""
    found = [[]]
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip()[1:-1].split("|")])
        elif found[-1]:
            found.append([])
    return [[rows[0], *rows[2:]] for rows in found[:-1]]


def check(cell, value, spread=None, form=None):
    """Check that a cell shows a number, and that its interval, if it has one, is plausible.

    Args:
        cell: As "12.3 (10.1 to 14.5)".
        value: The number.
        spread: Its standard error, which its interval must fit; without one there is no interval.
        form: How the number is formatted; None is three digits, or one decimal.
    """
    shown, _, interval = cell.partition(" (")
    form = form or (".3g" if abs(value) < 100 else ".1f")
    # A sum in another order may differ in the last bit, and so may its rounding.
    nearly = {format(value + sign * 1e-9 * (1.0 + abs(value)), form) for sign in (-1, 0, 1)}
    assert shown in nearly, (cell, value)
    assert bool(interval) == (spread is not None), cell
    if interval:
        low, high = map(float, interval.rstrip(")").split(" to "))
        rounding = 0.01 * max(abs(low), abs(high), 0.1)
        assert low - rounding <= value <= high + rounding, cell
        if spread < math.inf:
            assert high - low + rounding > 0.5 * 3.92 * spread, cell
            assert high - low - rounding < 2.0 * 3.92 * spread, cell


# The pages.


def test_readme_rows():
    (rows,) = (rows for rows in tables(Path("README.md").read_text()) if rows[0][-1] == "reference")
    of = {}
    for path in sorted((RESULTS / "runs").glob("*.npz")):
        config = archive(path)[0]["config"]
        key = config["agent"], config["tasks"].replace("my_tasks:tasks", "cart-pole")
        if not config.get("start"):
            view = json.dumps(config.get("view", {}))
            of.setdefault((*key, view), []).append(Evaluation(path).rounds().mean(axis=0)[[0, -1]])
    assert len(rows) > 6
    assert any("**ahead**" in row[-1] for row in rows)  # what does not work is shown, too
    for family, _, agent, seeds, first, last, reference in rows[1:]:
        family, agent = family.strip("`"), agent.lower()
        runs = of[agent, family, "{}"]
        assert int(seeds) == len(runs)
        check(first, np.mean(runs, axis=0)[0])
        check(last, np.mean(runs, axis=0)[1])
        others = {
            "oracle": of.get((agent, family, '{"oracle": true}')),
            "multi-task": of.get(("multi-task", family, "{}")),
        }
        for name, found in others.items():
            for shown in re.findall(rf"([-.\d]+), {name}", reference):
                check(shown, np.mean(found, axis=0)[1])
            if "oracle" in reference:
                assert (f", {name}" in reference) == bool(found)
        ahead = others["multi-task"] and np.mean(others["multi-task"], axis=0)[1] > float(last)
        assert ("**ahead**" in reference) == bool(ahead)


def test_rows_of_all_runs():
    rows = next(rows for rows in tables((PAGES / "runs.md").read_text()) if rows[0][0] == "family")
    paths = sorted((RESULTS / "runs").glob("*.npz"))
    assert len(rows) == len(paths) + 1
    for path, row in zip(paths, rows[1:]):
        run = Evaluation(path)
        family, agent, seed, steps, time, first, last, gain, total = row
        assert family.startswith(run.report["family"])
        assert (agent, int(seed)) == (run.report["agent"], run.header["config"]["seed"])
        if "gradient_steps" in run.header:
            assert steps.startswith(f"{run.header['gradient_steps']:,} gradient steps")
        else:
            assert steps.split("M")[0] == f"{run.header['env_steps'] / 1e6:.1f}"
        assert time.split(" min")[0] == f"{run.header['training_seconds'] / 60:.1f}"
        ends = run.ends()
        for cell, (value, spread) in zip((first, last, gain), (ends[0], ends[2], ends[3])):
            check(cell, value, spread)
        check(total.partition(" (")[0], run.returns.sum(axis=1).mean())


GROUPS = {
    "trained slopes, up to 10 degrees": lambda degrees: np.abs(degrees) <= 10.0,
    "uphill, 12 to 20": lambda degrees: degrees > 10.0,
    "downhill, 12 to 20": lambda degrees: degrees < -10.0,
    "steeper, 12 to 20": lambda degrees: np.abs(degrees) > 10.0,
}


@pytest.mark.parametrize("name", WRITTEN)
def test_rows_of_a_study(name):
    checked = set()
    for section in (PAGES / f"{name}.md").read_text().split("\n## ")[1:]:
        evaluation = section.partition("\n")[0]
        groups = re.findall(r"^\*\*(.*)\*\*$", section, re.M)
        found = [rows for rows in tables(section) if rows[0][0] == "learner"]
        for group, rows in zip(groups or [None] * len(found), found, strict=True):
            for learner, seed, *cells in rows[1:]:
                if learner.endswith(", published"):
                    figures = MAML[evaluation][learner.removesuffix(", published")]
                    figures = [figures[0], figures[min(1, len(figures) - 1)], figures[-1]]
                    for cell, figure in zip(cells, figures):
                        check(cell, figure)
                    continue
                words = re.sub(r"[^\w]+", "-", learner.replace("²", "2").lower()).strip("-")
                path = RESULTS / name / evaluation / f"{words}-seed{seed}.npz"
                record, rows_of = Evaluation(path), slice(None)
                if group:
                    rows_of = GROUPS[group](record.arrays["tasks/degrees"])
                first, after, last, episodes, gain = cells
                assert int(episodes) == record.returns.shape[1]
                for cell, end in zip((first, after, last, gain), record.ends(rows_of)):
                    check(cell, *end)
                checked.add(path)
    paths = {p for p in (RESULTS / name).rglob("*.npz") if p.parent.name != "tasks"}
    assert checked == paths


def test_rows_of_published_figures():
    (rows,) = tables((PAGES / "published.md").read_text())
    runs = {}
    for path in sorted((RESULTS / "runs").glob("*.npz")):
        config = archive(path)[0]["config"]
        if config["agent"] == "rl2":
            key = (
                config["tasks"],
                bool(config.get("start")) and not config["tasks"].startswith("half"),
            )
            if not config.get("view"):
                runs.setdefault(key, []).append(Evaluation(path))
    classical = {}
    for file in ("returns", "mdp-returns"):
        header, arrays = archive(RESULTS / "classical" / f"{file}.npz")
        for result, returns in zip(header["results"], arrays["returns"]):
            pulls, arms = result.get("num_pulls"), result.get("num_arms")
            family = f"bandit-{pulls}x{arms}" if pulls else f"tabular-mdp-{result['num_episodes']}"
            classical[family, result["learner"]] = returns
    for source, family, agent, _, here, counts, _ in rows[1:]:
        family = family.strip("`")
        if "Finn" in source:
            learner, steps = re.match(r"(\w+), after (\d) step", agent).groups()
            found = sorted((RESULTS / "maml" / family).glob(f"{learner.lower()}-*.npz"))
            values = [Evaluation(path).rounds()[:, int(steps)].mean() for path in found]
            form = ".1f"
        elif (family, agent) in classical:
            returns = classical[family, agent]
            mean, error = here.split(" ± ")
            check(mean, returns.mean(), form=".2f")
            check(error, returns.std(ddof=1) / np.sqrt(len(returns)), form=".2f")
            assert counts == f"{len(returns)} tasks"
            continue
        elif "first episode" in agent:
            values, form = [run.rounds()[:, 0].mean() for run in runs[family, False]], ".0f"
        else:
            found = runs[family, "started" in agent]
            values, form = [run.returns.sum(axis=1).mean() for run in found], ".2f"
        for cell, value in zip(here.split(", "), values, strict=True):
            check(cell, value, form=form)
        assert counts.startswith(f"{len(values)} seed")


SLOPES = {"-10 to": "held_out", "uphill, 10": "uphill", "uphill, 15": "steep", "down": "downhill"}
PRESETS = {
    "RL², the preset": "preset",
    "64 trials": "64-trials-3-epochs",
    "the same, 5 epochs": "64-trials-5-epochs",
    "the same, 5 epochs, no head": "64-trials-5-epochs-no-head",
    "the same, 5 epochs, a critic": "64-trials-5-epochs-episode-critic",
    "the earlier preset": "earlier-with-head",
    "multi-task (PPO": "multi-task",
    "multi-task, 32": "multi-task-32-environments",
}


def test_further_rows_of_runs():
    found = {rows[0][0]: rows[1:] for rows in tables((PAGES / "runs.md").read_text())}
    for seed, task, first, last in found["seed"]:
        record = Evaluation(RESULTS / "half-cheetah-dir" / f"seed{seed}-20000-tasks.npz")
        rows = (record.arrays["tasks/direction"] > 0) == (task == "forward")
        for cell, round_of in ((first, 0), (last, -1)):
            shown = cell.partition(" (")[0]
            check(shown, record.statistic(record.rounds(rows)[:, round_of]))
    for evaluated_on, *cells in found["evaluated on"]:
        split = next(name for start, name in SLOPES.items() if evaluated_on.startswith(start))
        for family, both in zip(("slope", "flat"), cells):
            name = "gentle" if (family, split) == ("flat", "held_out") else split
            for seed, cell in enumerate(both.split(" / ")):
                record = Evaluation(
                    RESULTS / "half-cheetah-slope" / f"{family}-seed{seed}-{name}.npz"
                )
                check(cell.partition(" (")[0], record.statistic(record.rounds()[:, 0]))
    for trained_with, cell in found["trained with"]:
        name = max(start for start in PRESETS if trained_with.startswith(start))
        record = Evaluation(RESULTS / "half-cheetah-slope-preset" / f"{PRESETS[name]}-seed0.npz")
        check(cell.partition(" (")[0], record.statistic(record.rounds()[:, 0]))


@pytest.mark.slow  # a bootstrap for each interval
@pytest.mark.parametrize("name", WRITTEN)
def test_the_page_of_a_study_is_what_its_records_give(name):
    places = Places(RESULTS, Path("runs/studies"), PAGES)
    assert (PAGES / f"{name}.md").read_text() == page_text(find_study(name), places)
