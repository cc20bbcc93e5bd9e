"""The command line: what its commands do, and what they keep."""

import contextlib
import importlib.metadata
import io
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from command_line import SMALL, contents, edit, small_evaluations, train_two, write_family

from metarl import Report, envs
from metarl.agents import AGENTS, RL2
from metarl.agents.presets import find_preset
from metarl.agents.training.config import describe
from metarl.evaluation.report import versions
from metarl.experiments.cli import commands, comparing
from metarl.experiments.cli import main as cli
from metarl.experiments.cli.main import main
from metarl.experiments.cli.overrides import parse_overrides
from metarl.experiments.publish.runs import published_agents


@pytest.fixture(scope="module", autouse=True)
def _small_evaluations():
    with small_evaluations():
        yield


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_two(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a run that a test may spoil."""
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_names_every_command(arguments, capsys):
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "required" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    for command in cli.COMMANDS:
        assert re.search(rf"^  {command} +[A-Z]", shown, re.M), command


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_has_one_default_for_an_option_and_no_markup(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "None" not in shown
    assert "`" not in shown
    assert not re.search(r"default: ?\)", shown)
    options = re.split(r" (?=--)", " ".join(shown.replace("│", " ").split()))
    assert max(option.count("(default:") for option in options) <= 1
    if command == "report":
        assert any(each.startswith("--no-pictures Leave out the pictures") for each in options)
        assert "(default: True)" not in shown
    if command == "train":
        for option, default in (("--total-timesteps INT", "the preset's"), ("--seed INT", "0")):
            (found,) = (each for each in options if each.startswith(option))
            assert f"(default: {default})" in found
        for agent in AGENTS:
            assert f" {agent}" in shown


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_that_of_all_that_results_depend_on(option, capsys):
    assert main([option]) == 0
    expected = versions()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"metarl {expected['metarl']} (")
    for name in ("python", "torch", "mujoco"):
        assert f"{name} {expected[name]}" in line


def test_list_shows_the_preset_that_train_takes(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["list", "rl2", "gridnavi"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^ gamma +float +0\.98 ", shown, re.M)
    assert re.search(r"^ memory .* \"lstm\" ", shown, re.M)
    assert re.search(r"^ clip_range +float +0\.2 ", shown, re.M)  # a default
    assert "This is the preset of gridnavi*; it trains for 3,000,000 env steps" in shown
    assert main(["list", "rl2"]) == 0
    assert "metarl list rl2 TASKS" in capsys.readouterr().out
    assert main(["list", "gridnavi", "rl2"]) == 2
    assert "unknown agent 'gridnavi'" in capsys.readouterr().err


@pytest.mark.parametrize("columns", ["80", "200"])
def test_list_never_cuts_a_name(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    families = {name: envs.make(name) for name in envs.names()}
    groups = {tasks.varying_factor for tasks in families.values()}
    for name in {*families, *groups, *AGENTS}:
        assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", shown), name
    for group in groups:
        assert main(["list", group]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= int(columns)
        members = {name: tasks for name, tasks in families.items() if tasks.varying_factor == group}
        starts = [re.match(r" (\S+)", line) for line in lines[2:]]
        assert [start[1] for start in starts if start] == list(members)
        for tasks in members.values():
            for word in (*tasks.splits, *tasks.description.split()):
                assert word in " ".join(lines), word


@pytest.mark.parametrize("columns", ["80", "200"])
def test_list_shows_a_family_in_full(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["list", "gridnavi"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= int(columns)
    shown = " ".join(" ".join(lines).split())
    for text in (
        "observation Box(0.0, 4.0, (2,), float32)",
        "action Discrete(5)",
        "reward 1 if the goal is where the step ends, else -0.1",
        "trial 4 episodes of at most 15 steps",
        "parameter goal: Cell(size=5, nearest=2, shape=(2,))",
        "split held_out: 21 tasks",
        "note gridnavi is evaluated on its 21 training tasks",
        "references random, bayes-optimal, known-goal",
        "rl2 3,000,000 6 to 11 min anneal=true,",
        "rl2 3 3,002,880 3.98 11.1",
        "agents, for metarl evaluate: rl2-gridnavi-seed0,",
    ):
        assert text in shown, text
    assert "navigation-2d" not in shown


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("half-cheetah-dir", "reward direction * v_x - 0.05 * sum(action^2)"),
        ("half-cheetah-climb", "uphill: a continuum of tasks, with degrees EitherSide(low=10.0"),
        ("half-cheetah-terrain", "reward progress + healthy_reward"),
        ("bandit-flip", "reward 1 with probability p[action], else 0"),
        ("bandit-3x2", "trial 3 episodes of at most 1 step "),  # a pattern's
        ("risks:tasks", "reward that of the environment"),  # your own
    ],
)
def test_list_shows_what_families_differ_in(family, text, capsys):
    write_family("risks", "risk")
    assert main(["list", family]) == 0
    assert text in " ".join(capsys.readouterr().out.split()) + " "


@pytest.mark.usefixtures("results")
def test_list_shows_the_published_agents(capsys):
    assert main(["list", "agents"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^ rl2-gridnavi-seed0 +3\.0M +3\.97 +11\.1 +wheel$", shown, re.M)
    assert re.search(r"^ rl2-gridnavi-unseen-seed0 .* repository$", shown, re.M)
    assert [line.split()[0] for line in shown.splitlines()[2:-2]] == published_agents()


def test_a_dry_run_shows_what_would_be_trained_and_writes_nothing(capsys, monkeypatch):
    monkeypatch.setattr(RL2, "learn", None)
    command = ["train", "rl2", "gridnavi", "--set", "gamma=0.5", "--total-timesteps", "1000000"]
    assert main([*command, "--eval-num-tasks", "21", "--processes", "2", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    for text in (
        "RL2 on gridnavi\n",
        "\n gamma=0.5\n",
        "\n learning_rate=0.005\n",  # the preset's
        "training: 1,000,000 env steps; expected time: 2 to 4 min",
        "evaluation: 21 held-out tasks, 4 episodes each",
        "run directory: runs/rl2-gridnavi-seed0\n",
    ):
        assert text in shown, text
    assert not list(Path().iterdir())
    assert main([*command, "--set", "gama=1", "--dry-run"]) == 2


def test_the_final_evaluation_has_as_many_tasks_and_episodes_as_asked_for():
    options = ["--eval-num-tasks", "5", "--eval-num-episodes", "3", "--run-dir", "here"]
    assert main(["train", "rl2", "bandit-10x2", *SMALL, *options]) == 0
    assert Report.load("here/evaluation/held_out.npz").returns.shape == (5, 3)
    assert main(["train", "rl2", "bandit-10x2", *SMALL, "--eval-num-tasks", "0"]) == 2


@pytest.mark.parametrize("agent", AGENTS)
def test_list_explains_the_hyperparameters_of_an_agent(agent, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["list", agent]) == 0
    first, *second = re.split(f"policy_kwargs of {agent} *\n", capsys.readouterr().out)
    policy = AGENTS[agent].policy_config_class
    assert len(second) == (policy is not None)
    for text, config_class in zip([first, *second], [AGENTS[agent].config_class, policy]):
        lines = text.split("\n\n")[0].splitlines()
        starts = [i for i, line in enumerate(lines) if re.match(r" \S", line)]
        described = describe(config_class)
        for field, start, end in zip(described, starts[1:], [*starts[2:], None], strict=True):
            assert lines[start].split()[0] == field.name
            assert f" {json.dumps(field.default)} " in lines[start]
            column = lines[start].index(field.doc.split()[0])
            shown = " ".join(line[column:].strip() for line in lines[start:end])
            assert shown.startswith(re.split("`|:class:", field.doc)[0].strip())


def test_list_explains_the_options_of_a_memory(capsys):
    assert main(["list", "rl2"]) == 0
    _, options = capsys.readouterr().out.split("memory_kwargs of episodic")
    assert re.search(r"^ recall_encoder +list +\[\] +The sizes of tanh layers", options, re.M)


def test_train_leaves_all_that_is_needed(trained, capsys):
    run = trained[0]
    config = json.loads((run / "config.json").read_text())
    assert (config["agent"], config["tasks"], config["seed"]) == ("rl2", "bandit-10x5", 0)
    assert config["total_timesteps"] == 160
    assert config["threads"] == 1
    assert config["device"] == str(RL2(envs.make("bandit-10x5")).device)
    assert config["hyperparameters"]["trials_per_iteration"] == 8
    assert config["hyperparameters"]["policy_kwargs"] == {"hidden_size": 8}
    preset = find_preset("rl2", "bandit-10x5").hyperparameters
    assert config["hyperparameters"]["learning_rate"] == preset["learning_rate"]
    assert {"metarl", "python", "numpy", "torch"} <= config["versions"].keys()
    assert "git_commit" in config
    assert len((run / "progress.csv").read_text().splitlines()) == 1 + 2
    assert list(run.glob("events.out.tfevents.*"))
    assert not (run / "checkpoint.safetensors").exists()
    agent = RL2.load(run / "agent", envs.make("bandit-10x5"))
    assert agent.num_timesteps == 160
    report = Report.load(run / "evaluation" / "held_out.npz")
    assert report.returns.shape == (8, 10)
    assert (run / "evaluation" / "held_out.png").read_bytes().startswith(b"\x89PNG")


def test_train_ends_with_the_adaptation_curve_beside_the_references(capsys):
    assert main(["train", "rl2", "bandit-10x2", *SMALL, "--run-dir", "here"]) == 0
    shown = capsys.readouterr().out
    assert "RL2 on bandit-10x2, held_out: 8 tasks" in shown
    for name in ("RL2", "Thompson sampling", "Gittins index", "random", "known best arm"):
        assert re.search(rf"^ {name} ", shown, re.M), name
    assert "adaptation curve: here/evaluation/held_out.png" in shown
    assert "\nadaptation: " in shown
    assert Path("here/agent.safetensors").exists()


def test_training_says_what_is_wrong_with_a_family_of_ones_own(capsys):
    Path("leaky.py").write_text(
        "import gymnasium\n"
        "from metarl import Uniform\n"
        "from metarl.envs import from_gymnasium\n"
        "def make(gravity):\n"
        "    env = gymnasium.make('CartPole-v1')\n"
        "    space = gymnasium.spaces.Box(-100.0, 100.0, (5,))\n"
        "    tell = lambda o: [*o, gravity]\n"
        "    return gymnasium.wrappers.TransformObservation(env, tell, space)\n"
        "tasks = from_gymnasium(make, {'gravity': Uniform(5.0, 15.0)}, name='leaky', horizon=5)\n"
    )
    assert main(["train", "rl2", "leaky:tasks", *SMALL]) == 0
    error = capsys.readouterr().err
    assert "leaky fails a check, task not in the observation" in error
    assert main(["train", "rl2", "leaky:tasks", "--oracle", *SMALL, "--run-dir", "oracle"]) == 0
    assert "fails a check" not in capsys.readouterr().err


def test_a_view_of_a_family_is_kept_as_data(capsys):
    options = ["--num-train-tasks", "4", "--train-tasks-seed", "3", "--oracle"]
    assert main(["train", "rl2", "bandit-10x2", *SMALL, *options]) == 0
    run = Path("runs/rl2-bandit-10x2-4tasks-draw3-oracle-seed0")
    assert (
        "RL2 on bandit-10x2 (4 training tasks, draw 3, oracle), held_out" in capsys.readouterr().out
    )
    config = json.loads((run / "config.json").read_text())
    assert (config["tasks"], config["view"]) == (
        "bandit-10x2",
        {"num_train_tasks": 4, "train_tasks_seed": 3, "oracle": True},
    )
    report = Report.load(run / "evaluation" / "held_out.npz")
    assert (report.family, report.view) == ("bandit-10x2", config["view"])
    assert main(["train", "rl2", "bandit-10x2", *SMALL]) == 0
    assert main(["compare", str(run), "runs/rl2-bandit-10x2-seed0"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^ RL2, oracle ", shown, re.M)
    assert main(["train", "rl2", "bandit-10x2", *SMALL, "--train-split", "steep"]) == 2
    assert "unknown split of 'bandit-10x2': 'steep'" in capsys.readouterr().err


def test_train_on_a_family_of_ones_own(capsys):
    Path("poles.py").write_text(
        "from metarl import Uniform\n"
        "from metarl.envs import from_gymnasium\n"
        "def tasks():\n"
        "    distributions = {'gravity': Uniform(5.0, 15.0)}\n"
        "    return from_gymnasium('CartPole-v1', distributions, horizon=5, episodes_per_trial=2)\n"
    )
    assert main(["train", "rl2", "poles:tasks", *SMALL]) == 0
    run = Path("runs/rl2-poles-tasks-seed0")
    assert main(["evaluate", str(run), "--num-tasks", "3"]) == 0
    returns = Report.load(run / "evaluation" / "held_out-3x2-seed1.npz").returns
    assert returns.tolist() == [[5.0, 5.0]] * 3


def test_maml_trains_and_adapts_by_whole_rounds_of_episodes(capsys):
    small = ["--threads", "1", "--total-timesteps", "1", "--set", "meta_batch_size=2"]
    adapts = ["--set", "episodes_per_adaptation=3", "--run-dir", "here"]
    assert main(["train", "maml", "bandit-10x2", *small, *adapts]) == 0
    assert "MAML on bandit-10x2, held_out: 8 tasks" in capsys.readouterr().out
    # The preset's 80 episodes are no whole number of rounds.
    assert json.loads(Path("here/config.json").read_text())["evaluation"]["num_episodes"] == 81
    assert Report.load("here/evaluation/held_out.npz").returns.shape == (8, 81)


def test_a_familys_name_says_nothing_about_its_rewards(capsys):
    write_family("ads", "bandit-ads")
    assert main(["train", "rl2", "ads:tasks", *SMALL, "--run-dir", "here"]) == 0
    assert "RL2 on bandit-ads, held_out: 2 tasks, 4 times each" in capsys.readouterr().out
    assert main(["evaluate", "here"]) == 0


def test_what_a_family_is_compared_with_is_its_declaration(capsys):
    write_family("compared", "risk", references=["random"])
    assert main(["train", "rl2", "compared:tasks", *SMALL, "--run-dir", "here"]) == 0
    assert re.search(r"^ random ", capsys.readouterr().out, re.M)


def test_evaluate_repeats_the_runs_own_evaluation(run, capsys):
    before = contents(run)
    assert main(["evaluate", str(run)]) == 0
    assert "held_out: 8 tasks" in capsys.readouterr().out
    after = contents(run)
    kept = (".json", ".npz")
    assert {path: data for path, data in after.items() if path.suffix in kept} == {
        path: data for path, data in before.items() if path.suffix in kept
    }


@pytest.mark.parametrize("command", ["evaluate", "resume"])
def test_a_run_keeps_its_number_of_threads(run, command, monkeypatch):
    used = []
    evaluate = commands.evaluate_with_baselines

    def watched(*args, **settings):
        used.append(torch.get_num_threads())
        return evaluate(*args, **settings)

    monkeypatch.setattr(commands, "evaluate_with_baselines", watched)
    edit(run, lambda config: config.update(threads=2))
    if command == "resume":
        (run / "agent.safetensors").rename(run / "checkpoint.safetensors")
    try:
        assert main([command, str(run)]) == 0
    finally:
        torch.set_num_threads(1)
    assert used == [2]


@pytest.mark.parametrize(
    ("options", "name", "shape"),
    [
        (["--num-tasks", "5"], "held_out-5x10-seed1", (5, 10)),
        (["--num-episodes", "4"], "held_out-8x4-seed1", (8, 4)),
        (["--seed", "3"], "held_out-8x10-seed3", (8, 10)),
        (["--split", "train"], "train", (8, 10)),
    ],
)
def test_another_evaluation_stands_beside_the_runs_own(run, options, name, shape):
    own = (run / "evaluation" / "held_out.npz").read_bytes()
    assert main(["evaluate", str(run), *options]) == 0
    assert (run / "evaluation" / "held_out.npz").read_bytes() == own
    assert Report.load(run / "evaluation" / f"{name}.npz").returns.shape == shape
    assert (run / "evaluation" / f"{name}.png").exists()


def test_a_hyperparameter_of_acting_may_be_another(run, capsys, monkeypatch):
    evaluated = []
    evaluate = commands.evaluate_with_baselines

    def watched(learner, **settings):
        evaluated.append(learner)
        return evaluate(learner, **settings)

    monkeypatch.setattr(commands, "evaluate_with_baselines", watched)
    own = (run / "evaluation" / "held_out.npz").read_bytes()
    assert main(["evaluate", str(run), "--set", "reset_memory_every=1"]) == 0
    shown = capsys.readouterr()
    assert "note: evaluated with reset_memory_every=1" in shown.out
    assert shown.err == ""
    assert (run / "evaluation" / "held_out.npz").read_bytes() == own
    assert (run / "evaluation" / "held_out-8x10-seed1-reset_memory_every=1.npz").exists()
    (learner,) = evaluated
    assert learner.reset_memory_every == 1
    assert learner.num_timesteps > 0  # trained, as it was
    assert main(["evaluate", str(run), "--set", "forget=1"]) == 2
    assert "reset_memory_every" in capsys.readouterr().err  # what there is


@pytest.mark.parametrize("fails", [UnicodeEncodeError("ascii", "±", 0, 1, "no"), BrokenPipeError()])
def test_a_run_is_complete_even_if_it_cannot_be_shown(fails, monkeypatch):
    def say(text):
        if "held_out: 8 tasks" in text:
            raise fails

    monkeypatch.setattr(commands, "say", say)
    monkeypatch.setattr(cli.os, "dup2", lambda *_: None)
    with contextlib.suppress(UnicodeEncodeError):
        main(["train", "rl2", "bandit-10x2", *SMALL, "--run-dir", "here"])
    assert Path("here/agent.safetensors").exists()
    assert Path("here/evaluation/held_out.npz").exists()


def test_output_that_is_ascii_has_question_marks(run, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    run = run.rename(run.with_name("rün"))
    assert main(["evaluate", str(run)]) == 0
    stream.flush()
    assert b"all 10 episodes together: mean " in stream.buffer.getvalue()
    assert re.search(rb"raw returns: .*r\?n/evaluation", stream.buffer.getvalue())


def test_a_metric_of_ones_own_is_a_column(run, capsys):
    code = "def return_per_step(report):\n    return report.returns / report.lengths\n\nother = 5\n"
    Path("my_metrics.py").write_text(code)
    assert main(["evaluate", str(run), "--metric", "my_metrics:return_per_step"]) == 0
    assert re.search(r"^ episode .* return per step$", capsys.readouterr().out, re.M)
    assert main(["evaluate", str(run), "--metric", "my_metrics:other"]) == 2
    assert "my_metrics:other must be a function of the report, got 5" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--metric", "my_metrics:retrun"]) == 2
    assert "has no 'retrun'" in capsys.readouterr().err


def test_a_hyperparameter_of_training_alone_is_refused_in_an_evaluation(run, capsys):
    before = sorted((run / "evaluation").iterdir())
    assert main(["evaluate", str(run), "--set", "n_epochs=2"]) == 2
    expected = "n_epochs does not change how this trained RL2 acts, only reset_memory_every would"
    assert expected in capsys.readouterr().err
    assert sorted((run / "evaluation").iterdir()) == before


def test_compare_shows_runs_side_by_side(trained, capsys):
    assert main(["compare", *map(str, trained), "--output", "both.png"]) == 0
    shown = capsys.readouterr().out
    for run in trained:
        assert f"RL2 ({run.name})" in shown
    assert " minus " not in shown  # two seeds of one agent
    assert Path("both.png").exists()


def test_compare_measures_the_recovery_from_a_change_by_the_oracle(capsys):
    for name, options in (("student", []), ("oracle", ["--oracle"])):
        command = ["train", "rl2", "bandit-10x5", "--changing", *options, *SMALL]
        assert main([*command, "--run-dir", name]) == 0
    capsys.readouterr()
    assert main(["compare", "student", "oracle"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^ RL2, oracle \(oracle\) +0\.\d+ ", shown, re.M)
    rows = re.search(
        r"^ share of RL2, oracle \(oracle\) .*\n RL2 \(student\) +(\d+)% ", shown, re.M
    )
    assert 60 < int(rows[1]) < 140  # neither has learned anything


def test_compare_evaluates_what_was_evaluated_on_other_tasks(trained, capsys, monkeypatch):
    maml = ["--total-timesteps", "40", "--set", "meta_batch_size=2"]
    assert main(["train", "maml", "bandit-10x5", *maml, "--run-dir", "other"]) == 0
    evaluated = {"num_tasks": 7, "num_episodes": 40, "seed": 1}
    config = json.loads(Path("other/config.json").read_text())
    Path("other/config.json").write_text(json.dumps({**config, "evaluation": evaluated}))
    Path("other/evaluation/held_out.npz").unlink()
    capsys.readouterr()
    runs = [str(trained[0]), "other"]
    assert main(["compare", *runs]) == 0
    shown = capsys.readouterr().out
    assert "evaluating other on 7 tasks of held_out" in shown
    assert "bandit-10x5, held_out: 7 tasks" in shown
    # Some episodes only one of the two has; the total is of those that both have.
    assert re.search(r" ep\. 1 .* 11-20 ", shown)
    assert re.search(r" first 10$", shown, re.M)
    assert "rl2 minus maml" in shown
    assert re.search(r"unequal budgets, episodes before an agent adapts: rl2 1, maml \d+", shown)
    files = [sorted(Path(run, "evaluation").glob("*-7x*.npz")) for run in runs]
    assert [Report.load(*paths).num_episodes for paths in files] == [10, 40]
    # What was made is not made again.
    monkeypatch.setattr(comparing, "evaluate", None)
    assert main(["compare", *runs]) == 0


def test_seeds_differ_and_the_same_seed_repeats_itself(trained, capsys):
    command = ["train", "rl2", "bandit-10x5", *SMALL, "--run-dir"]
    assert main([*command, "again"]) == 0
    same, other = (run / "agent.safetensors" for run in trained)
    assert Path("again/agent.safetensors").read_bytes() == same.read_bytes()
    assert same.read_bytes() != other.read_bytes()


def test_a_folder_of_nothing_will_do(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".config.json.x1").touch()  # of a run that was killed as it began
    assert main(["train", "rl2", "bandit-10x2", *SMALL, "--run-dir", "empty"]) == 0
    assert not list((tmp_path / "empty").glob(".config.json.*"))


def test_values_of_set_are_json_and_bare_words_are_strings():
    pairs = [
        "gamma=1",
        "target_kl=null",
        "normalize-reward=true",
        'policy_kwargs={"memory": "lstm"}',
    ]
    assert parse_overrides(RL2, pairs) == {
        "gamma": 1,
        "target_kl": None,
        "normalize_reward": True,
        "policy_kwargs": {"memory": "lstm"},
    }


def test_the_console_script_is_this():
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="metarl")
    assert script.load() is main
