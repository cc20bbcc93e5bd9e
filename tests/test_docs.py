"""The documentation is complete and true: blocks run, commands parse, figures name a command."""

import functools
import importlib.util
import re
import runpy
import shlex
import subprocess
import sys
from fnmatch import fnmatch

import gymnasium
import numpy as np
import pytest
import tyro
from browsers import chromium
from documents import DOCS, PAGES, ROOT, blocks
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple

from metarl import Uniform, envs
from metarl.agents import AGENTS
from metarl.envs import from_gymnasium
from metarl.experiments.cli import main as cli
from metarl.experiments.studies import list_studies

PYTHON = [block for page in PAGES for block in blocks(page, "python")]
SHELL = [block for page in PAGES for block in blocks(page, "bash", "sh", "console")]

# Examples that other tests run, to look at what they give.
ELSEWHERE = {
    **dict.fromkeys(("training.md", "evaluation.md", "histories.md"), "test_guides.py"),
    **dict.fromkeys(("studies.md", "resume.md"), "test_guides.py"),
    **dict.fromkeys(("your_environment.md", "batched_families.md"), "test_examples.py"),
    "deployment.md": "test_deployment.py",
    **dict.fromkeys(("README.md", "stable_baselines3.md"), "test_readme.py"),
}
HERE = [block for block in PYTHON if block.is_run and block.page.name not in ELSEWHERE]


def parse(arguments: list[str]) -> None:
    """Parse a command line of metarl without running it.

    Raises:
        SystemExit: If the parser does not accept it.
    """
    commands = {
        name: functools.wraps(command)(lambda *args, **kwargs: None)
        for name, command in cli.COMMANDS.items()
    }
    tyro.extras.subcommand_cli_from_dict(commands, args=arguments)


def check_command(line: str) -> bool:
    """Check a command of metarl or of one of its modules; return whether it is one."""
    words = shlex.split(line, comments=True)
    if "&" in words:
        words.remove("&")
    if words[:1] == ["metarl"]:
        if words[1:] not in (["--version"], ["-V"], []):
            parse(words[1:])
        return True
    if words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2]) is not None, line
        return True
    if words[:1] == ["python"]:
        return (ROOT / words[1]).is_file()
    return False


def run_by_heading():
    """Return the code of the blocks that tests/test_readme.py finds by what stands before them."""
    found = set()
    source = (ROOT / "tests" / "test_readme.py").read_text()
    for before in re.findall(r'python_block\("([^"]+)"', source):
        for page in PAGES:
            after = page.read_text().partition(before)[2]
            found |= set(re.findall(r"```python\n(.*?)```", after, re.DOTALL)[:1])
    return found


def test_every_block_of_python_is_run_or_says_why_not():
    assert len(PYTHON) > 25
    found = run_by_heading()
    unmarked = [block for block in PYTHON if block.is_run and block.example is None]
    assert [str(block) for block in unmarked if block.code not in found] == []
    guides = (ROOT / "tests" / "test_guides.py").read_text()
    for block in PYTHON:
        if block.example and ELSEWHERE.get(block.page.name) == "test_guides.py":
            assert f'"{block.example}"' in guides, block


@pytest.mark.parametrize("block", HERE, ids=str)
def test_an_example_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / block.example).write_text(block.code)
    runpy.run_path(block.example, run_name="__main__")


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_commands_parse(block):
    lines = block.code.replace("\\\n", " ").splitlines()
    # Where a script of a cluster fills in numbers, there is nothing to parse.
    commands = [line.strip() for line in lines if block.is_run or "$" not in line]
    found = [check_command(line) for line in commands]
    assert any(found) or not block.is_run or block.mark.startswith("command: ")


@pytest.mark.parametrize("line", ["metarl train rl2", "metarl list --no-such-option"])
def test_a_wrong_command_does_not_parse(line):
    with pytest.raises(SystemExit):
        check_command(line)


def figure_commands():
    """Return the pattern and the command of each row of the page of figures."""
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \|$", (DOCS / "figures.md").read_text(), re.M)
    studies = re.findall(r"^([\w-]+):", list_studies(), re.M)
    return [
        (pattern.replace("STUDY", study), command.replace("STUDY", study))
        for pattern, command in rows
        for study in (studies if "STUDY" in command else ("",))
    ]


def test_every_figure_names_its_command():
    table = figure_commands()
    shown = {
        (page.parent / target).resolve().relative_to(DOCS).as_posix()
        for page in PAGES
        for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text())
    }
    files = {
        path.relative_to(DOCS).as_posix()
        for kind in ("png", "webp", "gif", "svg")
        for path in DOCS.rglob(f"*.{kind}")
        if "_build" not in path.parts
    }
    assert shown == files  # none is missing, and none is left over
    assert len(shown) > 30
    for figure in shown:
        assert any(fnmatch(figure, pattern) for pattern, _ in table), figure
    assert all(check_command(command) for _, command in table)


