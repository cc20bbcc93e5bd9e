"""Studies and publishing, at toy size: what they write, and that they never do a thing twice."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metarl import envs, evaluate
from metarl.agents import AGENTS, RL2
from metarl.agents.classical.mdps import PSRL
from metarl.agents.presets import find_preset
from metarl.envs import navigation_2d
from metarl.experiments.cli import commands
from metarl.experiments.cli import main as cli
from metarl.experiments.publish import papers as published
from metarl.experiments.publish import published_table
from metarl.experiments.publish import runs as publish
from metarl.experiments.reports.figures import draw_adaptation
from metarl.experiments.runs.loading import family_of
from metarl.experiments.runs.run import Run
from metarl.experiments.studies import classical as study_classical
from metarl.experiments.studies import classical_mdps as study_classical_mdps

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _small_in_a_folder_of_its_own(tmp_path, monkeypatch):
    def find_small(agent, family):
        few = {"num_eval_tasks": 3} | ({"num_eval_episodes": 4} if agent == "maml" else {})
        return replace(find_preset(agent, family), **few)

    monkeypatch.setattr(commands, "find_preset", find_small)
    monkeypatch.chdir(tmp_path)


def train(*arguments):
    assert cli.main(["train", *arguments, "--threads", "1", "--total-timesteps", "1"]) == 0


def test_publish(tmp_path):
    train("rl2", "bandit-10x5", "--run-dir", "run")
    page = "Before\n<!-- results: begin -->\nold\n<!-- results: end -->\nafter\n"
    for path in publish.PAGES[:2]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page)
    publish.main((tmp_path / "run",))
    path, agent_file = sorted(publish.RESULTS.iterdir())
    assert path.name == "rl2-bandit-10x5-seed0.json"
    result = json.loads(path.read_text())
    run = Run.open("run")
    returns = result["report"]["returns"]
    agent = RL2.load(agent_file, envs.make("bandit-10x5"))
    again = evaluate(agent, agent.tasks, **run.config["evaluation"])
    np.testing.assert_array_equal(again.returns, returns)  # whoever has the file can verify it
    assert result["config"] == run.config
    assert result["report"] == json.loads((run.evaluation / "held_out.json").read_text())
    text = publish.PAGES[1].read_text()
    assert text.startswith("Before\n<!-- results: begin -->\n| family |")
    assert text.endswith("|\n<!-- results: end -->\nafter\n")
    cells = [cell.strip() for cell in text.splitlines()[4].split("|")]
    assert cells[1:4] == ["bandit-10x5", "RL2", "0"]
    returns = np.array(result["report"]["returns"])
    assert cells[9].split()[0] == f"{returns.sum(axis=1).mean():.2f}"
    assert cells[10] == str(published.RL2_BANDITS["bandit-10x5"])


def test_a_published_run_is_evaluated_by_its_name(capsys):
    train("rl2", "bandit-10x5", "--run-dir", "run")
    publish.publish(Run.open("run"))
    assert cli.main(["evaluate", "rl2-bandit-10x5-seed0"]) == 0
    unpacked = Path("runs/published/rl2-bandit-10x5-seed0")
    again = json.loads((unpacked / "evaluation/held_out.json").read_text())
    assert again == json.loads(Path("run/evaluation/held_out.json").read_text())
    assert cli.main(["evaluate", "rl2-bandit-10x5-seed1"]) == 2
    assert "is not a run directory" in capsys.readouterr().err


def test_a_published_run_and_a_run_of_that_name_are_two(monkeypatch, capsys):
    name = "rl2-bandit-10x5-seed0"
    train("rl2", "bandit-10x5", "--run-dir", "run")
    publish.publish(Run.open("run"))
    assert cli.main(["evaluate", f"runs/{name}"]) == 2  # what is given does not exist
    error = capsys.readouterr().err
    assert f"there is no run directory 'runs/{name}'; the published run is '{name}'" in error
    assert cli.main(["evaluate", name, "--num-tasks", "2"]) == 0
    own = ["--set", "learning_rate=0.9"]
    train("rl2", "bandit-10x5", *own)  # runs/NAME is free, as nothing was put there
    assert Run.open(f"runs/{name}").config["hyperparameters"]["learning_rate"] == 0.9
    agents = [publish.open_run(each).agent.read_bytes() for each in (name, f"runs/{name}")]
    assert agents[0] == (publish.RESULTS / f"{name}.safetensors").read_bytes() != agents[1]
    capsys.readouterr()
    assert cli.main(["compare", f"runs/{name}", name]) == 0
    shown = capsys.readouterr().out
    assert f"RL2 (runs/{name})" in shown
    assert f"RL2 ({name})" in shown
    monkeypatch.chdir("runs")
    assert publish.open_run(name).directory == Path(name)  # it exists as given


def test_an_unpacked_agent_that_is_not_the_published_one_is_refused():
    train("rl2", "bandit-10x5", "--run-dir", "run")
    publish.publish(Run.open("run"))
    run = publish.open_run("rl2-bandit-10x5-seed0")
    train("rl2", "bandit-10x5", "--run-dir", "other", "--set", "learning_rate=0.9")
    run.agent.write_bytes(Run.open("other").agent.read_bytes())
    with pytest.raises(ValueError, match="holds another agent than the one published as 'rl2"):
        publish.open_run("rl2-bandit-10x5-seed0")


def test_tasks_of_many_numbers_are_left_to_the_seed(capsys):
    train("rl2", "tabular-mdp-2", "--run-dir", "run")
    record = json.loads(publish.publish(Run.open("run")).read_text())
    assert record["report"]["tasks"] == {"family": "tabular-mdp-2", "parameters": {}}
    assert np.shape(record["report"]["returns"]) == (3, 2)
    assert cli.main(["report", "rl2-tabular-mdp-2-seed0", "--output", "page.html"]) == 0
    assert "tabular-mdp-2" in Path("page.html").read_text()
    assert cli.main(["evaluate", "rl2-tabular-mdp-2-seed0"]) == 0
    unpacked = publish.UNPACKED / "rl2-tabular-mdp-2-seed0"
    again = json.loads((unpacked / "evaluation/held_out.json").read_text())
    assert again == json.loads(Path("run/evaluation/held_out.json").read_text())


def test_a_run_that_started_from_another_is_told_apart():
    train("rl2", "bandit-10x5", "--run-dir", "run")
    first = publish.publish(Run.open("run"))
    agent = str(first.with_suffix(".safetensors"))
    train("rl2", "bandit-10x5", "--run-dir", "on", "--start", agent)
    path = publish.publish(Run.open("on"))
    assert path.name == "rl2-bandit-10x5-started-seed0.json"
    records = [json.loads(each.read_text()) for each in (first, path)]
    plain, started = publish.table(records).splitlines()[2:]
    assert "started" not in plain
    assert "M, started from `rl2-bandit-10x5-seed0` |" in started
    plain, started = published_table._rl2(records)
    assert (plain[2], plain[5]) == ("RL²", "1 seed, 3 tasks")
    assert (started[2], started[5]) == ("RL², started from another agent", plain[5])


def test_an_incomplete_run_is_not_published():
    train("rl2", "bandit-10x5", "--run-dir", "run")
    run = Run.open("run")
    run.agent.unlink()
    with pytest.raises(ValueError, match="'run' is not complete"):
        publish.publish(run)
    assert not publish.RESULTS.exists()


def test_study_classical(tmp_path, capsys):
    options = study_classical.Options(num_tasks=5, pulls=(10,), out=tmp_path / "new" / "out.json")
    study_classical.main(options)
    written = options.out.read_bytes()
    record = json.loads(written)
    assert record["versions"]["metarl"]
    assert record["options"]["num_tasks"] == 5
    settings = {(result["num_pulls"], result["num_arms"]) for result in record["results"]}
    assert settings == {(10, 5), (10, 10), (10, 50)}
    learners = [r["learner"] for r in record["results"] if r["num_arms"] == 5]
    assert set(published.CLASSICAL_BANDITS[10, 5]) < set(learners)
    shown = capsys.readouterr().out
    for result in record["results"]:
        assert len(result["returns"]) == 5
        assert all(0 <= value <= 10 for value in result["returns"])
        assert result["learner"] in shown
    with pytest.raises(FileExistsError, match="choose another place with --out"):
        study_classical.main(options)
    assert options.out.read_bytes() == written


def test_study_classical_mdps(tmp_path, capsys):
    options = study_classical_mdps.Options(
        num_tasks=4, episodes=(10, 25), out=tmp_path / "out.json"
    )
    study_classical_mdps.main(options)
    record = json.loads(options.out.read_bytes())
    assert record["command"].endswith("study_classical_mdps")
    shown = capsys.readouterr().out
    by_learner = {}
    for result in record["results"]:
        assert result["learner"] in shown
        assert len(result["returns"]) == 4
        by_learner.setdefault(result["learner"], {})[result["num_episodes"]] = result["returns"]
    assert set(published.CLASSICAL_MDPS[10]) < set(by_learner)
    for returns in by_learner.values():
        assert returns.keys() == {10, 25}
    tasks = envs.make("tabular-mdp-10")
    report = evaluate(PSRL(tasks), tasks, num_tasks=4, seed=0)
    np.testing.assert_allclose(by_learner["PSRL"][10], report.trial_returns, atol=0.006)
    with pytest.raises(FileExistsError, match="choose another place with --out"):
        study_classical_mdps.main(options)
    with pytest.raises(ValueError, match="num_tasks must be at least 2, got 1"):
        study_classical_mdps.main(study_classical_mdps.Options(num_tasks=1, out=tmp_path / "one"))


class Straight:
    """Walks along the first axis, a little faster in each round of episodes."""

    name = "straight"
    episodes_per_adaptation = 2

    def adaptation(self, num_tasks, *, seed=0, deterministic=False):
        return StraightAdaptation(2 * num_tasks)


class StraightAdaptation:
    lockstep = True

    def __init__(self, rows):
        self.speed = np.full(rows, 0.001)

    def act(self, observations):
        return np.stack([self.speed, np.zeros_like(self.speed)], axis=1)

    def observe(self, transition):
        self.speed += 0.001 * transition.episode_end


def test_paths_are_drawn_by_task_and_round(tmp_path):
    path = tmp_path / "new" / "paths.png"
    figure = draw_adaptation(Straight(), navigation_2d(horizon=5), num_tasks=3, path=path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert len(figure.axes) == 3
    for axis in figure.axes:
        *paths, goal = axis.get_lines()
        assert goal.get_marker() == "*"
        ends = [line.get_xydata()[-1] for line in paths]
        np.testing.assert_allclose(ends, [[0.005, 0.0], [0.01, 0.0], [0.015, 0.0]], atol=1e-6)
        assert [len(line.get_xydata()) for line in paths] == [6, 6, 6]


def test_only_the_rounds_that_are_asked_for_are_drawn():
    figure = draw_adaptation(
        Straight(), navigation_2d(horizon=5), num_tasks=1, num_rounds=4, shown=(0, -1)
    )
    first, last, _ = figure.axes[0].get_lines()
    assert first.get_xydata()[-1, 0] == pytest.approx(0.005)
    assert last.get_xydata()[-1, 0] == pytest.approx(0.02)
    assert last.get_label().startswith("round 4: ")


def test_bad_numbers_of_paths():
    with pytest.raises(ValueError, match=r"a parameter 'goal', 'bandit-10x5' has \['p'\]"):
        draw_adaptation(Straight(), envs.make("bandit-10x5"))
    with pytest.raises(ValueError, match="num_tasks must be at least 1"):
        draw_adaptation(Straight(), navigation_2d(), num_tasks=0)


AGENT_FILES = sorted((ROOT / "experiments" / "results" / "runs").glob("*.safetensors"))


@pytest.mark.filterwarnings("ignore:.*was trained on mujoco")  # Python 3.10 has MuJoCo 3.17
@pytest.mark.parametrize("path", AGENT_FILES, ids=lambda path: path.stem)
def test_published_agents_play(path):
    config = json.loads(path.with_suffix(".json").read_text())["config"]
    family = family_of(config)
    agent = AGENTS[config["agent"]].load(path, family, device="cpu")
    assert agent.seed == config["seed"]
    assert agent.num_timesteps >= config["total_timesteps"]
    num_episodes = agent.episodes_per_adaptation
    returns = evaluate(agent, family, num_tasks=2, num_episodes=num_episodes).returns
    assert returns.shape == (2, num_episodes)
