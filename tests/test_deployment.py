"""The guide to deployment: its scripts act as the agents do, in Python and in a browser."""

import functools
import http.server
import re
import runpy
import shutil
import threading
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from browsers import chromium
from deployed import BOX, Life, interface, shaken
from gymnasium import spaces
from test_guides import DOCS, example

from metarl import Task, agents, envs
from metarl.agents import RL2
from metarl.agents.training.checkpoint import load_checkpoint
from metarl.agents.training.interface import TaskInterface
from metarl.experiments.cli.main import main

PAGE = DOCS / "deployment.md"
PUBLISHED = DOCS.parent / "experiments" / "results" / "runs" / "rl2-gridnavi-seed0.safetensors"
ROBOT = spaces.Box(np.float32(-2.0), np.float32(1.0), (3,))


@pytest.fixture(scope="module")
def searching():
    """Return the published agent, as a file that is enough to act, and its folder."""
    return RL2.load(PUBLISHED, envs.make("gridnavi"))


@pytest.fixture
def folder(tmp_path, monkeypatch, searching):
    monkeypatch.chdir(tmp_path)
    searching.save("agent.safetensors", with_optimizers=False)
    return tmp_path


def best(goal):
    """Return what an episode earns that goes straight to the goal and stays there."""
    distance = sum(goal)
    return 16 - distance - 0.1 * (distance - 1)


def script(name):
    Path(name).write_text(example(name, PAGE))
    return runpy.run_path(name)


def test_a_session_finds_the_goal_and_goes_on_after_a_restart(folder):
    shown = script("session.py")
    first, *later = shown["returns"]
    assert first < min(later)
    assert later == pytest.approx([best((4, 4))] * 3)
    env = gymnasium.make("metarl/GridNavi-v0")
    observation, _ = env.reset(seed=0)
    assert env.action_space.contains(shown["session"].act(observation))


def test_a_run_is_exported_on_the_command_line(folder, capsys):
    pytest.importorskip("onnx")
    for name in ("out.safetensors", "out.onnx"):
        assert main(["export", PUBLISHED.stem, "--to", name]) == 0
        assert f"{name}, {Path(name).stat().st_size / 1000:,.0f} kB" in capsys.readouterr().out
    assert agents.load("out").name == "RL2"
    assert Path("out.onnx").stat().st_size < Path("out.safetensors").stat().st_size
    assert main(["export", PUBLISHED.stem, "--to", "out.zip"]) == 2
    assert "ends in .onnx or .safetensors, got 'out.zip'" in capsys.readouterr().err


def test_files_of_published_agents_are_enough_to_act():
    for path in PUBLISHED.parent.glob("*.safetensors"):
        assert TaskInterface.from_json(load_checkpoint(path)[1]).horizon >= 1, path
    seed_0, seed_1 = (agents.load(PUBLISHED.with_stem(f"rl2-gridnavi-seed{n}")) for n in (0, 1))
    assert seed_0.session(seed=0).act(np.zeros(2)) in range(5)
    assert seed_0.interface.features == seed_1.interface.features == {"goal": (2, None)}


def robot(memory, action_space):
    return shaken(
        RL2(
            interface(BOX, action_space),
            seed=0,
            normalize_reward=True,
            policy_kwargs={"hidden_size": 16, "memory": memory},
        ),
        0.1,
    )


