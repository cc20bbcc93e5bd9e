"""What the README shows works: its Python is run as it stands."""

import re
import runpy
from pathlib import Path

import pytest

from metarl import check_tasks, evaluate
from metarl.agents import MAML, RL2
from metarl.envs import make
from metarl.experiments.publish import index
from metarl.experiments.publish import runs as publish

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def python_block(after: str, page: str = README) -> str:
    match = re.search(r"```python\n(.*?)```", page[page.index(after) :], re.DOTALL)
    assert match is not None
    return match[1]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_from_python(tmp_path):
    (tmp_path / "example.py").write_text(python_block("## From Python"))
    shown = runpy.run_path("example.py")
    assert shown["report"].returns.shape == (40, 10)
    assert (tmp_path / "curve.png").stat().st_size > 0
    assert (tmp_path / "evaluation" / "held_out.npz").is_file()
    assert list((tmp_path / "runs").glob("*/events.out.tfevents.*"))


def test_your_own_environment(tmp_path, monkeypatch):
    (tmp_path / "my_tasks.py").write_text(python_block("## Your own environment"))
    tasks = runpy.run_path("my_tasks.py")["tasks"]
    assert check_tasks(tasks, num_steps=50).passed
    agent = RL2(tasks, trials_per_iteration=4, trials_per_minibatch=2, seed=0)
    agent.learn(1)
    assert evaluate(agent, tasks, num_tasks=2).returns.shape == (2, 3)


def test_acting_in_one_environment():
    page = (ROOT / "docs" / "your_environment.md").read_text()
    code = python_block("To act with a trained agent", page)
    tasks = make("navigation-2d")
    for agent in (RL2(tasks), MAML(tasks)):
        own = code.replace("agent.adaptation(1)  ", "agent.adaptation(1, **sequential)  ")
        names = {"tasks": tasks, "agent": agent, "sequential": {}}
        if isinstance(agent, MAML):
            names["sequential"] = {"sequential": True}
        exec(own, names)
        assert names["played"].returns.shape == (1, 3)


def test_stable_baselines3_on_both_sides(tmp_path):
    page = (ROOT / "docs" / "stable_baselines3.md").read_text()
    (tmp_path / "example.py").write_text(python_block("# Stable-Baselines3", page))
    assert runpy.run_path("example.py")["report"].returns.shape == (40, 3)


def test_maml_is_evaluated_before_and_after_adaptation():
    page = (ROOT / "docs" / "stable_baselines3.md").read_text()
    names = {}
    exec(python_block("## Callbacks", page), names)
    # Without an inner step, the same policy would earn the same from the same seeds.
    assert names["before"] != names["after"]


def test_the_environment_example_is_ten_lines_or_fewer():
    code = python_block("## Your own environment")
    environment = code[code.index("def make_env") : code.index("tasks = ")]
    assert len(environment.strip().splitlines()) <= 10


def test_files_to_read_exist():
    listed = re.findall(r"`((?:metarl|agents|envs|experiments)/[\w/]+\.py)`", README)
    assert len(listed) >= 5
    for name in listed:
        assert (ROOT / name).is_file(), name


@pytest.mark.usefixtures("results")
def test_tables_equal_the_stored_results(monkeypatch):
    monkeypatch.chdir(ROOT)
    records, found = publish.load_results(), set()
    for path in publish.PAGES:
        page = path.read_text()
        names = re.findall("<!-- (.*): begin -->", page)
        spoilt = page
        for name in names:  # a marker without stored results would stay so
            begin = f"<!-- {name}: begin -->\n"
            spoilt = spoilt.replace(begin, f"{begin}spoilt")
        assert publish.with_tables(spoilt, records) == page
        found |= set(names)
    assert found == {"results", "highlights", "published"}


@pytest.mark.usefixtures("results")
def test_the_index_equals_the_stored_results(monkeypatch):
    monkeypatch.chdir(ROOT)
    made = index.as_lines(publish.present_index(publish.load_results()))
    assert made == index.INDEX.read_text()


@pytest.mark.usefixtures("results")  # to which some lead
def test_links_lead_somewhere():
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_has_pictures_and_links():
    assert len(re.findall(r"!\[[^\]]+\]\(", README)) >= 2  # with words for who cannot see them
    assert len(re.findall(r"(?<!!)\[[^\]]+\]\(", README)) >= 10
