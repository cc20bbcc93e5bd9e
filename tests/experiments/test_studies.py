"""Studies and publishing, at toy size: what they write, and that they never do a thing twice."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metarl import Tasks, envs, evaluate
from metarl.agents import AGENTS, RL2
from metarl.agents.classical.mdps import PSRL
from metarl.agents.presets import find_preset
from metarl.envs import navigation_2d
from metarl.evaluation.archive import archive_files, read_archive, write_archive
from metarl.experiments.cli import commands
from metarl.experiments.cli import main as cli
from metarl.experiments.publish import papers as published
from metarl.experiments.publish import published_table
from metarl.experiments.publish import runs as publish
from metarl.experiments.reports.figures import draw_adaptation
from metarl.experiments.runs.loading import family_of
from metarl.experiments.runs.records import load_training
from metarl.experiments.runs.run import Run
from metarl.experiments.studies import classical as study_classical
from metarl.experiments.studies import classical_mdps as study_classical_mdps

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def _small():
    def find_small(agent, family):
        return replace(find_preset(agent, family), num_eval_tasks=3)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "find_preset", find_small)
        yield


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def train(*arguments):
    assert cli.main(["train", *arguments, "--threads", "1", "--total-timesteps", "1"]) == 0


@pytest.fixture(scope="module")
def trained(_small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train("rl2", "bandit-10x5", "--run-dir", str(folder / "run"))
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    """A trained run, in the folder ``run``."""
    return Run.open(Path(shutil.copytree(trained, tmp_path / "run")).relative_to(tmp_path))


def test_publish(run, tmp_path):
    page = "Before\n<!-- results: begin -->\nold\n<!-- results: end -->\nafter\n"
    for path in publish.PAGES[:2]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page)
    publish.main((tmp_path / "run",))
    path, agent_file, tasks = sorted(publish.RESULTS.iterdir())
    assert path.name == "rl2-bandit-10x5-seed0.npz"
    assert len(list(tasks.iterdir())) == 1
    header, arrays = read_archive(path)
    result = load_training(path)
    returns = result["report"].returns
    agent = RL2.load(agent_file, envs.make("bandit-10x5"))
    again = evaluate(agent, agent.tasks, **run.config["evaluation"])
    np.testing.assert_array_equal(again.returns, returns)  # whoever has the file can verify it
    assert result["config"] == run.config
    own_header, own_arrays = read_archive(run.evaluation / "held_out.npz")
    assert header["report"] == own_header
    assert arrays.keys() == own_arrays.keys()
    assert all(np.array_equal(arrays[name], own_arrays[name]) for name in arrays)
    text = publish.PAGES[1].read_text()
    assert text.startswith("Before\n<!-- results: begin -->\n| family |")
    assert text.endswith("|\n<!-- results: end -->\nafter\n")
    cells = [cell.strip() for cell in text.splitlines()[4].split("|")]
    assert cells[1:4] == ["bandit-10x5", "RL2", "0"]
    assert cells[9].split()[0] == f"{returns.sum(axis=1).mean():.2f}"


def test_a_published_run_is_evaluated_by_its_name(run, capsys, monkeypatch):
    publish.publish(run)
    assert cli.main(["evaluate", "rl2-bandit-10x5-seed0"]) == 0
    unpacked = Path("runs/published/rl2-bandit-10x5-seed0")
    again = (unpacked / "evaluation/held_out.npz").read_bytes()
    assert again == Path("run/evaluation/held_out.npz").read_bytes()
    assert cli.main(["evaluate", "rl2-bandit-10x5-seed99"]) == 2
    assert "did you mean 'rl2-bandit-10x5-seed0'?" in capsys.readouterr().err
    monkeypatch.setattr(publish, "INSTALLED", Path("nothing"))  # of the wheel, this one lacks
    assert cli.main(["evaluate", "rl2-gridnavi-unseen-seed0"]) == 2
    assert "is in the repository and not in the wheel" in capsys.readouterr().err


def test_a_published_run_and_a_run_of_that_name_are_two(run, monkeypatch, capsys):
    name = "rl2-bandit-10x5-seed0"
    publish.publish(run)
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
    assert f"(runs/{name})" in shown  # on a line of its own where the table is too wide
    assert f"RL2 ({name})" in shown
    monkeypatch.chdir("runs")
    assert publish.open_run(name).directory == Path(name)  # it exists as given


def test_an_agent_that_was_not_kept_can_be_had(run, capsys):
    record = publish.publish(run)
    record.with_suffix(".safetensors").unlink()
    assert cli.main(["evaluate", record.stem]) == 2
    command = load_training(record)["config"]["command"]
    kept = f"the agent of the published run {record.stem!r} is not kept here: "
    assert f"{kept}train it again with: {command}" in capsys.readouterr().err
    header, arrays = read_archive(record)
    where = "0123abc:experiments/results/runs/x.safetensors"
    write_archive(record, {**header, "agent_in_history": where}, arrays)
    assert cli.main(["evaluate", record.stem]) == 2
    assert f"{kept}git show {where} has it" in capsys.readouterr().err
    assert record.stem not in publish.RESULTS.glob("*.safetensors")


def test_agents_that_come_with_metarl_are_found_from_any_folder(run, monkeypatch, tmp_path, capsys):
    record = publish.publish(run, Path("installed/mine-seed0.npz"))
    monkeypatch.setattr(publish, "INSTALLED", record.parent.resolve())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cli.main(["evaluate", "mine-seed0", "--num-tasks", "2"]) == 0
    assert Path("runs/published/mine-seed0/agent.safetensors").is_file()


WHEEL = re.findall(r'"results/runs/([\w.-]+)\.\*"', (ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("name", WHEEL)
def test_agents_of_the_wheel_are_whole(name):
    folder = ROOT / "experiments" / "results" / "runs"
    own, shared = archive_files(folder / f"{name}.npz")[::-1]
    assert own.with_suffix(".safetensors").is_file()
    assert shared.parent == folder / "tasks"


@pytest.mark.usefixtures("results")
def test_the_wheel_has_the_agents_that_pages_name():
    names = "|".join(re.escape(path.stem) for path in publish.INSTALLED.glob("*.npz"))
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {name for page in pages for name in re.findall(rf"(?<!/)({names})", page.read_text())}
    assert "rl2-gridnavi-seed0" in named
    assert named <= set(WHEEL)


def test_an_unpacked_agent_that_is_not_the_published_one_is_refused(run):
    publish.publish(run)
    run = publish.open_run("rl2-bandit-10x5-seed0")
    train("rl2", "bandit-10x5", "--run-dir", "other", "--set", "learning_rate=0.9")
    run.agent.write_bytes(Run.open("other").agent.read_bytes())
    with pytest.raises(ValueError, match="holds another agent than the one published as 'rl2"):
        publish.open_run("rl2-bandit-10x5-seed0")


def test_tasks_of_many_numbers_are_left_to_the_seed(capsys):
    few = ["--set", "trials_per_iteration=2", "--set", "trials_per_minibatch=2"]
    train("rl2", "tabular-mdp-2", "--run-dir", "run", *few)
    report = load_training(publish.publish(Run.open("run")))["report"]
    assert report.tasks == Tasks("tabular-mdp-2", {})
    assert report.returns.shape == (3, 2)
    assert cli.main(["report", "rl2-tabular-mdp-2-seed0", "--output", "page.html"]) == 0
    assert "tabular-mdp-2" in Path("page.html").read_text()
    assert cli.main(["evaluate", "rl2-tabular-mdp-2-seed0"]) == 0
    unpacked = publish.UNPACKED / "rl2-tabular-mdp-2-seed0"
    again = (unpacked / "evaluation/held_out.npz").read_bytes()
    assert again == Path("run/evaluation/held_out.npz").read_bytes()


def test_a_run_that_started_from_another_is_told_apart(run):
    first = publish.publish(run)
    agent = str(first.with_suffix(".safetensors"))
    train("rl2", "bandit-10x5", "--run-dir", "on", "--start", agent)
    path = publish.publish(Run.open("on"))
    assert path.name == "rl2-bandit-10x5-started-seed0.npz"
    records = [load_training(each) for each in (first, path)]
    plain, started = publish.table(records).splitlines()[2:]
    assert "started" not in plain
    assert "M, started from `rl2-bandit-10x5-seed0` |" in started
    plain, started = published_table._rl2(records)
    assert (plain[2], plain[5]) == ("RL²", "1 seed, 3 tasks")
    assert (started[2], started[5]) == ("RL², started from another agent", plain[5])


def test_an_incomplete_run_is_not_published(run):
    run.agent.unlink()
    with pytest.raises(ValueError, match="'run' is not complete"):
        publish.publish(run)
    assert not publish.RESULTS.exists()


def test_study_classical(tmp_path, capsys):
    options = study_classical.Options(num_tasks=5, pulls=(10,), out=tmp_path / "new" / "out.npz")
    study_classical.main(options)
    written = options.out.read_bytes()
    record, arrays = read_archive(options.out)
    assert record["versions"]["metarl"]
    assert record["options"]["num_tasks"] == 5
    settings = {(result["num_pulls"], result["num_arms"]) for result in record["results"]}
    assert settings == {(10, 5), (10, 10), (10, 50)}
    learners = [r["learner"] for r in record["results"] if r["num_arms"] == 5]
    assert set(published.CLASSICAL_BANDITS[10, 5]) < set(learners)
    shown = capsys.readouterr().out
    assert arrays["returns"].shape == (len(record["results"]), 5)
    assert ((arrays["returns"] >= 0) & (arrays["returns"] <= 10)).all()
    for result in record["results"]:
        assert result["learner"] in shown
    with pytest.raises(FileExistsError, match="choose another place with --out"):
        study_classical.main(options)
    assert options.out.read_bytes() == written


def test_study_classical_mdps(tmp_path, capsys):
    options = study_classical_mdps.Options(num_tasks=2, episodes=(10,), out=tmp_path / "out.npz")
    study_classical_mdps.main(options)
    record, arrays = read_archive(options.out)
    assert record["command"].endswith("studies.classical_mdps")
    shown = capsys.readouterr().out
    by_learner = {}
    assert arrays["returns"].shape == (len(record["results"]), 2)
    for result, returns in zip(record["results"], arrays["returns"]):
        assert result["learner"] in shown
        by_learner.setdefault(result["learner"], {})[result["num_episodes"]] = returns
    assert set(published.CLASSICAL_MDPS[10]) < set(by_learner)
    for returns in by_learner.values():
        assert returns.keys() == {10}
    tasks = envs.make("tabular-mdp-10")
    report = evaluate(PSRL(tasks), tasks, num_tasks=2, seed=0)
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
    synchronous = True

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
    assert last.get_label().startswith("round 4, mean return ")


def test_bad_numbers_of_paths():
    with pytest.raises(ValueError, match=r"a parameter 'goal', 'bandit-10x5' has \['p'\]"):
        draw_adaptation(Straight(), envs.make("bandit-10x5"))
    with pytest.raises(ValueError, match="num_tasks must be at least 1"):
        draw_adaptation(Straight(), navigation_2d(), num_tasks=0)


AGENT_FILES = sorted((ROOT / "experiments" / "results" / "runs").glob("*.safetensors"))


@pytest.mark.filterwarnings("ignore:.*was trained on mujoco")  # Python 3.10 has MuJoCo 3.17
@pytest.mark.parametrize(
    "path",
    [
        # Meta-World builds its environments for seconds.
        pytest.param(each, marks=[pytest.mark.slow] if "ml1" in each.stem else [])
        for each in AGENT_FILES
    ],
    ids=lambda path: path.stem,
)
def test_published_agents_play(path):
    config = load_training(path.with_suffix(".npz"))["config"]
    family = family_of(config)
    agent = AGENTS[config["agent"]].load(path, family, device="cpu")
    assert agent.seed == config["seed"]
    assert agent.num_timesteps >= config["total_timesteps"]
    num_episodes = agent.episodes_per_adaptation
    returns = evaluate(agent, family, num_tasks=2, num_episodes=num_episodes).returns
    assert returns.shape == (2, num_episodes)
