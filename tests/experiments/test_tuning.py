"""The search for hyperparameters: its first trial, its scores, and how it survives kills."""

import contextlib
import errno
import os
import re
import shlex
import signal
import sys
from pathlib import Path

import optuna
import pytest
from command_line import write_family
from optuna.trial import TrialState

from metarl import envs, evaluate
from metarl.agents import AGENTS, RL2
from metarl.agents.presets import PRESETS, find_preset
from metarl.agents.training.preset import Preset
from metarl.errors import DivergedError
from metarl.experiments.cli import commands
from metarl.experiments.cli.commands import EVALUATION_SEED
from metarl.experiments.cli.main import main
from metarl.experiments.runs.run import Run
from metarl.experiments.tuning import settings, space
from metarl.experiments.tuning.evaluator import Evaluator
from metarl.experiments.tuning.results import train_command
from metarl.experiments.tuning.settings import Settings
from metarl.experiments.tuning.space import SPACES, space_of, values_at, with_values
from metarl.experiments.tuning.storage import open_journal

SMALL = {
    "rl2": {
        "trials_per_iteration": 8,
        "trials_per_minibatch": 8,
        "n_epochs": 1,
        "policy_kwargs": {"hidden_size": 8},
    },
    "maml": {
        "meta_batch_size": 2,
        "episodes_per_adaptation": 2,
        "policy_kwargs": {"hidden_sizes": (8,)},
    },
}
RL2_SPACE = {
    "learning_rate": SPACES["rl2"]["learning_rate"],
    "gamma": SPACES["rl2"]["gamma"],
    "policy_kwargs.memory": SPACES["rl2"]["policy_kwargs.memory"],
}
FAMILY = "bandit-10x5"
TUNE = ["tune", "rl2", FAMILY, "--total-timesteps", "400"]  # five iterations, one for each rung


def make_small(setattr_):
    def small(agent, family):
        return Preset(agent, family, 400, SMALL[agent], num_eval_tasks=8)

    setattr_(settings, "find_preset", small)
    setattr_(commands, "find_preset", small)
    setattr_(space, "SPACES", {**SPACES, "rl2": RL2_SPACE})


@pytest.fixture(autouse=True)
def _small(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_small(monkeypatch.setattr)


def study(agent="rl2", family=FAMILY):
    """Load the trials of a search, as anybody who has Optuna can."""
    settings = Settings(agent, family)
    storage = open_journal(settings.journal, settings.locks)
    return optuna.load_study(study_name=f"{agent} {family}", storage=storage)


def test_a_view_is_searched_by_itself(tmp_path):
    settings = Settings("rl2", "bandit-10x5", seed=2, view={"num_train_tasks": 4, "oracle": True})
    assert settings.journal == Path("runs/tune/rl2-bandit-10x5-4tasks-oracle/journal.log")
    assert settings.tasks().label == "bandit-10x5 (4 training tasks, oracle)"
    options = ["--num-train-tasks", "4", "--oracle"]
    assert settings.arguments() == ["rl2", "bandit-10x5", *options, "--seed", "2"]
    assert f"metarl train rl2 bandit-10x5 {' '.join(options)} --total" in train_command(
        settings, {}
    )


def finished(found):
    counted = (TrialState.COMPLETE, TrialState.PRUNED)
    return {t.number: (t.params, t.values) for t in found.trials if t.state in counted}


def states(found):
    return [trial.state.name for trial in found.trials]


def test_the_preset_is_first_and_what_is_printed_can_be_pasted(capsys):
    assert main([*TUNE, "--trials", "4"]) == 0
    printed = capsys.readouterr().out
    first, *others = study().trials
    assert first.user_attrs["hyperparameters"] == SMALL["rl2"]
    assert "trials are scored on 8 tasks of validation" in printed
    assert "mean return of the last adaptation episode" in printed
    best = study().best_trial.user_attrs["hyperparameters"]
    code = printed[printed.index("Preset(") : printed.index("as a command")]
    preset = eval(code, {"Preset": Preset})
    assert (preset.agent, preset.pattern, preset.total_timesteps) == ("rl2", FAMILY, 400)
    assert preset.hyperparameters == best
    agent = RL2(envs.make(FAMILY), **preset.hyperparameters, seed=0).learn(80)
    assert agent.num_timesteps > 0
    command = printed[printed.index("metarl train") :].strip()
    assert main(shlex.split(command)[1:]) == 0
    assert Run.open(Path(f"runs/rl2-{FAMILY}-seed0")).config["hyperparameters"] == best
    assert len({trial.params["learning_rate"] for trial in others}) == 3


def test_a_family_of_ones_own_gets_a_command_and_no_preset_to_paste(capsys):
    write_family("ads", "bandit-ads")
    tune = ["tune", "rl2", "ads:tasks", "--total-timesteps", "400", "--trials", "1"]
    assert main(tune) == 0
    printed = capsys.readouterr().out
    assert "metarl train rl2 ads:tasks --total-timesteps 400" in printed
    assert "Preset(" not in printed


def test_a_trial_that_trains_badly_is_pruned(monkeypatch, capsys):
    scores = iter(range(1000, 0, -1))  # each evaluation is worse than all before
    monkeypatch.setattr(Evaluator, "score", lambda self, learner: (float(next(scores)), 0.0))
    assert main([*TUNE, "--trials", "6"]) == 0
    assert states(study()) == ["COMPLETE"] * 4 + ["PRUNED"] * 2
    evaluated = [list(trial.intermediate_values) for trial in study().trials[3:]]
    assert evaluated == [[1, 2, 3, 4, 5], [1, 2], [1, 2]]
    assert "at rung 2, pruned" in capsys.readouterr().out


def test_a_trial_that_diverges_is_no_crash(monkeypatch, capsys):
    learn = RL2.learn

    def diverging(self, *args, **kwargs):
        if self.config.learning_rate != 1e-3:  # the default, and the preset's
            raise DivergedError("network.policy is not finite")
        return learn(self, *args, **kwargs)

    monkeypatch.setattr(RL2, "learn", diverging)
    assert main([*TUNE, "--trials", "3"]) == 0
    assert states(study()) == ["COMPLETE", "PRUNED", "PRUNED"]
    printed = capsys.readouterr().out
    assert printed.count(": diverged;") == 2
    assert "best: trial 0" in printed


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="a fork is killed")