def test_every_family_is_on_a_page():
    text = "".join(page.read_text() for page in (DOCS / "families").glob("*.md"))
    listed = " ".join(re.findall(r"^\.\. families:: (.*)$", text, re.M)).split()
    assert sorted(listed) == sorted(envs.names())


def test_every_agent_is_on_a_page():
    text = "".join(page.read_text() for page in (DOCS / "agents").glob("*.md"))
    for agent in AGENTS.values():
        assert re.search(rf"^\.\. autoclass:: {agent.__name__}$", text, re.M), agent


def test_facts_about_families_are_read_from_them(monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(DOCS / "_ext")
    import generated

    slope, navi = envs.make("half-cheetah-slope"), envs.make("gridnavi-unseen")
    assert generated.in_words(slope.parameters["degrees"]) == "U(-10, 10)"
    assert "``steep``: degrees U(15, 20)" in generated.splits_in_words(slope)
    assert generated.splits_in_words(navi).endswith("``held_out``: 5 tasks")
    _, rows = generated.rows_of("results/runs.md", "<!-- results: begin -->")
    assert len(rows) > 100
    assert {len(row) for row in rows} == {9}


# What docs/which_agent.md says of spaces.

VECTOR = Box(-1.0, 1.0, (3,), np.float32)
FOR_ALL = {
    "vectors": (VECTOR, Discrete(2)),
    "discrete observations": (Discrete(3), Discrete(2)),
    "Dict or Tuple": (Dict({"a": VECTOR, "b": Discrete(2)}), Discrete(2)),
    "continuous": (VECTOR, Box(-1.0, 1.0, (2,), np.float32)),
    "MultiDiscrete": (VECTOR, MultiDiscrete([2, 3])),
}
IN_TABLE = {
    "images": (Box(0, 255, (12, 12, 3), np.uint8), Discrete(2)),
    "Tuple, Dict actions": (VECTOR, Tuple([Discrete(2), Box(-1.0, 1.0, (1,), np.float32)])),
}


def family_with(observation_space, action_space):
    class Env(gymnasium.Env):
        def __init__(self, p):
            self.observation_space, self.action_space = observation_space, action_space

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return observation_space.sample(), {}

        def step(self, action):
            return observation_space.sample(), 0.0, False, False, {}

    return from_gymnasium(Env, {"p": Uniform(0.0, 1.0)}, name="spaces", horizon=3)


def takes(agent, spaces):
    try:
        AGENTS[agent](family_with(*spaces), seed=0).close()
    except (TypeError, ValueError):
        return "no"
    return "yes"


def test_the_table_of_spaces_is_true():
    text = (DOCS / "which_agent.md").read_text()
    lines = text[text.index("| agent |") :].partition("\n\n")[0].splitlines()
    head, _, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in lines)
    named = [re.findall("`(.+?)`", row[0]) for row in rows]
    assert sorted(agent for agents in named for agent in agents) == sorted(AGENTS)
    assert all(words in text for words in FOR_ALL)
    for agent, row in ((agent, row) for agents, row in zip(named, rows) for agent in agents):
        said = dict(zip(head, row))
        for name, spaces in FOR_ALL.items():
            assert takes(agent, spaces) == "yes", (agent, name)
        for name, spaces in IN_TABLE.items():
            assert takes(agent, spaces) == said[name].replace("as numbers", "yes"), (agent, name)
        assert AGENTS[agent].divisible == (said["several processes"] == "yes"), agent


PAGES_LOOKED_AT = (
    *("index", "start", "concepts", "your_environment", "training", "evaluation", "which_agent"),
    *("agents/rl2", "families/games", "results/runs", "results/flat-to-uphill", "extending"),
)


@pytest.mark.slow
def test_the_site_is_accessible_and_fits(tmp_path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    api = pytest.importorskip("playwright.sync_api")
    build = [sys.executable, "-m", "sphinx", "-W", "-q", str(DOCS), str(tmp_path)]
    subprocess.run(build, check=True)
    found = {}
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        for width, scheme in ((390, "dark"), (390, "light"), (1440, "dark"), (1440, "light")):
            tab = browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=scheme
            ).new_page()
            for page in PAGES_LOOKED_AT:
                tab.goto((tmp_path / f"{page}.html").as_uri())
                wrong = [each["id"] for each in axe.Axe().run(tab).response["violations"]]
                if tab.evaluate("document.documentElement.scrollWidth") > width:
                    wrong.append("wider than the screen")
                if wrong:
                    found[page, width, scheme] = wrong
    assert found == {}
