"""The page of a report, in a browser: what it shows, what it never does, and who can read it."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browsers import chromium

from metarl import Report, Uniform, envs
from metarl.evaluation.plotting import COLORS, styles_of
from metarl.experiments.cli import main as cli
from metarl.experiments.publish import runs as publish
from metarl.experiments.reports import gather as reporting
from metarl.experiments.reports import page
from metarl.experiments.reports.charts import (
    Result,
    gains,
    over_episodes,
    over_parameter,
    over_training,
    profiles,
    trained_ranges,
)
from metarl.experiments.reports.page import Page, Picture, write_page
from metarl.experiments.runs.run import Run
from metarl.experiments.studies import find_study
from metarl.experiments.studies.jobs import places_for
from metarl.tasks import Tasks

NASTY = 'RL² </script><script>document.title="hacked"</script>"\x1b[31m'


def report(gain, split="held_out", seed=0, num_episodes=4):
    rng = np.random.default_rng(seed)
    slope = np.linspace(-10.0, 10.0, 30)
    returns = slope[:, None] + rng.normal(size=(30, num_episodes)) + gain * np.arange(num_episodes)
    tasks = Tasks("family", {"slope": slope, "wall": np.repeat(["a", "b"], 15)})
    lengths = np.ones_like(returns, dtype=np.int64)
    return Report("agent", "family", split, returns, lengths, tasks, notes=("a note <b>",))


CONFIG = {"command": "metarl train <i>", "seed": 0, "hyperparameters": {"gamma": 0.9}}
PAGE = Page(
    title=NASTY,
    results=[
        Result(label, seed, report(gain, split, seed), CONFIG, [(0, 1.0), (2000, 1.5 + gain)])
        for split in ("held_out", "steep")
        for label, gain in ((NASTY, 5.0), ("multi-task", 0.0))
        for seed in (0, 1)
    ],
    question="Who?",
    answer="One that\n[learns](runs.md): `RL²` <b>.\n\nNot the other.",
    caveats=("nothing",),
    pictures=[Picture(b"\x89PNG\r\n", "the end of an episode")],
    trained={"family": {"slope": Uniform(-5.0, 5.0)}},
)


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(path, PAGE)
    return path


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, html):
    """Open the page; what it complains of and what it asks the network for must be nothing."""
    contexts, trouble = [], []

    def open_page(width=1200, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: trouble.append(message.text))
        tab.on("pageerror", lambda error: trouble.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        requests = []
        tab.goto(html.as_uri())
        tab.wait_for_load_state("networkidle")
        if options.get("java_script_enabled", True):
            tab.wait_for_selector(".chart .marks")
        assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []


def test_the_page_is_one_small_file_and_the_same_each_time(html, tmp_path):
    text = html.read_text()
    assert len(text) < 2_000_000
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    write_page(tmp_path / "again.html", PAGE)
    assert (tmp_path / "again.html").read_text() == text


def test_lines_of_one_kind_share_a_colour_and_no_two_look_alike():
    labels = ["RL², slopes", "MAML", "RL², flat", "RL², steep", *map(str, range(2 * len(COLORS)))]
    styles = styles_of(labels)
    assert len(set(styles)) == len(labels)
    first, other, second, third = styles[:4]
    assert (first[0], second, third) == (COLORS[0], (COLORS[0], 1), (COLORS[0], 2))
    assert other == (COLORS[1], 0)


def test_what_training_had_is_shaded_even_in_two_parts():
    climb = envs.make("half-cheetah-climb").sampler("train").parameters["degrees"]
    below, above = trained_ranges(climb, -20.0, 20.0)
    assert below == pytest.approx((-10.0, -1.0), abs=0.05)
    assert above == pytest.approx((1.0, 10.0), abs=0.05)
    assert trained_ranges(Uniform(-5.0, 5.0), -3.0, 10.0) == [(-3.0, pytest.approx(5.0, abs=0.05))]
    assert trained_ranges(Uniform(6.0, 7.0), -3.0, 5.0) == []
    assert trained_ranges(Uniform(0.0, 1.0, (2,)), 0.0, 1.0) == []


def test_it_shows_what_it_is_given_as_text(opened):
    tab = opened()
    assert tab.title().startswith("RL² </script>")
    assert "\x1b" not in tab.title()
    heading = tab.inner_text("h1")
    assert "<script>" in heading
    assert tab.locator(".chart svg").count() == 9  # four charts of two splits, and one of training
    assert "a note <b>" in tab.inner_text("main")
    assert "One that learns: RL² <b>." in tab.inner_text("header")
    assert "Not the other." not in tab.inner_text("header")
    tab.click("header summary")
    assert "Not the other." in tab.inner_text("header")
    assert "At most 2 seeds" in tab.inner_text("main")
    tab.click("main summary >> nth=0")
    assert "multi-task" in tab.inner_text("table >> nth=0")
    # The same numbers as the report's: last minus first.
    gain = report(5.0).ends().gain
    assert f"{gain.value:.3g} ({gain.low:.3g} to {gain.high:.3g})" in tab.inner_text(
        "table >> nth=0"
    )


def test_agents_can_be_hidden_and_a_split_chosen_by_keyboard(opened):
    tab = opened()
    lines = tab.locator("#split-0-episodes .mark-line path")
    assert lines.count() == 6  # of two agents: the mean and two seeds each
    box = tab.locator("input[name=agent]").nth(1)
    box.focus()
    tab.keyboard.press("Space")
    tab.wait_for_function(
        "document.querySelectorAll('#split-0-episodes .mark-line path').length === 3"
    )
    tab.keyboard.press("Space")
    tab.wait_for_function(
        "document.querySelectorAll('#split-0-episodes .mark-line path').length === 6"
    )
    tab.focus("#split")
    tab.keyboard.press("ArrowDown")
    tab.wait_for_function("document.getElementById('split-1').hidden")
    assert tab.is_visible("#split-0")
    tab.keyboard.press("ArrowUp")
    tab.wait_for_function("!document.getElementById('split-1').hidden")


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (390, "dark"),
        (1440, "light"),
        pytest.param(390, "light", marks=pytest.mark.slow),
        pytest.param(1440, "dark", marks=pytest.mark.slow),
    ],
)
def test_it_is_accessible_and_fits(opened, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    tab = opened(width, color_scheme=scheme)
    for summary in tab.locator("summary").all():
        summary.click()
    found = [
        (violation["id"], [node["html"][:120] for node in violation["nodes"]])
        for violation in Axe().run(tab).response["violations"]
    ]
    assert found == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_it_is_readable_without_scripts_and_printed(opened):
    tab = opened(java_script_enabled=False)
    assert tab.locator(".chart svg").count() == 9
    assert tab.is_hidden("#controls")
    assert len(tab.pdf()) > 10_000


def test_charts_hold_the_numbers_of_the_reports():
    results = [Result("one", 0, report(5.0), {}), Result("two", 0, report(0.0), {})]
    values = over_episodes(results)["layer"][1]["data"]["values"]
    curve = results[0].report.curve()
    drawn = [row for row in values if row["agent"] == "one"]
    assert [row["episodes"] for row in drawn] == [0, 1, 2, 3]
    np.testing.assert_allclose([row["return"] for row in drawn], curve.value, rtol=1e-4)
    np.testing.assert_allclose([row["low"] for row in drawn], curve.low, rtol=1e-4)

    rounds = replace(results[0].report, episodes_per_adaptation=2)
    layers = over_episodes([results[1], Result("rounds", 0, rounds, {})])["layer"]
    assert [layer["mark"]["interpolate"] for layer in layers] == 2 * ["linear"] + 2 * ["step-after"]
    assert [row["episodes"] for row in layers[3]["data"]["values"]] == [0, 2, 4]  # and its end
    first, last, end = (row["return"] for row in layers[3]["data"]["values"])
    assert end == last != first

    spec = over_parameter(results, "slope", [(-5.0, 5.0)])
    assert spec["layer"][0]["data"]["values"] == [{"from": -5.0, "to": 5.0}]
    rows = [row for row in spec["layer"][1]["data"]["values"] if row["agent"] == "one"]
    first = [row["return"] for row in rows if row["when"] == "first episodes"]
    assert len(first) == 12
    assert np.all(np.diff(first) > 0.0)  # the return follows the slope
    slope = np.repeat((-4.0, 1.0, 2.0), 10)
    grid = replace(results[0].report, tasks=Tasks("family", {"slope": slope}))
    layer = over_parameter([Result("one", 0, grid, {})], "slope")["layer"][0]
    assert [row["value"] for row in layer["data"]["values"]] == 2 * [-4.0, 1.0, 2.0]
    assert layer["mark"]["strokeWidth"] == 0  # no line suggests values in between
    assert spec["layer"][1]["mark"]["strokeWidth"] > 0

    rows = [row for row in gains(results)["layer"][1]["data"]["values"] if row["agent"] == "one"]
    expected = np.sort(results[0].report.returns[:, -1] - results[0].report.returns[:, 0])
    np.testing.assert_allclose([row["gain"] for row in rows], expected, rtol=1e-4)


def test_profiles_are_the_shares_of_tasks_above_each_return():
    reports = [report(gain, seed=seed) for gain in (0.0, 3.0) for seed in range(3)]
    results = [Result("AB"[i // 3], i % 3, each, {}) for i, each in enumerate(reports)]
    band, line = profiles(results)["layer"]
    rows = line["data"]["values"]
    assert band["data"]["values"] == rows
    assert len(rows) == 2 * 61
    for row in rows:
        last = np.concatenate([r.report.returns[:, -1] for r in results if r.label == row["agent"]])
        # Thresholds are shown in five digits.
        near = [100 * (last > row["return"] + shift).mean() for shift in (1e-3, -1e-3)]
        assert near[0] - 0.01 <= row["share"] <= near[1] + 0.01
        assert 0.0 <= row["low"] <= row["share"] <= row["high"] <= 100.0
    widths = [row["high"] - row["low"] for row in rows if 20 < row["share"] < 80]
    assert min(widths) > 2.0
    assert [row["share"] for row in rows if row["agent"] == "A"][-1] == 0.0
    # Of two seeds, a band would hide all lines.
    (two, _) = profiles([each for each in results if each.seed < 2])["layer"]
    assert all(row["low"] == row["share"] == row["high"] for row in two["data"]["values"])


def test_sample_efficiency_is_the_log_of_training():
    spec = over_training(PAGE.results[:2])
    rows = spec["layer"][0]["data"]["values"]
    assert [(row["seed"], row["env steps"], row["return"]) for row in rows] == [
        (0, 0, 1.0),
        (0, 2000, 6.5),
        (1, 0, 1.0),
        (1, 2000, 6.5),
    ]


def test_what_a_log_says_is_of_the_steps_before(tmp_path):
    run = Run(tmp_path, {})
    assert reporting._learning(run) == []  # as of a published run
    (tmp_path / "progress.csv").write_text(
        "time/total_timesteps,validation/return_last_episode\n100,1.5\n200,\n300,2.5\n"
    )
    assert reporting._learning(run) == [(0, 1.5), (200, 2.5)]


def test_names_of_any_characters_leave_the_controls_and_the_charts(browser, tmp_path):
    nasty = "<!--<script>\u2028 a\\x"  # opens a comment; a backslash before what it cannot escape
    parameter = "\\x"
    of = report(5.0)
    of = replace(of, tasks=Tasks("family", {parameter: of.tasks.columns["slope"]}))
    results = [Result(nasty, 0, of, {}), Result("other", 0, of, {})]
    write_page(tmp_path / "page.html", Page(title="title", results=results))
    trouble = []
    tab = browser.new_page()
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.on("console", lambda message: trouble.append(message.text))
    tab.goto((tmp_path / "page.html").as_uri())
    tab.wait_for_selector(".chart .marks")
    tab.wait_for_selector("#controls:visible")
    lines = "document.querySelectorAll('#split-0-episodes .mark-line path').length"
    tab.wait_for_function(f"{lines} === 2")
    assert parameter in tab.locator("#split-0-parameter-4 svg text").all_text_contents()
    tab.locator("input[name=agent]").nth(0).uncheck()
    tab.wait_for_function(f"{lines} === 1")
    tab.close()
    assert trouble == []


def run_of(name, seed=0, tasks="gridnavi", view=None, **hyperparameters):
    config = {
        "agent": "maml",
        "tasks": tasks,
        "view": view or {},
        "seed": seed,
        "total_timesteps": 100,
    }
    policy = {"hidden_sizes": [8, 8]}
    hyperparameters = {"gamma": 0.9, "policy_kwargs": policy, **hyperparameters}
    return Run(Path(name), {**config, "hyperparameters": hyperparameters})


def labels_of(monkeypatch, runs, num_episodes=4, together=2):
    found = [report(0.0) for _ in runs[1:]] + [report(0.0, num_episodes=num_episodes)]
    found = [
        replace(each, episodes_per_adaptation=together, view=run.config["view"])
        for each, run in zip(found, runs)
    ]
    monkeypatch.setattr(reporting, "common_reports", lambda *args: found)
    page = reporting.runs_page(runs, ["held_out"], pictures=False)
    return [result.label for result in page.results]


def test_only_runs_that_differ_by_nothing_but_their_seeds_are_one_agent(monkeypatch):
    first, second = run_of("a"), run_of("b", seed=1)
    assert labels_of(monkeypatch, [first, second]) == ["maml"] * 2
    default = {"policy_kwargs": {"hidden_sizes": [8, 8], "activation": "relu"}}  # as it is anyway
    assert labels_of(monkeypatch, [first, run_of("b", 1, **default)]) == ["maml"] * 2
    assert labels_of(monkeypatch, [first, run_of("b", 1, gamma=0.5), run_of("c", 2)]) == [
        "maml gamma=0.9",
        "maml gamma=0.5",
        "maml gamma=0.9",
    ]
    policy = {"policy_kwargs": {"hidden_sizes": [4]}}
    assert labels_of(monkeypatch, [first, run_of("b", 1, **policy)]) == [
        "maml policy_kwargs.hidden_sizes=[8,8]",
        "maml policy_kwargs.hidden_sizes=[4]",
    ]
    assert labels_of(monkeypatch, [first, run_of("b", 1, view={"oracle": True})]) == [
        "maml",
        "maml, oracle",
    ]
    assert labels_of(monkeypatch, [first, run_of("b", 1, view={"num_train_tasks": 4})]) == [
        "maml num_train_tasks=null",
        "maml num_train_tasks=4",
    ]
    rounds = labels_of(monkeypatch, [first, second], num_episodes=6)
    assert rounds == ["maml num_episodes=4", "maml num_episodes=6"]


def test_the_same_run_given_twice_is_drawn_once(monkeypatch):
    assert labels_of(monkeypatch, [run_of("a"), run_of("b/../a")]) == ["maml"]
    twins = labels_of(monkeypatch, [run_of("a"), run_of("b")])
    assert twins == ["maml in a", "maml in b"]  # no two seeds, and no one run


def test_the_page_says_whether_its_tasks_are_new(monkeypatch):
    found = [report(0.0)]
    monkeypatch.setattr(reporting, "common_reports", lambda *args: found)
    for tasks, is_new in (("gridnavi", False), ("gridnavi-unseen", True)):
        page = reporting.runs_page([run_of("a", tasks=tasks)], ["held_out"], pictures=False)
        assert ("tasks that are new" in page.question) == is_new


def test_the_page_of_a_study_says_where_its_tasks_are_those_of_training(results):
    maml = find_study("maml")
    evaluations = [each for each in maml.evaluations if "dir" in each.name or "vel" in each.name]
    places = places_for(1.0, results)
    some = replace(maml, evaluations=evaluations, answer="", caveats=(), claims={})
    shown = reporting.study_page(some, places, False).results
    seen = {result.report.split for result in shown if "training tasks" in str(result.report.notes)}
    assert seen == {"half-cheetah-dir-rllab", "ant-dir-rllab"}


def test_the_command_writes_the_page_of_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--set", "trials_per_iteration=4", "--set", "trials_per_minibatch=4"]
    for seed in "01":
        command = ["train", "rl2", "gridnavi", "--total-timesteps", "1", "--seed", seed, *small]
        assert cli.main(command) == 0
    publish.publish(publish.Run.open("runs/rl2-gridnavi-seed1"))
    shutil.rmtree("runs/rl2-gridnavi-seed1")
    names = ["runs/rl2-gridnavi-seed0", "rl2-gridnavi-seed1"]
    assert cli.main(["report", *names, "--output", "page.html"]) == 0
    text = (tmp_path / "page.html").read_text()
    specs = json.loads(re.search(r'id="charts">(.*?)</script>', text)[1])
    seeds = {row["seed"] for row in specs["split-0-episodes"]["layer"][2]["data"]["values"]}
    assert seeds == {0, 1}
    assert "data:image/png;base64," in text
    assert "&quot;trials_per_iteration&quot;: 4" in text  # how it was trained
    assert cli.main(["report", "flat-to-uphill"]) == 2
    error = capsys.readouterr().err
    assert "has no results" in error
    assert "in its repository only: work in a clone" in error


def test_without_its_library_the_page_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    with pytest.raises(ImportError, match=r"pip install 'metarl-suite\[report\]'"):
        page.write_page(tmp_path / "page.html", PAGE)


def test_a_study_shows_an_agent_in_a_usual_task(results):
    study = find_study("more-tasks")
    evaluation = next(each for each in study.evaluations if each.name == "gridnavi-unseen")
    places = places_for(1.0, results)
    (picture,) = reporting._study_pictures(replace(study, evaluations=[evaluation]), places)
    assert picture.data.startswith(b"\x89PNG")
    assert "(right) in the task of gridnavi-unseen in which its return" in picture.caption
