"""Checkpoints that are damaged, old or another agent's: what is refused changes nothing."""

import json
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from saved_agents import (
    OPTIMIZERS,
    OPTIONS,
    Rehearsing,
    assert_same,
    everything,
    optimized,
    rehearsing,
    trained,
)
from toys import BOX, aim, spaces, strolls

from metarl.agents import AGENTS, RL2
from metarl.agents.training.checkpoint import (
    FORMAT,
    check_tensors,
    checksum,
    gather_tensors,
    load_checkpoint,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "agent.safetensors"
    trained(num_timesteps=100).save(path)
    return path


# Each of these is made from a good checkpoint, so only one thing is wrong.


def parts(path):
    data = path.read_bytes()
    return load(data), load_checkpoint(path)[1]


def sealed(tensors, state):
    """A file whose checksum is right, whatever else is not."""
    text = json.dumps({"sha256": checksum(tensors, state), **state})
    return save(tensors, metadata={"metarl": text})


def with_state(**changes):
    return lambda data, tensors, state: sealed(tensors, {**state, **changes})


def with_tensors(change):
    def damage(data, tensors, state):
        change(tensors)
        return sealed(tensors, state)

    return damage


def without_checksum(format):
    return lambda data, tensors, state: save(
        tensors, metadata={"metarl": json.dumps({**state, "format": format})}
    )


def cut(share):
    return lambda data, tensors, state: data[: int(share * len(data))]


class Bomb:
    """Its loading would leave a file behind."""

    def __reduce__(self):
        return os.mkdir, ("exploded",)


def torch_pickle(data, tensors, state):
    torch.save({"network": Bomb()}, "bomb.pt")
    with open("bomb.pt", "rb") as file:
        return file.read()


def grow(tensors):
    tensors["network.value.weight"] = torch.zeros(1, 9)


def retype(tensors):
    tensors["network.value.weight"] = tensors["network.value.weight"].to(torch.int32)


def spoil(tensors):
    tensors["network.value.weight"][0, 0] = torch.nan


def grow_moments(tensors):
    tensors["optimizer.0.exp_avg"] = torch.zeros(3)


NO_CHECKPOINT = "is not a metarl checkpoint, or it is damaged"
DAMAGED = {
    "empty": (cut(0.0), NO_CHECKPOINT),
    "header cut": (cut(0.01), NO_CHECKPOINT),
    "cut in half": (cut(0.5), NO_CHECKPOINT),
    "last byte missing": (lambda data, *_: data[:-1], NO_CHECKPOINT),
    "random bytes": (lambda *_: np.random.default_rng(0).bytes(5000), NO_CHECKPOINT),
    "huge header": (lambda data, *_: struct.pack("<Q", 2**63) + data[8:], NO_CHECKPOINT),
    "text": (lambda *_: b"agent: rl2\n" * 100, NO_CHECKPOINT),
    "pickle": (lambda *_: pickle.dumps(Bomb()), NO_CHECKPOINT),
    "torch pickle": (torch_pickle, NO_CHECKPOINT),
    "stranger": (lambda *_: save({"w": torch.zeros(3)}), NO_CHECKPOINT),
    "stranger's metadata": (
        lambda *_: save({"w": torch.zeros(3)}, {"format": "pt"}),
        NO_CHECKPOINT,
    ),
    "state no object": (
        lambda data, tensors, state: save(tensors, {"metarl": "[1]"}),
        "its state is not a JSON object",
    ),
    "other agent": (with_state(agent="PEARL"), "an agent of kind 'PEARL', not 'RL2'"),
    "no agent": (with_state(agent=None), "an agent of kind None"),
    "newer format": (
        with_state(format=FORMAT + 1, metarl="9.9"),
        f"has format {FORMAT + 1} .* reads format {FORMAT}; it was written by metarl 9.9: install",
    ),
    "older format": (with_state(format=1), f"has format 1 and .* reads format {FORMAT};"),
    "no format": (with_state(format=None), "has format None and"),
    "other actions": (
        with_state(action_space={"type": "Discrete", "n": 5, "start": 0}),
        "another action_space than that of 'strolls': Discrete, not Box",
    ),
    "no observations": (with_state(observation_space=None), "another observation_space .*: None,"),
    "old way of writing spaces": (with_state(action_space="Discrete(5)"), "another action_space"),
    "bad counter": (with_state(iteration=-1), r"damaged counters: \[-1"),
    "counter no number": (with_state(num_timesteps="many"), "damaged counters"),
    "wrong shape": (with_tensors(grow), r"'network.value.weight' has shape \(1, 9\)"),
    "not finite": (with_tensors(spoil), "the tensor 'network.value.weight' is not finite"),
    "no checksum": (without_checksum(FORMAT), "its content does not match its checksum"),
    "wrong checksum": (with_state(sha256="0" * 64), "its content does not match its checksum"),
    "a stranger's extra": (
        with_tensors(lambda tensors: tensors.update({"extra.buffer": torch.zeros(1)})),
        "it holds 'buffer', unknown to this agent",
    ),
    "deep state": (
        lambda *_: save({}, metadata={"metarl": "[" * 200_000}),
        "is damaged .*nested too deeply",
    ),
    "wrong type": (with_tensors(retype), "of torch.int32, expected .* of torch.float32"),
    "tensor missing": (
        with_tensors(lambda tensors: tensors.pop("network.policy.bias")),
        "lacks the tensor 'network.policy.bias'",
    ),
    "unknown tensor": (
        with_tensors(lambda tensors: tensors.update({"network.w": torch.zeros(1)})),
        "holds the tensor 'network.w'",
    ),
    "moments of wrong shape": (with_tensors(grow_moments), "'optimizer.0.exp_avg' has shape"),
    "moment missing": (
        with_tensors(lambda tensors: tensors.pop("optimizer.3.exp_avg_sq")),
        "lacks the tensor 'optimizer.3.exp_avg_sq'",
    ),
}
# Only load reads these; restore keeps the agent's own.
DAMAGED_HYPERPARAMETERS = {
    "none": (with_state(hyperparameters=None), "damaged hyperparameters"),
    "of the policy": (
        with_state(hyperparameters={"policy_kwargs": {"hidden_size": 0}}),
        r"agent.safetensors': hidden_size must be at least 1, got 0",
    ),
    "unknown": (with_state(hyperparameters={"rate": 1.0}), "unknown hyperparameter 'rate'"),
    "path": (with_state(hyperparameters={"tensorboard_log": "/"}), "unknown hyperparameter"),
    "wrong type": (with_state(hyperparameters={"gamma": "x"}), "gamma must be a number"),
    "out of range": (with_state(hyperparameters={"gamma": 3.0}), "gamma must be in"),
    "bad seed": (with_state(seed="x"), "seed must be an integer"),
}


def write(path, saved, damage):
    path.write_bytes(damage(saved.read_bytes(), *parts(saved)))


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path, saved, how, monkeypatch):
    monkeypatch.chdir(tmp_path)
    damage, message = DAMAGED[how]
    path = tmp_path / "agent.safetensors"
    write(path, saved, damage)
    agent = trained(num_timesteps=1, seed=5)
    before = everything(agent)
    with pytest.raises(ValueError, match=message) as refused:
        agent.restore(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert_same(before, everything(agent))
    with pytest.raises(ValueError, match=message):
        RL2.load(path, strolls())
    assert not (tmp_path / "exploded").exists()
    agent.restore(saved)  # a good one still goes in
    assert not torch.equal(agent.network.policy.weight, before[0]["network.policy.weight"])


@pytest.mark.parametrize("how", DAMAGED_HYPERPARAMETERS)
def test_damaged_hyperparameters_are_refused(tmp_path, saved, how):
    damage, message = DAMAGED_HYPERPARAMETERS[how]
    write(tmp_path / "agent.safetensors", saved, damage)
    with pytest.raises(ValueError, match=message):
        RL2.load(tmp_path / "agent", strolls())


def test_a_flipped_bit_is_noticed(tmp_path, saved):
    data = bytearray(saved.read_bytes())
    agent = trained(num_timesteps=1, seed=5)
    path = tmp_path / "agent.safetensors"
    for bit in np.random.default_rng(0).integers(8 * len(data), size=60).tolist():
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with pytest.raises(ValueError, match="is damaged"):
            agent.restore(path)
        data[bit // 8] ^= 1 << bit % 8


def test_files_from_before_checksums_are_read(tmp_path, saved):
    path = tmp_path / "agent.safetensors"
    write(path, saved, without_checksum(2))
    loaded = RL2.load(path, strolls())
    assert_same(everything(RL2.load(saved, strolls())), everything(loaded))


def test_a_hyperparameter_that_there_was_not_yet_had_its_default(tmp_path, saved):
    path = tmp_path / "agent.safetensors"
    agent = RL2.load(saved, strolls())
    write(path, saved, with_state(hyperparameters={**agent.hyperparameters, "gamma": 0.5}))
    assert agent.restore(path) == {"gamma": (0.5, 0.99)}
    older = {k: v for k, v in agent.hyperparameters.items() if k not in ("gamma", "clip_range")}
    write(path, saved, with_state(hyperparameters=older))
    assert agent.restore(path) == {}


def test_the_bomb_is_live(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Bomb()))
    assert (tmp_path / "exploded").exists()


def test_a_damaged_buffer_changes_nothing(tmp_path):
    rehearsing().save(tmp_path / "agent")
    path = tmp_path / "agent.safetensors"
    write(path, path, with_state(extra={"num_seen": 0}))
    agent = Rehearsing(strolls(), seed=5, policy_kwargs={"hidden_size": 8}, **OPTIONS).learn(1)
    before = everything(agent)
    with pytest.raises(ValueError, match="the buffer is damaged"):
        agent.restore(path)
    assert_same(before, everything(agent))


def test_a_missing_slot_of_any_optimiser_is_refused():
    tensors = gather_tensors(*optimized(OPTIMIZERS["rmsprop"], seed=0))
    modules, optimizers = optimized(OPTIMIZERS["rmsprop"], seed=1)
    before = {key: value.clone() for key, value in gather_tensors(modules, optimizers).items()}
    slots = [key for key in tensors if key.startswith("optimizer.")]
    assert "optimizer.0.momentum_buffer" in slots
    for slot in slots:
        fewer = {key: value for key, value in tensors.items() if key != slot}
        with pytest.raises(ValueError, match=f"'file' lacks the tensor '{slot}'"):
            check_tensors("'file'", fewer, modules, optimizers)()
    after = gather_tensors(modules, optimizers)
    assert all(torch.equal(before[key], after[key]) for key in before | after)


# Files that are whole, but of another agent.


def test_restore_says_in_what_agents_differ(saved):
    assert RL2.load(saved, strolls()).restore(saved) == {}
    network = {"hidden_size": 8}
    other = RL2(strolls(), seed=5, policy_kwargs=network, **{**OPTIONS, "n_epochs": 3})
    assert other.restore(saved) == {"seed": (0, 5), "n_epochs": (1, 3)}


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (aim(), "another observation_space than that of 'aim': Box, not Discrete"),
        (strolls(spaces.Discrete(2)), "another action_space .* 'strolls': Box, not Discrete"),
        (strolls(spaces.Box(-1.0, 1.0, (3,))), r"action_space .*: shape \[2\], not \[3\]"),
        (
            strolls(spaces.Box(BOX.low, np.array([1.0, 5.0]), dtype=np.float64)),
            r"action_space .*: high\[1\] 4.0, not 5.0",
        ),
    ],
)
def test_other_spaces_are_refused(saved, family, message):
    with pytest.raises(ValueError, match=message):
        RL2.load(saved, family)


def test_other_networks_are_refused(saved):
    agent = trained(policy_kwargs={"memory": "lstm"})
    before = everything(agent)
    with pytest.raises(ValueError, match="has shape"):
        agent.restore(saved)
    assert_same(before, everything(agent))


def test_agents_refuse_each_others_files(tmp_path):
    family = strolls(BOX)
    for name, kind in AGENTS.items():
        kind(family, seed=0).save(tmp_path / name)
    for name in AGENTS:
        for other, kind in AGENTS.items():
            if (name, other) == ("multi-task", "fine-tune"):  # which goes on from there
                assert kind.load(tmp_path / name, family).num_timesteps == 0
            elif other != name:
                with pytest.raises(ValueError, match="holds an agent of kind"):
                    kind.load(tmp_path / name, family)


@pytest.mark.parametrize("name", ["nothing", "."])
def test_a_file_that_is_not_there(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        RL2.load(tmp_path / name, strolls())