@pytest.mark.parametrize(
    ("name", "modules"),
    [("run_numpy.py", ["json", "numpy"]), ("run_onnx.py", ["json", "numpy", "onnxruntime"])],
    ids=["numpy", "onnx"],
)
@pytest.mark.parametrize("memory", ["gru", "lstm"])
@pytest.mark.parametrize("action_space", [ROBOT, spaces.Discrete(4, start=2)], ids=["box", "four"])
def test_a_script_without_metarl_acts_as_the_agent_does(
    name, modules, memory, action_space, folder
):
    agent = robot(memory, action_space)
    path = "agent.safetensors"
    if name == "run_onnx.py":
        pytest.importorskip("onnxruntime")
        path = "agent.onnx"
        agent.export(path)
    else:
        agent.save(path)
    source = example(name, PAGE)
    assert re.findall(r"^import (\w+)", source, re.MULTILINE) == modules
    acting = script(name)["Agent"](path)
    session, life = agent.session(deterministic=True), Life(BOX, 60)
    expected = life.lived(session)
    for step, action in enumerate(expected):
        np.testing.assert_allclose(acting.act(life.observations[step]), action, atol=2e-6)
        acting.observe(life.rewards[step], life.ends[step])
    acting.start()
    np.testing.assert_allclose(acting.act(life.observations[0]), expected[0], atol=2e-6)


# The page that runs an agent.


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    """Open the page as it is served beside the published agent."""
    from playwright.sync_api import sync_playwright

    executable = chromium()
    site = tmp_path_factory.mktemp("site")
    for path in (DOCS / "try_it" / "try-it.html", PUBLISHED):
        shutil.copy(path, site)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=site)
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1440, "height": 900})
        trouble = []
        tab.on("console", lambda message: trouble.append(message.text))
        tab.on("pageerror", lambda error: trouble.append(str(error)))
        tab.goto(f"http://127.0.0.1:{server.server_port}/try-it.html")
        tab.wait_for_function("agent !== undefined")
        yield tab
        browser.close()
    server.shutdown()
    server.server_close()
    thread.join()
    assert [text for text in trouble if "favicon" not in text] == []


def test_the_rules_of_the_page_are_those_of_the_environment(tab):
    env = envs.make("gridnavi").make_vec(1)
    rng = np.random.default_rng(0)
    for task in envs.make("gridnavi").sample("train", 21, seed=0):
        actions = rng.integers(5, size=15).tolist()
        env.set_tasks([task])
        env.reset(seed=0)
        rewards = [float(env.step(np.array([action]))[1][0]) for action in actions]
        shown = tab.evaluate(
            """([actions, goal]) => { let position = [0, 0]; return actions.map((action) => {
            const after = step(position, action, goal); position = after.position;
            return after.reward; }) }""",
            [actions, [int(n) for n in task["goal"]]],
        )
        assert shown == pytest.approx(rewards)


def test_the_agent_of_the_page_is_the_published_one(tab, searching):
    for goal in ([4, 4], [0, 2], [3, 1], [2, 4]):
        env = envs.make("gridnavi").make_vec(1)
        env.set_tasks([Task("gridnavi", {"goal": goal})])
        session, (seen, _) = searching.session(deterministic=True), env.reset(seed=0)
        expected = []
        for _ in range(60):
            action = session.act(seen[0])
            seen, reward, terminated, truncated, info = env.step(np.array([action]))
            last = info["final_obs"] if truncated[0] else seen
            session.observe(last[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]))
            expected.append([int(action), pytest.approx(float(reward[0]))])
        shown = tab.evaluate(
            "(goal) => play(agent, goal).flat().map(({action, reward}) => [action, reward])", goal
        )
        assert shown == expected
        assert sum(reward for _, reward in shown[45:]) == pytest.approx(best(goal))


def test_a_click_moves_the_goal_and_the_agent_finds_it_again(tab):
    tab.get_by_label("column 1, row 5").first.click()
    tab.get_by_text("Show the end").click()
    assert tab.evaluate("goal") == [0, 4]
    shown = tab.locator(".result").all_inner_texts()
    assert len(shown) == 4
    assert shown[3] == f"Return {best((0, 4)):.1f}, goal after 4 steps"
    assert tab.get_by_label(", the goal").count() == 4
    assert tab.locator("#status").inner_text().startswith("Returns ")
    assert tab.get_by_label("column 1, row 1").first.is_disabled()
    tab.set_viewport_size({"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.set_viewport_size({"width": 1440, "height": 900})
