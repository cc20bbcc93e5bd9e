"""Hyperparameters are written once: checks, signatures and descriptions come from there."""

import inspect
import json
import math
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from metarl.agents import AGENTS
from metarl.agents.common.actor_critic import NetworkConfig
from metarl.agents.maml import MAMLConfig
from metarl.agents.maml.policy import PolicyConfig
from metarl.agents.rl2 import RL2Config
from metarl.agents.training.config import describe

CONFIGS = [RL2Config, MAMLConfig, NetworkConfig, PolicyConfig]


@pytest.mark.parametrize("config_class", CONFIGS)
def test_every_field_is_described(config_class):
    described = describe(config_class)
    assert [each.name for each in described] == [field.name for field in fields(config_class)]
    for each in described:
        assert each.doc.endswith("."), each
        assert "\n" not in each.doc
    assert len({each.doc for each in described}) == len(described)


def test_descriptions_by_hand():
    described = {each.name: each for each in describe(RL2Config)}
    assert described["learning_rate"].doc == "Adam's step size."
    assert described["target_kl"].type == "float | None"
    assert described["target_kl"].default is None
    described = {each.name: each for each in describe(NetworkConfig)}
    assert described["memory"].type == "str"
    assert described["encoder"].type == "list"


@pytest.mark.parametrize("agent", AGENTS.values())
def test_signature_and_help_show_the_hyperparameters(agent):
    parameters = inspect.signature(agent).parameters
    common = ["tasks", "seed", "device", "verbose", "tensorboard_log"]
    assert list(parameters) == [*common, *agent.config_class.names()]
    documented = " ".join(inspect.getdoc(agent).split())
    for each in describe(agent.config_class):
        assert parameters[each.name].default == each.default
        assert parameters[each.name].kind is inspect.Parameter.KEYWORD_ONLY
        assert f" {each.name}: {each.doc} Default {each.default!r}." in documented


@pytest.mark.parametrize("config_class", CONFIGS)
def test_a_configuration_comes_back_from_json_and_does_not_change(config_class):
    config = config_class()
    assert config_class.build(json.loads(json.dumps(config.to_json()))) == config
    name = config_class.names()[0]
    with pytest.raises(FrozenInstanceError):
        setattr(config, name, getattr(config, name))


@pytest.mark.parametrize("config_class", CONFIGS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float32(np.inf)])
def test_numbers_that_are_not_finite_are_refused_in_every_field(config_class, bad):
    numbers = [each.name for each in describe(config_class) if each.type.startswith("float")]
    assert numbers
    for name in numbers:
        with pytest.raises(ValueError, match=f"^{name} must be finite, got {bad}"):
            config_class.build({name: bad})


@pytest.mark.parametrize(
    ("config_class", "values", "error", "message"),
    [
        (RL2Config, {"learnin_rate": 1.0}, ValueError, "hyperparameter 'learnin_rate'; did you"),
        (MAMLConfig, {"learning_rate": "1e-3"}, TypeError, "learning_rate must be a number, got '"),
        (MAMLConfig, {"inner_steps": -1}, ValueError, "inner_steps must be at least 0, got -1"),
        (MAMLConfig, {"inner_steps": 1.0}, TypeError, r"inner_steps must be an integer, got 1\.0"),
        (MAMLConfig, {"first_order": 1}, TypeError, "first_order must be true or false, got 1"),
        (MAMLConfig, {"gamma": 0.0}, ValueError, r"gamma must be in \(0, 1\], got 0\.0"),
        (MAMLConfig, {"outer": 3}, TypeError, "outer must be a string, got 3"),
        (MAMLConfig, {"learn_inner_lr": True}, TypeError, "must be a string or None, got True"),
        (NetworkConfig, {"encoder": "64"}, TypeError, "encoder must be a list, got '64'"),
        (NetworkConfig, {"encoder": [8, 1.5]}, TypeError, r"encoder\[1\] must be an integer"),
        (PolicyConfig, {"output_gain": -1.0}, ValueError, r"output_gain must be in \[0, 1e\+06\]"),
    ],
)
def test_bad_values_are_refused_by_name(config_class, values, error, message):
    with pytest.raises(error, match=message):
        config_class.build(values)


def test_numbers_are_stored_as_plain_ones():
    config = RL2Config(n_epochs=np.int64(2), gamma=np.float32(0.5), learning_rate=1)
    stored = (config.n_epochs, config.gamma, config.learning_rate)
    assert stored == (2, 0.5, 1.0)
    assert [type(value) for value in stored] == [int, float, float]
