"""The command line: what it does, what it keeps, and what it refuses."""

import fnmatch
import importlib.metadata
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import tyro

from metarl import Report, envs
from metarl.agents import AGENTS, RL2
from metarl.experiments import cli
from metarl.experiments import train as actions
from metarl.experiments.cli import main
from metarl.experiments.presets import PRESETS, find_preset
from metarl.runs import Run

ROOT = Path(__file__).parents[1]
SMALL = [
    *("--threads", "1", "--total-timesteps", "160", "--set", "trials_per_iteration=8"),
    *("--set", "trials_per_minibatch=4", "--set", "n_epochs=1"),
    *("--set", 'policy_kwargs={"hidden_size": 8}'),
]


@pytest.fixture(scope="module", autouse=True)
def _small_evaluations():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            actions, "find_preset", lambda *names: replace(find_preset(*names), num_eval_tasks=8)
        )
        yield


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two runs, with what the first one printed."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for seed in ("0", "1"):
            assert main(["train", "rl2", "bandit-10x5", *SMALL, "--seed", seed]) == 0
    return root / "runs" / "rl2-bandit-10x5-seed0", root / "runs" / "rl2-bandit-10x5-seed1"


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a run that a test may spoil."""
    import shutil

    return Path(shutil.copytree(trained[0], tmp_path / "run"))


def contents(directory):
    return {path: path.read_bytes() for path in Path(directory).rglob("*") if path.is_file()}


def refusal(arguments, capsys):
    """Run a command that must fail; return its one sentence."""
    assert main(arguments) == 2
    shown = capsys.readouterr().err.strip().splitlines()
    assert len(shown) == 1
    assert shown[0].startswith("metarl: error: ")
    return shown[0]


# What it does.


def test_list_names_all_families_agents_and_hyperparameters(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    for name in [*envs.names(), *AGENTS, *RL2.hyperparameter_names()]:
        assert re.search(rf"\b{re.escape(name)}\b", shown), name


def test_train_leaves_all_that_is_needed(trained, capsys):
    run = trained[0]
    config = json.loads((run / "config.json").read_text())
    assert (config["agent"], config["tasks"], config["seed"]) == ("rl2", "bandit-10x5", 0)
    assert config["total_timesteps"] == 160
    assert config["threads"] == 1
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
    report = Report.load(run / "evaluation" / "held_out.json")
    assert report.returns.shape == (8, 10)
    assert (run / "evaluation" / "held_out.png").read_bytes().startswith(b"\x89PNG")


def test_train_ends_with_the_adaptation_curve_beside_the_references(capsys):
    assert main(["train", "rl2", "bandit-10x2", *SMALL, "--run-dir", "here"]) == 0
    shown = capsys.readouterr().out
    assert "RL2 on bandit-10x2, held_out: 8 tasks" in shown
    for name in ("RL2", "Thompson sampling", "Gittins index", "random", "known best arm"):
        assert re.search(rf"^ {name} ", shown, re.M), name
    assert "adaptation curve: here/evaluation/held_out.png" in shown
    assert Path("here/agent.safetensors").exists()


def test_train_on_a_family_of_ones_own(capsys):
    Path("poles.py").write_text(
        "from metarl import Uniform\n"
        "from metarl.envs import from_gymnasium\n"
        "def tasks():\n"
        "    laws = {'gravity': Uniform(5.0, 15.0)}\n"
        "    return from_gymnasium('CartPole-v1', laws, horizon=5, episodes_per_trial=2)\n"
    )
    assert main(["train", "rl2", "poles:tasks", *SMALL]) == 0
    run = Path("runs/rl2-poles-tasks-seed0")
    assert main(["evaluate", str(run), "--num-tasks", "3"]) == 0
    returns = Report.load(run / "evaluation" / "held_out-3x2-seed1.json").returns
    assert returns.tolist() == [[5.0, 5.0]] * 3


def test_evaluate_repeats_the_runs_own_evaluation(run, capsys):
    before = contents(run)
    assert main(["evaluate", str(run)]) == 0
    assert "held_out: 8 tasks" in capsys.readouterr().out
    after = contents(run)
    assert {path: data for path, data in after.items() if path.suffix == ".json"} == {
        path: data for path, data in before.items() if path.suffix == ".json"
    }


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
    own = (run / "evaluation" / "held_out.json").read_bytes()
    assert main(["evaluate", str(run), *options]) == 0
    assert (run / "evaluation" / "held_out.json").read_bytes() == own
    assert Report.load(run / "evaluation" / f"{name}.json").returns.shape == shape
    assert (run / "evaluation" / f"{name}.png").exists()


def test_compare_shows_runs_side_by_side(trained, capsys):
    assert main(["compare", *map(str, trained), "--output", "both.png"]) == 0
    shown = capsys.readouterr().out
    for run in trained:
        assert f"RL2 ({run.name})" in shown
    assert Path("both.png").exists()


def test_seeds_differ_and_the_same_seed_repeats_itself(trained, capsys):
    command = ["train", "rl2", "bandit-10x5", *SMALL, "--run-dir"]
    assert main([*command, "again"]) == 0
    same, other = (run / "agent.safetensors" for run in trained)
    assert Path("again/agent.safetensors").read_bytes() == same.read_bytes()
    assert same.read_bytes() != other.read_bytes()


def test_the_console_script_is_this():
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="metarl")
    assert script.load() is main


# What it refuses: one sentence, before any compute, and nothing is touched.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "rl3", "bandit-10x5"], "unknown agent 'rl3'; did you mean 'rl2'?"),
        (["train", "rl2", "bandit10x5"], "unknown family 'bandit10x5'; did you mean 'bandit-10x5'"),
        (["train", "rl2", "bandit-0x5"], "num_pulls must be at least 1, got 0"),
        (["train", "rl2", "nowhere:tasks"], "there is no module 'nowhere'"),
        (["train", "rl2", "metarl.envs:taks"], "metarl.envs has no 'taks'"),
        (["train", "rl2", "./my/tasks.py:t"], "for example 'my.tasks:t'"),
        ([*SMALL, "--total-timesteps", "0"], "total_timesteps must be at least 1, got 0"),
        ([*SMALL, "--total-timesteps", "-5"], "total_timesteps must be at least 1, got -5"),
        ([*SMALL, "--threads", "0"], "threads must be at least 1, got 0"),
        ([*SMALL, "--seed", "-1"], "seed must be at least 0, got -1"),
        ([*SMALL, "--set", "learning_rat=1"], "no hyperparameter 'learning_rat'; did you mean"),
        ([*SMALL, "--set", "learning_rate"], "expected name=value, got 'learning_rate'"),
        ([*SMALL, "--set", "learning_rate=fast"], "learning_rate must be a number, got 'fast'"),
        ([*SMALL, "--set", "learning_rate=-1"], "learning_rate must be in"),
        ([*SMALL, "--set", "n_epochs=1.5"], "n_epochs must be an integer, got 1.5"),
        ([*SMALL, "--set", 'policy_kwargs={"cel": "gru"}'], "'cel'; did you mean 'cell'"),
        ([*SMALL, "--set", "trials_per_minibatch=9"], "(9) must not exceed trials_per_iteration"),
    ],
)
def test_train_refuses(arguments, message, capsys):
    if arguments[0] != "train":
        arguments = ["train", "rl2", "bandit-10x5", *arguments]
    assert message in refusal(arguments, capsys)
    assert contents(".") == {}


@pytest.mark.parametrize("what", ["run", "other"])
def test_what_exists_is_left_as_it_is(run, what, capsys):
    directory = run
    if what == "other":
        directory = Path("mine")
        directory.mkdir()
        (directory / "thesis.tex").write_text("all my work")
    before = contents(directory)
    command = ["train", "rl2", "bandit-10x5", *SMALL, "--run-dir", str(directory)]
    assert "exists already and is left as it is" in refusal(command, capsys)
    assert contents(directory) == before


def test_without_a_preset_an_agent_needs_a_number_of_steps(capsys, monkeypatch):
    def none(agent, tasks):
        raise ValueError("there is no preset; pass --total-timesteps")

    monkeypatch.setattr(actions, "find_preset", none)
    command = ["train", "rl2", "bandit-2x2", "--run-dir", "mine", "--threads", "1"]
    assert "pass --total-timesteps" in refusal(command, capsys)
    assert not Path("mine").exists()
    assert main([*command, *SMALL]) == 0


def test_a_folder_of_nothing_will_do(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".config.json.x1").touch()  # of a run that was killed as it began
    assert main(["train", "rl2", "bandit-10x2", *SMALL, "--run-dir", "empty"]) == 0
    assert not list((tmp_path / "empty").glob(".config.json.*"))


def test_a_complete_run_is_not_resumed(run, capsys):
    before = contents(run)
    message = refusal(["resume", str(run)], capsys)
    assert f"is complete; evaluate it with: metarl evaluate {run}" in message
    assert contents(run) == before


def test_a_run_that_is_being_trained_is_not_resumed(run, capsys):
    (run / "agent.safetensors").unlink()
    before = contents(run)
    with Run.open(run).exclusive():
        assert "is being trained by another process" in refusal(["resume", str(run)], capsys)
        assert contents(run) == before
    assert main(["resume", str(run)]) == 0


@pytest.mark.parametrize("command", ["resume", "evaluate", "compare", "watch"])
def test_what_is_no_run(command, run, capsys):
    message = refusal([command, "nothing"], capsys)
    assert "'nothing' is no run: it has no config.json; runs there: run" in message
    assert not Path("nothing").exists()


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_damaged_configuration(run, text, capsys):
    (run / "config.json").write_text(text)
    assert "config.json' is damaged" in refusal(["resume", str(run)], capsys)


def test_a_run_without_a_checkpoint_is_not_evaluated(run, capsys):
    (run / "agent.safetensors").unlink()
    message = refusal(["evaluate", str(run)], capsys)
    assert f"has no checkpoint yet; train it with: metarl resume {run}" in message


def test_a_damaged_agent_is_not_evaluated(run, capsys):
    data = (run / "agent.safetensors").read_bytes()
    (run / "agent.safetensors").write_bytes(data[:-9])
    before = contents(run)
    assert "is not a metarl checkpoint" in refusal(["evaluate", str(run)], capsys)
    assert contents(run) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-tasks", "0"], "num_tasks must be at least 1, got 0"),
        (["--num-episodes", "0"], "num_episodes must be at least 1, got 0"),
        (["--split", "heldout"], "'heldout'; did you mean 'held_out'"),
        (["--seed", "-1"], "seed must be at least 0"),
    ],
)
def test_evaluate_refuses(run, options, message, capsys):
    before = contents(run)
    assert message in refusal(["evaluate", str(run), *options], capsys)
    assert contents(run) == before


def test_compare_refuses_what_was_not_evaluated_alike(run, trained, capsys):
    other = run.with_name("other")
    assert main(["train", "rl2", "bandit-10x3", *SMALL, "--run-dir", str(other)]) == 0
    capsys.readouterr()
    message = refusal(["compare", str(run), str(other)], capsys)
    assert "were not evaluated on the same tasks: bandit-10x5/held_out" in message
    message = refusal(["compare", str(run), str(run), "--split", "train"], capsys)
    assert f"make one with: metarl evaluate {run} --split train" in message
    (run / "evaluation" / "held_out.json").write_text("{")
    assert "held_out.json' is not a report" in refusal(["compare", str(run)], capsys)
    assert not Path("comparison.png").exists()


@pytest.mark.parametrize("arguments", [[], ["trian"], ["train"], ["list", "--colour"]])
def test_the_parser_refuses(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err


def test_values_of_set_are_json_and_bare_words_are_strings():
    pairs = ["gamma=1", "target_kl=null", "normalize-reward=true", 'policy_kwargs={"cell": "lstm"}']
    assert actions.parse_overrides(RL2, pairs) == {
        "gamma": 1,
        "target_kl": None,
        "normalize_reward": True,
        "policy_kwargs": {"cell": "lstm"},
    }


# Presets and the README.


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: f"{preset.agent} {preset.pattern}")
def test_presets_are_of_known_agents_with_known_hyperparameters(preset):
    agent = AGENTS[preset.agent]
    assert set(preset.hyperparameters) <= set(agent.hyperparameter_names())
    earlier = [other for other in PRESETS[: PRESETS.index(preset)] if other.agent == preset.agent]
    names = [*envs.names(), "bandit-3x2", "my_module:tasks"]
    matched = [name for name in names if fnmatch.fnmatchcase(name, preset.pattern)]
    left = [n for n in matched if not any(fnmatch.fnmatchcase(n, o.pattern) for o in earlier)]
    assert left, "no family meets this preset, or earlier ones take them all"
    for name in left:
        if name.startswith("bandit-"):  # the cheap ones; presets must not contradict the family
            agent(envs.make(name), **preset.hyperparameters)


def commands_of(text):
    """The commands of metarl in the code blocks of a page."""
    inside = False
    for line in text.replace("\\\n", " ").splitlines():
        if line.lstrip().startswith("```"):
            inside = not inside
        elif inside and re.match(r"(\$ )?(\S*/)?metarl ", line):
            yield shlex.split(line.removeprefix("$ "), comments=True)[1:]


README = list(commands_of((ROOT / "README.md").read_text()))


def test_the_readme_has_commands():
    assert {words[0] for words in README} >= {"train", "resume", "evaluate", "compare"}


@pytest.mark.parametrize("words", README, ids=" ".join)
def test_commands_of_the_readme_parse(words, monkeypatch):
    called = []
    for name in ("train", "resume", "evaluate_run", "compare", "watch"):
        monkeypatch.setattr(actions, name, lambda *a, **k: called.append((a, k)))
    monkeypatch.setattr(cli.torch, "set_num_threads", lambda number: None)
    assert main(list(words)) == 0
    if words[0] == "train":
        ((agent, tasks), options) = called[0]
        preset = find_preset(agent, tasks)
        actions.parse_overrides(AGENTS[agent], options["overrides"])
        if ":" not in tasks:
            assert envs.make(tasks).name
        assert preset.total_timesteps > 0


def test_tyro_sees_every_command():
    with pytest.raises(SystemExit) as stop:
        tyro.extras.subcommand_cli_from_dict(cli.COMMANDS, prog="metarl", args=["--help"])
    assert stop.value.code == 0
