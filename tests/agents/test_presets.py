"""Presets, and the commands of the README that use them."""

import fnmatch
import re
import shlex
from pathlib import Path

import pytest
import torch
from toys import folder_of_pictures

from metarl import Uniform, envs
from metarl.agents import AGENTS
from metarl.agents.presets import PRESETS, find_preset
from metarl.envs import from_gymnasium
from metarl.errors import MissingPackageError
from metarl.experiments.cli import commands, comparing
from metarl.experiments.cli import main as cli
from metarl.experiments.cli.main import main
from metarl.experiments.cli.overrides import has_earlier_preset, parse_overrides
from metarl.experiments.reports import gather
from metarl.experiments.runs.run import Run
from metarl.experiments.studies import engine
from metarl.experiments.tuning import search

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "preset",
    [
        # Meta-World builds its environments for seconds.
        pytest.param(each, marks=[pytest.mark.slow] if each.pattern.startswith("ml1") else [])
        for each in PRESETS
    ],
    ids=lambda preset: f"{preset.agent} {preset.pattern}",
)
def test_presets_are_of_known_agents_with_known_hyperparameters(preset, tmp_path):
    agent = AGENTS[preset.agent]
    assert set(preset.hyperparameters) <= set(agent.hyperparameter_names())
    earlier = [other for other in PRESETS[: PRESETS.index(preset)] if other.agent == preset.agent]
    names = [*envs.names(), "bandit-3x2", f"image-folder:{folder_of_pictures(tmp_path)}"]
    names += ["tabular-mdp-5", "my_module:tasks", "ml1-reach", "ml10"]
    matched = [name for name in names if fnmatch.fnmatchcase(name, preset.pattern)]
    left = [n for n in matched if not any(fnmatch.fnmatchcase(n, o.pattern) for o in earlier)]
    assert left, "no family meets this preset, or earlier ones take them all"
    # What it is made for, and all bandits, which are cheap: presets must not contradict a family.
    for name in [left[0], *(n for n in left[1:] if n.startswith("bandit-"))]:
        try:
            agent(envs.make(name), **preset.hyperparameters)
        except MissingPackageError as error:
            pytest.skip(str(error))


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
    for name in ("train", "resume", "evaluate_run", "watch"):
        monkeypatch.setattr(commands, name, lambda *a, **k: called.append((a, k)))
    monkeypatch.setattr(comparing, "compare", lambda *a, **k: called.append((a, k)))
    monkeypatch.setattr(engine, "run_study", lambda *a, **k: called.append((a, k)))
    monkeypatch.setattr(gather, "report", lambda *a, **k: called.append((a, k)))
    monkeypatch.setattr(search, "tune", lambda *a, **k: called.append((a, k)))
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    monkeypatch.setattr(cli, "started_by_torchrun", lambda: True)  # no other process is started
    assert main(list(words)) == 0
    if words[0] == "train":
        ((agent, tasks), options) = called[0]
        preset = find_preset(agent, tasks)
        parse_overrides(AGENTS[agent], options["overrides"])
        if ":" not in tasks:
            assert envs.make(tasks).name
        assert preset.total_timesteps > 0


def test_that_a_preset_has_changed_since_a_run_is_noticed():
    preset = dict(find_preset("rl2", "bandit-10x5").hyperparameters)
    config = {
        "agent": "rl2",
        "tasks": "bandit-10x5",
        "command": "metarl train rl2 bandit-10x5 --seed 3 --set gamma=0.5 --set 'ent_coef=0.1'",
        "hyperparameters": {**preset, "gamma": 0.5, "ent_coef": 0.1},
    }
    assert not has_earlier_preset(config)
    for other in ({"gae_lambda": 0.9}, {"gamma": 0.6}, {"policy_kwargs": {}}):
        hyperparameters = {**config["hyperparameters"], **other}
        assert has_earlier_preset({**config, "hyperparameters": hyperparameters})
    del config["hyperparameters"]["anneal"]
    assert has_earlier_preset(config)
    config["command"] += " --set forgotten=1"
    assert has_earlier_preset(config)


@pytest.mark.parametrize("agent", AGENTS)
def test_presets_of_names_are_for_the_families_of_metarl_alone(agent, tmp_path, monkeypatch):
    for name in [*envs.names(), "bandit-3x2"]:
        assert find_preset(agent, envs.make(name)) == find_preset(agent, name)
    usual = find_preset(agent, "my_module:tasks")
    assert usual.pattern == "*"
    distributions = {"gravity": Uniform(5.0, 15.0)}
    for name in ("ant-farm", "bandit-ads", "gridnavi", "hopper-x"):  # names that patterns match
        own = from_gymnasium("CartPole-v1", distributions, name=name, horizon=5)
        assert find_preset(agent, own) == find_preset(agent, own.oracle()) == usual
    assert find_preset(agent, "gridnavi_mine:tasks") == usual


def test_from_preset_and_train_agree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_like_ants.py").write_text(
        "from metarl import Uniform, envs\n"
        "distributions = {'gravity': Uniform(5.0, 15.0)}\n"
        "ants = envs.from_gymnasium('CartPole-v1', distributions, name='ant-farm', horizon=5)\n"
        "few = envs.make('gridnavi').limited(3)\n"
    )

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "_train", stop)
    for name, gamma in (("ants", _gamma("*")), ("few", _gamma("gridnavi*"))):
        assert main(["train", "rl2", f"mine_like_ants:{name}", "--run-dir", name]) == 130
        trained = Run.open(name).config["hyperparameters"]
        made = AGENTS["rl2"].from_preset(envs.make(f"mine_like_ants:{name}"), seed=0)
        assert made.hyperparameters.items() >= trained.items()
        assert trained["gamma"] == gamma


def _gamma(pattern):
    found = [each for each in PRESETS if (each.agent, each.pattern) == ("rl2", pattern)]
    return found[0].hyperparameters["gamma"]
