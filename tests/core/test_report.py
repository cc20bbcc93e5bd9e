"""Reports: the summary over tasks, and reports as files, tables and pictures."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from toys import Fixed, Toy, risk, strolls

from metarl import Report, Tasks, evaluate
from metarl.evaluation.archive import write_archive
from metarl.evaluation.comparison import (
    check_comparable,
    comparison_table,
    curve_over_seeds,
    plot_reports,
)
from metarl.evaluation.curves import episode_ticks
from metarl.evaluation.statistics import Estimate, TaskBootstrap
from metarl.evaluation.tables import (
    Interval,
    Share,
    Table,
    as_html,
    as_json,
    as_markdown,
    as_text,
    plain_table,
    shown,
)

# The summary over tasks.


def made_up(returns, agent="toy", **options):
    returns = np.asarray(returns, dtype=np.float64)
    family = strolls()
    return Report(
        agent=agent,
        family="strolls",
        split="held_out",
        returns=returns,
        lengths=np.ones(returns.shape, np.int64),
        tasks=family.sample("held_out", len(returns), seed=0),
        **options,
    )


@pytest.mark.parametrize("num_tasks", [1, 2, 3, 4, 5, 41])
def test_interquartile_mean(num_tasks):
    returns = np.random.default_rng(0).standard_cauchy((num_tasks, 4))
    report = made_up(returns)
    curve = report.curve(2)  # of the first episode, and of the others
    assert curve.groups == [(0, 1), (1, 4)]
    grouped = np.stack([returns[:, 0], returns[:, 1:].mean(axis=1)], axis=1)
    np.testing.assert_allclose(curve.value, scipy.stats.trim_mean(grouped, 0.25))
    mean = made_up(returns, statistic="mean").curve(2)
    np.testing.assert_allclose(mean.value, grouped.mean(axis=0))
    if num_tasks > 2:
        assert (curve.low <= curve.value).all()
        assert (curve.value <= curve.high).all()


def test_interquartile_mean_by_hand():
    # A quarter of the tasks is cut on each side: 0 and 100 count for nothing.
    table = made_up([[0.0], [1.0], [3.0], [100.0]]).table()
    assert table.columns == ("episode", "mean", "IQM", "95% interval of the IQM")
    assert table.rows[0][:3] == ("1", 26.0, 2.0)


def covers(truth, draw, statistic="mean", times=300):
    """Return how often, in percent, the interval of draws of rows covers the truth."""
    rng = np.random.default_rng(1)
    report = made_up(np.stack([draw(rng) for _ in range(times)], axis=1), statistic=statistic)
    curve = report.curve(times)
    return 100 * float(((curve.low <= truth) & (curve.high >= truth)).mean())


@pytest.mark.parametrize("num_tasks", [5, 20, 100])
@pytest.mark.parametrize("statistic", ["mean", "iqm"])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(statistic, num_tasks):
    covered = covers(2.0, lambda rng: rng.normal(2.0, 3.0, num_tasks), statistic)
    # Percentiles of a bootstrap cover 83 times in 100 for five tasks.
    assert 90 <= covered <= 99


def test_intervals_of_skewed_returns_and_of_shares():
    # Percentiles cover 84 and 63 times in 100: twenty times a one has no spread to resample.
    assert covers(np.exp(0.5), lambda rng: rng.lognormal(size=20)) >= 84
    assert covers(0.95, lambda rng: (rng.random(20) < 0.95).astype(float)) >= 90


def test_the_width_of_the_interval_is_that_of_the_t_distribution():
    returns = np.random.default_rng(0).normal(2.0, 3.0, (40, 200))
    report = made_up(returns, statistic="mean")
    curve = report.curve(200)
    expected = 2 * scipy.stats.t.ppf(0.975, 39) * returns.std(axis=0, ddof=1) / np.sqrt(40)
    np.testing.assert_allclose(curve.high - curve.low, expected, rtol=0.15)
    np.testing.assert_allclose((curve.high - curve.low).mean(), expected.mean(), rtol=0.01)
    np.testing.assert_array_equal(report.curve(200).low, curve.low)


def test_resampled_statistics_are_those_of_resampled_rows():
    rng = np.random.default_rng(0)
    ids = np.array([0, 1, 1, 2, 3, 3, 3, 4])
    values = rng.normal(size=(1, 8, 1))
    bootstrap = TaskBootstrap(ids, seed=0)
    for statistic in ("mean", "iqm"):
        resampled = bootstrap.sample(values, statistic).resampled[:, 0, 0]
        for counts, found in zip(bootstrap._counts[:50].astype(int), resampled):
            rows = np.repeat(values[0, :, 0], counts[ids])
            expected = rows.mean() if statistic == "mean" else scipy.stats.trim_mean(rows, 0.25)
            assert found == pytest.approx(expected, abs=1e-5)


def test_repeated_tasks_are_resampled_as_one():
    # Five goals, each 40 times: the starts differ by 1, the goals by 10.
    rng = np.random.default_rng(0)
    goals = np.repeat(np.arange(5), 40)
    returns = 10.0 * rng.normal(size=5)[goals][:, None] + rng.normal(size=(200, 1))
    report = replace(
        made_up(returns, statistic="mean"), tasks=Tasks("goals", {"goal": goals.astype(float)})
    )
    means = [returns[goals == goal].mean() for goal in range(5)]
    expected = scipy.stats.t.ppf(0.975, 4) * np.std(means, ddof=1) / np.sqrt(5)
    total = report.total()
    assert (total.high - total.low) / 2 == pytest.approx(expected, rel=0.1)
    assert "held_out: 5 tasks, 40 times each" in str(report)
    assert "fewer than 30 different tasks are rough" in str(report)
    # Of one goal by itself, what is resampled is its repetitions.
    alone = report.select(goals == 0).total()
    assert (alone.high - alone.low) / 2 == pytest.approx(2.02 / np.sqrt(40), rel=0.3)


@pytest.mark.parametrize("scale", [1e-200, 1e99])
@pytest.mark.parametrize("statistic", ["mean", "iqm"])
def test_intervals_of_very_small_and_very_large_returns(statistic, scale):
    returns = np.random.default_rng(0).normal(size=(40, 1))
    expected = made_up(returns, statistic=statistic).ends().first
    found = made_up(scale * returns, statistic=statistic).ends().first
    if scale > 1.0:  # the variance of the others is no number
        assert found.low == pytest.approx(scale * expected.low)
    assert found.low <= found.value <= found.high


def test_tasks_that_a_record_leaves_out_are_all_different():
    report = made_up(np.random.default_rng(0).normal(size=(40, 2)))
    left_out = replace(report, tasks=Tasks("strolls", {}))
    assert "held_out: 40 tasks" in str(left_out)
    assert left_out.ends().first.low == pytest.approx(report.ends().first.low, abs=0.05)


def test_the_gain_is_paired_and_of_the_statistic_of_its_ends():
    # What a task is worth differs by 100, what adaptation adds is 1: unpaired, it is not seen.
    rng = np.random.default_rng(0)
    worth = rng.normal(0.0, 100.0, (200, 1))
    returns = worth + np.array([0.0, 0.5, 1.0]) + rng.normal(0.0, 1.0, (200, 3))
    for statistic in ("mean", "iqm"):
        report = made_up(returns, statistic=statistic)
        first, last, gain = report.ends()
        assert gain.value == pytest.approx(last.value - first.value)
        assert gain.high - gain.low < 0.1 * (last.high - last.low)
        assert gain.low < 1.0 < gain.high
        assert f" last minus first, paired by task: {gain.value:.3g} (" in str(report)
    gain = made_up(returns, statistic="mean").ends().gain
    # 1.96 standard errors of a difference of two unit normals, either way
    assert gain.high - gain.low == pytest.approx(2 * 1.96 * math.sqrt(2 / 200), rel=0.2)
    np.testing.assert_array_equal(report.gain, report.last - report.first)


def test_first_and_last_are_whole_rounds():
    returns = [[0.0, 2.0, 5.0, 7.0], [1.0, 1.0, 6.0, 6.0], [2.0, 0.0, 3.0, 9.0]]
    report = made_up(returns, episodes_per_adaptation=2)
    assert report.rounds.tolist() == [[1.0, 6.0]] * 3
    assert report.gain.tolist() == [5.0] * 3
    assert report.ends().gain == Estimate(5.0, 5.0, 5.0)
    assert made_up([[3.0]]).gain.tolist() == [0.0]


@pytest.mark.parametrize("num_tasks", [1, 2])
def test_one_or_two_tasks_have_no_interval(num_tasks):
    report = made_up([[3.0, 4.0]] * num_tasks)
    assert np.isnan([report.curve().low, report.curve().high]).all()
    text = str(report)
    assert "there are no intervals over fewer than 3 tasks" in text
    assert " last minus first, paired by task: 1\n" in text
    assert " to " not in text


# The table, and its columns.


def half(report):
    return 0.5 * report.returns


def test_a_metric_is_a_column():
    returns = np.random.default_rng(0).normal(10.0, 1.0, (40, 3))
    report = made_up(returns, statistic="mean")
    table = report.table({"half": half, "tasks": lambda report: np.full(3, 40)})
    assert table.columns[-2:] == ("half", "tasks")
    for index, row in enumerate(table.rows):
        own = row[-2]
        assert own.value == pytest.approx(0.5 * returns[:, index].mean())
        assert 2 * own.low == pytest.approx(row[3].low)
        assert row[-1] == 40.0
    assert f"{returns[:, 0].mean() / 2:.3g} (" in report.describe({"half": half})
    with pytest.raises(ValueError, match=r"'bad' must give .* \(40, 3\) .* got \(40,\)"):
        report.table({"bad": lambda report: report.first})


def test_a_table_is_text_markdown_html_and_json():
    rows = (
        ("a <b>", Estimate(1.0, 0.5, 1.5), Share(0.37), None),
        ("c", Estimate(math.pi, math.nan, math.nan), Interval(1.0, 123.456), 7),
    )
    table = Table(("name", "return", "success", "n"), rows, left=1)
    text = as_text(table).splitlines()
    assert text[1].split() == ["a", "<b>", "1", "(0.5", "to", "1.5)", "37%"]
    assert text[2].split() == ["c", "3.14", "1", "to", "123.5", "7"]
    assert as_markdown(table).splitlines()[1:] == [
        "| --- | --- | --- | --- |",
        "| a <b> | 1 (0.5 to 1.5) | 37% |  |",
        "| c | 3.14 | 1 to 123.5 | 7 |",
    ]
    assert "<th scope=row>a &lt;b&gt;</th><td>1 (0.5 to 1.5)</td>" in as_html(table, "caption")
    assert json.loads(json.dumps(as_json(table)))["rows"] == [
        ["a <b>", {"value": 1.0, "low": 0.5, "high": 1.5}, 0.37, None],
        ["c", {"value": math.pi, "low": None, "high": None}, {"low": 1.0, "high": 123.456}, 7],
    ]


# Curves of several seeds.


def test_a_curve_of_seeds_is_their_mean_with_an_interval_over_seeds_and_tasks():
    rng = np.random.default_rng(0)
    tasks, seeds = rng.normal(size=(40, 1)), np.array([-1.0, 0.0, 1.0])
    reports = [
        made_up(tasks + seed + 0.1 * rng.normal(size=(40, 2)), statistic="mean") for seed in seeds
    ]
    curve = curve_over_seeds(reports)
    np.testing.assert_allclose(curve.seeds, [report.curve().value for report in reports])
    np.testing.assert_allclose(curve.value, curve.seeds.mean(axis=0))
    # Both variances count: that of three seeds, and that of forty tasks, which the seeds share.
    variance = 1.0 / 3 + tasks.var(ddof=1) / 40
    half = (curve.high - curve.low) / 2
    assert (half > scipy.stats.t.ppf(0.975, 2) * np.sqrt(variance) * 0.8).all()
    assert (half < scipy.stats.t.ppf(0.975, 2) * np.sqrt(variance) * 1.1).all()
    assert curve.describe() == "mean, 95% interval over seeds and tasks"
    alone = curve_over_seeds(reports[:1])
    np.testing.assert_array_equal(alone.low, reports[0].curve().low)


@pytest.mark.parametrize("num_episodes", [1, 2, 3, 12, 13, 50, 51, 99, 500, 1000])
@pytest.mark.parametrize("at_most", [1, 5, 12, 30, 50])
@pytest.mark.parametrize("parallel", [1, 4])
def test_groups_hold_every_episode_once(num_episodes, at_most, parallel):
    report = made_up(np.zeros((1, num_episodes * parallel)), episodes_per_adaptation=parallel)
    groups = report.groups(at_most)
    assert 1 <= len(groups) <= at_most
    held = [episode for start, stop in groups for episode in range(start, stop)]
    assert held == list(range(num_episodes * parallel))
    assert all(start % parallel == 0 for start, _ in groups)
    if num_episodes <= at_most:
        assert len(groups) == num_episodes


# Reports as files, tables and pictures.


@pytest.mark.parametrize(
    "returns",
    [[[0.1, 0.2], [0.3, 1e-17]], [[1.0, 2.0], [3.0, 4.0]], [[5.0, 5.0], [5.0, 5.0]], [[2.0]]],
    ids=["real", "whole", "all-equal", "single"],
)
def test_a_report_comes_back_whole(tmp_path, returns):
    report = made_up(returns, seed=3, notes=("mind this",), episodes_per_adaptation=1)
    path = report.save(tmp_path / "evaluation")
    assert path == tmp_path / "evaluation" / "held_out.npz"
    loaded = Report.load(path)
    assert loaded.returns.dtype == np.float64
    np.testing.assert_array_equal(loaded.returns, report.returns)
    np.testing.assert_array_equal(loaded.lengths, report.lengths)
    assert loaded.tasks == report.tasks
    for name in ("agent", "family", "split", "statistic", "seed", "notes"):
        assert getattr(loaded, name) == getattr(report, name)
    assert str(loaded) == str(report)
    # Whoever reads the file without us finds the raw array.
    archive = np.load(path)
    assert archive["returns"].tolist() == returns
    assert json.loads(archive["header.json"])["statistic"] == report.statistic


def test_a_file_that_is_no_report(tmp_path):
    (tmp_path / "x.npz").write_text("{}")
    with pytest.raises(ValueError, match=r"x.npz' is not an archive of metarl"):
        Report.load(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", returns=np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"There is no item named 'header.json' in the archive"):
        Report.load(tmp_path / "x.npz")
    write_archive(tmp_path / "x.npz", {}, {"returns": np.ones((2, 3))})
    with pytest.raises(ValueError, match=r"x.npz' is not a report: 'agent' must be a printable"):
        Report.load(tmp_path / "x.npz")
    with pytest.raises(FileNotFoundError, match="there is no report"):
        Report.load(tmp_path / "y.npz")


@pytest.mark.parametrize("num_episodes", [1, 3, 500])
@pytest.mark.parametrize("num_tasks", [1, 6])
def test_table_and_picture_of_any_length(tmp_path, figures, num_episodes, num_tasks):
    report = made_up(np.random.default_rng(0).normal(size=(num_tasks, num_episodes)))
    lines = str(report).splitlines()
    tasks = "1 task" if num_tasks == 1 else f"{num_tasks} tasks"
    assert lines[0] == f"toy on strolls, held_out: {tasks}"
    lines.pop()  # the note that these are few tasks
    *lines, total = lines[: len(lines) - (num_episodes > 1)]  # the last line is the gain
    assert len(lines) <= 12 + 2
    assert all(len(line) <= 110 for line in str(report).splitlines())
    assert lines[2].split()[0] == "1"
    assert lines[-1].split()[0].endswith(str(num_episodes))
    assert f"mean {report.trial_returns.mean():.3g}" in total
    figure = report.plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    axes = figure.axes[0]
    x, y = axes.lines[0].get_data()
    assert len(x) == len(report.groups(30)) <= 30
    assert axes.get_xlabel() == "episodes of experience in the task"
    assert axes.get_xticklabels()[0].get_text() == "0"
    assert x[0] == axes.get_xticks()[0] == 0.5  # a logarithmic axis has no 0
    if num_episodes == 3:
        assert x.tolist() == [0.5, 1.0, 2.0]
        np.testing.assert_allclose(y, report.curve().value)


def test_the_curve_of_rounds_is_in_steps_from_one_to_the_next(figures):
    report = replace(made_up(np.ones((6, 40)).cumsum(axis=1)), episodes_per_adaptation=20)
    axes = report.plot().axes[0]
    x, y = axes.lines[0].get_data()
    assert x.tolist() == [0.5, 20.0, 40.0]
    assert y.tolist() == [10.5, 30.5, 30.5]
    assert axes.lines[0].get_drawstyle() == "steps-post"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [
        "0",
        "1",
        "2",
        "5",
        "10",
        "20",
        "40",
    ]


def test_comparison_names_the_better_first(figures):
    rows = np.random.default_rng(0).normal(size=(6, 3))
    worse, better = made_up(rows, "worse"), made_up(rows + 1.0, "better")
    longer = made_up(np.hstack([rows, rows]) + 1.0, "longer")
    lines = comparison_table([worse, better, longer]).splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["better", "longer", "worse"]
    assert len(plot_reports([worse, better, longer]).axes[0].lines) == 3


def test_totals_are_over_the_episodes_that_all_agents_had():
    short = made_up(np.full((6, 3), 2.0), "short")
    long = made_up(np.full((6, 40), 1.0), "long")
    lines = comparison_table([long, short]).splitlines()
    assert lines[1].split()[-2:] == ["first", "3"]
    assert lines[2].split() == ["short", "2", "2", "2", "6", "(6", "to", "6)"]
    assert lines[3].split()[0] == "long"
    assert lines[3].endswith(" 3 (3 to 3)")
    assert lines[4].startswith(" first 3: mean return of these episodes together (95% interval")
    assert comparison_table([short]).splitlines()[1].endswith("all together")


def test_a_table_of_long_names_fits_a_terminal_and_cuts_nothing():
    reports = [
        made_up(np.full((6, 4), -1.234), f"RL2, oracle (rl2-gridnavi-{i}-{'n' * 50}-oracle)")
        for i in (1, 2)
    ]
    lines = comparison_table(reports).splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    names = "".join(re.match(r".(.{25,45}?)(  +|$)", f"{line:80}")[1] for line in lines[2:-2])
    for report in reports:
        assert report.agent.replace(" ", "") in names.replace(" ", "")


def test_columns_beyond_80_characters_stand_below_with_the_names():
    headings = ("agent", "first episode of a task", *(f"{i}-{i + 1}" for i in range(10)))
    rows = [[name, *["-1234.5"] * 11] for name in ("short", "a-name-" * 8)]
    text = plain_table(headings, rows, left=1)
    assert max(map(len, text.splitlines())) <= 80
    first, second = (part.splitlines() for part in text.split("\n\n"))
    assert [line.split()[-1] for line in first[:2]] == ["first", "of"]
    assert first[2].split() == ["agent", "a", "task", "0-1", "1-2", "2-3", "3-4", "4-5"]
    assert second[0].split() == ["agent", "5-6", "6-7", "7-8", "8-9", "9-10"]
    assert second[1].split() == ["short", *["-1234.5"] * 5]
    for part in (first[4:], second[2:]):
        assert "".join(line.split()[0] for line in part) == "a-name-" * 8
    # A first column of numbers is repeated, too.
    text = plain_table(("episode", *"abc"), [["1-2", *["2034.2 (1864.3 to 2194.7)"] * 3]])
    assert [line.split()[0] for line in text.splitlines() if line] == ["episode", "1-2"] * 2


def test_only_what_was_done_on_the_same_tasks_is_compared():
    report = evaluate(Toy(Fixed), risk(), num_tasks=6)
    check_comparable([report, evaluate(Toy(Fixed, "other"), risk().oracle(), num_tasks=6)])
    shuffled = Tasks("risk", {"pays": 1 - report.tasks.columns["pays"]})
    for other in (
        evaluate(Toy(Fixed), risk(), num_tasks=7),
        evaluate(Toy(Fixed), risk(), num_tasks=6, seed=1),
        evaluate(Toy(Fixed), risk(), num_tasks=6, split="train"),
        replace(report, tasks=Tasks("safe", report.tasks.columns)),
        replace(report, tasks=shuffled),
        replace(report, tasks=Tasks("risk", {"paid": report.tasks.columns["pays"]})),
    ):
        for compare in (check_comparable, comparison_table, plot_reports):
            with pytest.raises(ValueError, match="were not evaluated on the same tasks"):
                compare([report, other])
    with pytest.raises(ValueError, match="at least one report, got none"):
        comparison_table([])


def test_few_tasks_are_shown_one_by_one():
    # Returns differ far more between the two tasks than between episodes: together, the intervals
    # of the episodes overlap.
    directions = np.tile([1.0, -1.0], 20)
    noise = np.random.default_rng(0).standard_normal((40, 2))
    returns = np.stack([100.0 * directions, 100.0 * directions + 5.0], axis=1) + noise
    tasks = Tasks("there-and-back", {"direction": directions})
    report = replace(made_up(returns), tasks=tasks)
    assert "2 tasks, 20 times each" in str(report)
    lines = str(report).splitlines()
    at = lines.index(" first and last in each task by itself:")
    for line, direction in zip(lines[at + 1 : at + 3], (-1.0, 1.0)):
        ends = report.select(directions == direction).ends()
        assert ends.first.high < ends.last.low
        expected = f"{shown(ends.first)} -> {shown(ends.last)}"
        assert line.replace(f"{direction:g}", "D", 1) == f"   direction=D: {expected}"
    assert "by itself" not in str(made_up(returns))  # forty different tasks


def test_different_tasks_are_numbered():
    tasks = Tasks("family", {"a": np.array([0, 1, 0, 0]), "b": np.array([[1, 2]] * 3 + [[2, 1]])})
    kinds = tasks.group_ids()
    assert [[k == other for other in kinds] for k in kinds] == [
        [a == b for b in tasks] for a in tasks
    ]


@pytest.mark.parametrize(
    ("last", "ticks"),
    [
        (1, [0, 1]),
        (5, [0, 1, 2, 3, 4, 5]),
        (9, [0, 1, 2, 5, 9]),
        (20, [0, 1, 2, 5, 10, 20]),
        (79, [0, 1, 2, 5, 10, 20, 50, 79]),
    ],
)
def test_an_axis_of_episodes_shows_its_last_one(last, ticks):
    assert episode_ticks(last) == ticks
