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
from metarl.evaluation.comparison import check_comparable, comparison_table, plot_reports

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


def each_alone(report):
    return [(i, i + 1) for i in range(report.num_episodes)]


@pytest.mark.parametrize("num_tasks", [1, 2, 3, 4, 5, 41])
def test_interquartile_mean(num_tasks):
    returns = np.random.default_rng(0).standard_cauchy((num_tasks, 4))
    report = made_up(returns)
    summary = report.summary([(0, 1), (1, 4)])
    grouped = np.stack([returns[:, 0], returns[:, 1:].mean(axis=1)], axis=1)
    np.testing.assert_allclose(summary.iqm, scipy.stats.trim_mean(grouped, 0.25))
    np.testing.assert_allclose(summary.mean, grouped.mean(axis=0))
    assert summary.center is summary.iqm
    assert made_up(returns, statistic="mean").summary([(0, 4)]).statistic == "mean"
    assert (summary.low <= summary.center).all()
    assert (summary.center <= summary.high).all()


def test_interquartile_mean_by_hand():
    # A quarter of the tasks is cut on each side: 0 and 100 count for nothing.
    summary = made_up([[0.0], [1.0], [3.0], [100.0]]).summary([(0, 1)])
    assert summary.iqm.tolist() == [2.0]
    assert summary.mean.tolist() == [26.0]


@pytest.mark.parametrize("statistic", ["mean", "iqm"])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(statistic):
    rng = np.random.default_rng(1)
    # 200 experiments of 40 tasks: each column is one, all with the true value 2.
    report = made_up(rng.normal(2.0, 3.0, (40, 200)), statistic=statistic)
    summary = report.summary(each_alone(report))
    covered = ((summary.low <= 2.0) & (summary.high >= 2.0)).mean()
    # A percentile interval over 40 tasks is a little narrow; one of the returns' own quantiles
    # would cover always, one of half the width 68 times in 100.
    assert 0.88 <= covered <= 0.99
    width = np.mean(summary.high - summary.low)
    standard_error = 3.0 / np.sqrt(40)
    assert width == pytest.approx(2 * 1.96 * standard_error, rel=0.15)
    np.testing.assert_array_equal(report.summary(each_alone(report)).low, summary.low)


def test_improvement_is_paired():
    # What a task is worth differs by 100, what adaptation adds is 1: unpaired, it is not seen.
    rng = np.random.default_rng(0)
    worth = rng.normal(0.0, 100.0, (200, 1))
    returns = worth + np.array([0.0, 0.5, 1.0]) + rng.normal(0.0, 1.0, (200, 3))
    report = made_up(returns)
    gain, low, high = report.improvement()
    assert gain == pytest.approx((returns[:, 2] - returns[:, 0]).mean())
    # 1.96 standard errors of a difference of two unit normals, either way
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(2 / 200), rel=0.2)
    assert low < 1.0 < high
    assert f"last minus first, task by task: {gain:.3g}" in str(report)


def test_improvement_compares_whole_rounds():
    report = made_up([[0.0, 2.0, 5.0, 7.0], [1.0, 1.0, 6.0, 6.0]], episodes_per_adaptation=2)
    assert report.improvement() == (5.0, 5.0, 5.0)
    assert made_up([[3.0]]).improvement() == (0.0, 0.0, 0.0)


def test_one_task_has_no_interval():
    summary = made_up([[3.0, 4.0]]).summary([(0, 1), (1, 2)])
    assert summary.low.tolist() == summary.high.tolist() == [3.0, 4.0]


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
    assert path == tmp_path / "evaluation" / "held_out.json"
    loaded = Report.load(path)
    assert loaded.returns.dtype == np.float64
    np.testing.assert_array_equal(loaded.returns, report.returns)
    np.testing.assert_array_equal(loaded.lengths, report.lengths)
    assert loaded.tasks == report.tasks
    for name in ("agent", "family", "split", "statistic", "seed", "notes"):
        assert getattr(loaded, name) == getattr(report, name)
    assert str(loaded) == str(report)
    # Whoever reads the file without us finds the raw array.
    assert json.loads(path.read_text())["returns"] == returns


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"returns": "x"}'])
def test_a_file_that_is_no_report(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=r"x.json' is not a report"):
        Report.load(tmp_path / "x.json")
    with pytest.raises(FileNotFoundError, match="there is no report"):
        Report.load(tmp_path / "y.json")


@pytest.mark.parametrize("num_episodes", [1, 3, 500])
@pytest.mark.parametrize("num_tasks", [1, 6])
def test_table_and_picture_of_any_length(tmp_path, num_episodes, num_tasks):
    report = made_up(np.random.default_rng(0).normal(size=(num_tasks, num_episodes)))
    lines = str(report).splitlines()
    assert lines[0] == f"toy on strolls, held_out: {num_tasks} tasks"
    *lines, total = lines[: len(lines) - (num_episodes > 1)]  # the last line is the improvement
    assert len(lines) <= 12 + 2
    assert all(len(line) <= 110 for line in str(report).splitlines())
    assert lines[2].split()[0] == "1"
    assert lines[-1].split()[0].endswith(str(num_episodes))
    assert f"{report.trial_returns.mean():.2f} ±" in total
    figure = report.plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    axes = figure.axes[0]
    x, y = axes.lines[0].get_data()
    assert len(x) == len(report.groups(30)) <= 30
    assert axes.get_xscale() == ("log" if num_episodes == 500 else "linear")
    assert x[0] == 1.0
    if num_episodes == 3:
        assert x.tolist() == [1.0, 2.0, 3.0]
        np.testing.assert_allclose(y, report.summary(each_alone(report)).iqm)


def test_comparison_names_the_better_first():
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
    assert lines[2].split() == ["short", "2", "2", "2", "6.00", "±", "0.00"]
    assert lines[3].split()[0] == "long"
    assert lines[3].endswith(" 3.00 ± 0.00")
    assert lines[4].startswith(" first 3: mean return of these episodes together ± ")
    assert comparison_table([short]).splitlines()[1].endswith("all together")


def test_a_table_of_long_names_fits_a_terminal_and_cuts_nothing():
    reports = [
        made_up(np.full((6, 4), -1.234), f"RL2, oracle (rl2-gridnavi-{i}-{'n' * 50}-oracle)")
        for i in (1, 2)
    ]
    lines = comparison_table(reports).splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    names = "".join(re.match(r".(.{25,45}?)(  +|$)", f"{line:80}")[1] for line in lines[2:-1])
    for report in reports:
        assert report.agent.replace(" ", "") in names.replace(" ", "")


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
    together = report.summary([(0, 1), (1, 2)])
    assert together.high[0] > together.low[1]
    lines = str(report).splitlines()
    at = lines.index(" first and last in each task by itself:")
    for line, direction in zip(lines[at + 1 : at + 3], (-1.0, 1.0)):
        part = report.select(directions == direction).summary([(0, 1), (1, 2)])
        assert part.high[0] < part.low[1]
        first, last = (
            f"{iqm:.1f} ({low:.1f} to {high:.1f})"
            for iqm, low, high in zip(part.iqm, part.low, part.high)
        )
        assert line.replace(f"{direction:g}", "D", 1) == f"   direction=D: {first} -> {last}"
    assert "by itself" not in str(made_up(returns))  # forty different tasks


def test_different_tasks_are_numbered():
    tasks = Tasks("family", {"a": np.array([0, 1, 0, 0]), "b": np.array([[1, 2]] * 3 + [[2, 1]])})
    kinds = tasks.group_ids()
    assert [[k == other for other in kinds] for k in kinds] == [
        [a == b for b in tasks] for a in tasks
    ]