def exit_code(command):
    """Run the command line in a child; return its exit code."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os._exit(main(command))
        os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@forks
def test_a_search_that_was_killed_goes_on_and_repeats_nothing(monkeypatch):
    command, score = [*TUNE, "--trials", "4"], Evaluator.score
    third = ["COMPLETE", "COMPLETE", "RUNNING"]

    def die_in_the_third_trial(*args):
        if states(study()) == third:
            os.kill(os.getpid(), signal.SIGKILL)
        return score(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "score", die_in_the_third_trial)
        assert exit_code(command) == -signal.SIGKILL
    before = study()
    assert states(before) == third
    with Settings("rl2", FAMILY).journal.open("ab") as file:  # as a kill amid a write leaves it
        file.write(b'{"op_code":')
    assert main(command) == 0
    after = study()
    assert len(finished(after)) == 4
    assert finished(before).items() <= finished(after).items()
    assert after.trials[2].state == TrialState.FAIL
    assert after.trials[3].user_attrs["again"] == 2
    assert after.trials[3].params == before.trials[2].params
    assert main(command) == 0  # nothing is left to do
    assert len(study().trials) == len(after.trials)


@forks
@pytest.mark.parametrize("noted", ["process", "hyperparameters", "full disk"])
def test_a_trial_that_dies_before_its_hyperparameters_are_kept(noted, monkeypatch, capsys):
    assert main([*TUNE, "--trials", "1"]) == 0
    note = optuna.Trial.set_user_attr

    def die(self, name, value):
        if name == noted:
            os.kill(os.getpid(), signal.SIGKILL)
        if noted == "full disk" and name == "hyperparameters":
            raise OSError(errno.ENOSPC, "No space left on device")
        note(self, name, value)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Trial, "set_user_attr", die)
        expected = 2 if noted == "full disk" else -signal.SIGKILL
        assert exit_code([*TUNE, "--trials", "2"]) == expected
    capsys.readouterr()
    assert main([*TUNE, "--trials", "2"]) == 0
    assert re.search(r"^trial 1: cut short$", capsys.readouterr().out, re.M)
    assert states(study())[:2] == ["COMPLETE", "FAIL"]
    assert len(finished(study())) == 2
    assert main([*TUNE, "--trials", "2"]) == 0


def test_ctrl_c_says_how_to_go_on(monkeypatch, capsys):
    command = [*TUNE, "--seed", "3", "--trials", "2"]

    def interrupt(self, learner):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "score", interrupt)
        assert main(command) == 130
    said = capsys.readouterr().err
    assert shlex.split(said[said.index("continue with: metarl ") :])[3:] == command
    assert main(command) == 0
    assert states(study()) == ["FAIL", "COMPLETE", "COMPLETE"]
    assert study().trials[1].user_attrs["preset"]  # begun anew


def test_a_search_ends_in_time(capsys):
    assert main([*TUNE, "--minutes", "0"]) == 2
    assert "give the search more --minutes" in capsys.readouterr().err
    assert states(study()) == ["WAITING"]
    assert main([*TUNE, "--trials", "1"]) == 0


def test_processes_share_the_trials(monkeypatch, capsys):
    monkeypatch.setattr(settings, "find_preset", find_preset)  # as in the processes
    monkeypatch.setattr(space, "SPACES", SPACES)
    assert main([*TUNE, "--trials", "2", "--processes", "2"]) == 0
    assert len(finished(study())) == len(study().trials) == 2
    assert len({str(trial.params) for trial in study().trials}) == 2
    assert "best: trial" in capsys.readouterr().out


def test_maml_is_searched_too(capsys):
    assert main(["tune", "maml", FAMILY, "--total-timesteps", "80", "--trials", "2"]) == 0
    first, second = study("maml").trials
    assert first.user_attrs["hyperparameters"]["policy_kwargs"] == {"hidden_sizes": [8]}
    assert set(second.params) == set(space_of("maml", {}))
    assert not {"learning_rate", "n_epochs"} & set(second.params)  # TRPO has neither
    assert {"learning_rate", "n_epochs"} <= set(space_of("maml", {"outer": "ppo"}))
    code = capsys.readouterr().out.partition("Preset(")[2].partition("\n\nas a command")[0]
    assert eval(f"Preset({code}", {"Preset": Preset}).agent == "maml"


@pytest.mark.parametrize("name", [FAMILY, "navigation-2d", "games-5x5"])
def test_evaluated_tasks_are_not_the_reported_ones(name, monkeypatch):
    family, preset = envs.make(name), find_preset("rl2", name)
    evaluator = Evaluator.of(family, preset, EVALUATION_SEED)
    agent = RL2(family, **SMALL["rl2"], seed=EVALUATION_SEED)
    reports = []
    monkeypatch.setattr(
        "metarl.experiments.tuning.evaluator.evaluate",
        lambda *given, **options: reports.append(evaluate(*given, **options)) or reports[-1],
    )
    evaluator.score(agent)
    assert reports[0].num_tasks == min(preset.num_eval_tasks, 500)
    evaluated = set(reports[0].tasks)
    reported = family.sample("held_out", preset.num_eval_tasks, EVALUATION_SEED)
    assert evaluated.isdisjoint(reported)
    if family.num_tasks("train") is None:
        assert "none of them is a task of train or held_out" in evaluator.description
        assert evaluated.isdisjoint(family.sample("train", 8, agent.seed_for("tasks")))
    else:
        assert "691 of the 691 tasks of validation are tasks of train" in evaluator.description


def test_a_family_of_few_tasks_says_that_its_reports_have_the_same():
    evaluator = Evaluator.of(envs.make("gridnavi"), find_preset("rl2", "gridnavi"), 0)
    assert "21 of the 21 tasks of validation are tasks of held_out" in evaluator.description


@pytest.mark.parametrize("preset", [p for p in PRESETS if p.agent in SPACES], ids=str)
def test_every_preset_is_a_point_of_its_space(preset, monkeypatch):
    monkeypatch.setattr(space, "SPACES", SPACES)
    values = values_at(preset.agent, preset.hyperparameters)
    again = with_values(preset.hyperparameters, values)
    assert values_at(preset.agent, again) == values
    assert set(again) <= set(AGENTS[preset.agent].hyperparameter_names())


def test_another_memory_does_not_take_the_options_of_the_presets():
    preset = find_preset("rl2", "tabular-mdp-10").hyperparameters
    policy = preset["policy_kwargs"]
    assert policy["memory_kwargs"]
    for memory, kept in (("episodic", True), ("lstm", False)):
        changed = with_values(preset, {"policy_kwargs.memory": memory})["policy_kwargs"]
        assert changed["memory"] == memory
        assert ("memory_kwargs" in changed) == kept
        RL2(envs.make("tabular-mdp-10"), policy_kwargs=changed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rl3", FAMILY], "unknown agent 'rl3'; did you mean 'rl2'?"),
        (["multi-task", FAMILY], "there is no search space for 'multi-task', expected one of: rl2"),
        (["rl2", "bandit"], "unknown family 'bandit'"),
        (["rl2", FAMILY, "--trials", "0"], "trials must be at least 1, got 0"),
        (["rl2", FAMILY, "--minutes", "-1"], "minutes must be at least 0, got -1"),
        (["rl2", FAMILY, "--processes", "0"], "processes must be at least 1, got 0"),
        (["rl2", FAMILY, "--total-timesteps", "0"], "total_timesteps must be at least 1, got 0"),
        (["rl2", FAMILY, "--storage", "notes.txt"], "is no journal of Optuna"),
    ],
)
def test_what_is_refused(arguments, message, capsys):
    Path("notes.txt").write_text("to do")
    assert main(["tune", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert Path("notes.txt").read_text() == "to do"


def test_another_search_does_not_mix_with_the_first(capsys):
    assert main([*TUNE, "--trials", "1"]) == 0
    assert main([*TUNE, "--trials", "2", "--seed", "1"]) == 2
    assert "have seed=0, this search has 1" in capsys.readouterr().err
    assert len(study().trials) == 1


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(TUNE) == 2
    assert "pip install 'metarl-suite[tune]'" in capsys.readouterr().err
