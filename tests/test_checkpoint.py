"""Checkpoints: what was saved comes back, and what is damaged or strange changes nothing."""

import json
import os
import pickle
import struct
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from toys import BOX, aim, risk, spaces, strolls

from metarl import evaluate
from metarl.agents import AGENTS, RL2, saving
from metarl.agents.checkpoint import (
    FORMAT,
    _checksum,
    check_tensors,
    gather_tensors,
    load_checkpoint,
    save_checkpoint,
)
from metarl.files import atomic_write

OPTIONS = {
    "trials_per_iteration": 4,
    "trials_per_minibatch": 2,
    "n_epochs": 1,
    "normalize_observation": True,
    "normalize_reward": True,
}


def trained(family=None, num_timesteps=40, seed=0, **options):
    network = {"hidden_size": 8, **options.pop("policy_kwargs", {})}
    agent = RL2(family or strolls(), seed=seed, policy_kwargs=network, **{**OPTIONS, **options})
    return agent.learn(num_timesteps)


def everything(agent):
    """All that training depends on, as bytes and numbers."""
    tensors = {
        f"{name}.{key}": value.clone()
        for name, module in agent._modules.items()
        for key, value in module.state_dict().items()
    }
    for name, optimizer in agent._optimizers.items():
        for index, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{index}.{key}": value.clone() for key, value in slots.items()}
    return tensors, (agent.iteration, agent.num_timesteps, agent.seed)


def assert_same(one, other):
    assert one[1] == other[1]
    assert one[0].keys() == other[0].keys()
    for name, tensor in one[0].items():
        assert torch.equal(tensor, other[0][name]), name


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "agent.safetensors"
    trained(num_timesteps=100).save(path)
    return path


# Saving and loading.


@pytest.mark.parametrize(
    "network", [{}, {"memory": "lstm", "separate_critic": True, "encoder": (5, 4)}]
)
def test_load_gives_back_all_that_was_saved(tmp_path, network):
    agent = trained(policy_kwargs=network)
    agent.save(tmp_path / "agent")
    loaded = RL2.load(tmp_path / "agent", strolls())
    assert_same(everything(agent), everything(loaded))
    mine, theirs = (evaluate(each, strolls(), num_tasks=3).returns for each in (agent, loaded))
    np.testing.assert_array_equal(mine, theirs)


def test_a_loaded_agent_continues_as_if_it_had_never_been_saved(tmp_path):
    agent = trained(num_timesteps=60)
    agent.save(tmp_path / "agent")
    loaded = RL2.load(tmp_path / "agent", strolls())
    for each in (agent, loaded):
        each.learn(60, reset_num_timesteps=False)
    assert_same(everything(agent), everything(loaded))


def test_an_agent_that_has_not_learned_is_saved_too(tmp_path):
    agent = RL2(strolls(), seed=3, **OPTIONS)
    agent.save(tmp_path / "agent")
    assert_same(everything(agent), everything(RL2.load(tmp_path / "agent", strolls())))


def test_an_own_seed_is_drawn_and_kept(tmp_path):
    one, other = RL2(risk(), **OPTIONS), RL2(risk(), **OPTIONS)
    assert one.seed != other.seed
    one.save(tmp_path / "one")
    assert RL2.load(tmp_path / "one", risk()).seed == one.seed


def test_without_optimisers_an_agent_plays_the_same_and_takes_less_than_half_the_room(tmp_path):
    agent = RL2(strolls(), seed=0, **OPTIONS).learn(1)
    agent.save(tmp_path / "whole")
    agent.save(tmp_path / "played", with_optimizers=False)
    whole, played = ((tmp_path / f"{n}.safetensors").stat().st_size for n in ("whole", "played"))
    assert played < 0.5 * whole
    loaded = RL2.load(tmp_path / "played", strolls())
    returns = [evaluate(each, strolls(), num_tasks=4).returns for each in (agent, loaded)]
    np.testing.assert_array_equal(*returns)


@pytest.mark.parametrize("name", ["agent", "agent.safetensors"])
def test_the_suffix_may_be_left_out(tmp_path, name):
    RL2(risk(), **OPTIONS).save(tmp_path / "deep" / name)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["agent.safetensors"]
    RL2.load(str(tmp_path / "deep" / name), risk())


# What is refused. Each of these is made from a good checkpoint, so only one thing is wrong.


def parts(path):
    data = path.read_bytes()
    return load(data), load_checkpoint(path)[1]


def sealed(tensors, state):
    """A file whose checksum is right, whatever else is not."""
    text = json.dumps({"sha256": _checksum(tensors, state), **state})
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


def test_restore_says_in_what_agents_differ(saved):
    assert RL2.load(saved, strolls()).restore(saved) == {}
    network = {"hidden_size": 8}
    other = RL2(strolls(), seed=5, policy_kwargs=network, **{**OPTIONS, "n_epochs": 3})
    assert other.restore(saved) == {"seed": (0, 5), "n_epochs": (1, 3)}


def test_the_bomb_is_live(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Bomb()))
    assert (tmp_path / "exploded").exists()


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


# Agents that keep more than modules and Adam.


class Rehearsing(RL2):
    """Keeps the last returns, and lets them decide on what it learns."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.buffer = torch.zeros(0)
        self.num_seen = 0

    def _update(self, experience):
        super()._update(experience)
        returns = experience.trials().rewards.sum(0)
        self.num_seen += len(returns)
        self.buffer = torch.cat([self.buffer, returns])[-10:]
        with torch.no_grad():
            self.network.policy.bias += 1e-2 * self.buffer.mean() / self.num_seen

    def _extra_state(self):
        return {"buffer": self.buffer}, {"num_seen": self.num_seen}

    def _restore_extra_state(self, tensors, data):
        if tensors.keys() != {"buffer"} or data["num_seen"] < len(tensors["buffer"]):
            raise ValueError("the buffer is damaged")
        self.buffer, self.num_seen = tensors["buffer"], data["num_seen"]


class Forgetful(Rehearsing):
    """Takes over nothing."""

    def _restore_extra_state(self, tensors, data):
        pass


Forgetful.__name__ = "Rehearsing"


def rehearsing():
    return Rehearsing(strolls(), seed=0, policy_kwargs={"hidden_size": 8}, **OPTIONS).learn(100)


def test_an_agent_with_a_buffer_continues_as_if_it_had_never_been_saved(tmp_path):
    agent = rehearsing()
    agent.save(tmp_path / "agent")
    loaded = Rehearsing.load(tmp_path / "agent", strolls())
    forgetful = Forgetful.load(tmp_path / "agent", strolls())
    assert torch.equal(loaded.buffer, agent.buffer)
    assert_same(everything(agent), everything(forgetful))
    for each in (agent, loaded, forgetful):
        each.learn(60, reset_num_timesteps=False)
    assert_same(everything(agent), everything(loaded))
    assert torch.equal(loaded.buffer, agent.buffer)
    assert loaded.num_seen == agent.num_seen
    # The buffer matters: an agent that starts with an empty one learns something else.
    assert not torch.equal(agent.network.policy.bias, forgetful.network.policy.bias)


def test_a_damaged_buffer_changes_nothing(tmp_path):
    rehearsing().save(tmp_path / "agent")
    path = tmp_path / "agent.safetensors"
    write(path, path, with_state(extra={"num_seen": 0}))
    agent = Rehearsing(strolls(), seed=5, policy_kwargs={"hidden_size": 8}, **OPTIONS).learn(1)
    before = everything(agent)
    with pytest.raises(ValueError, match="the buffer is damaged"):
        agent.restore(path)
    assert_same(before, everything(agent))


OPTIMIZERS = {
    "rmsprop": partial(torch.optim.RMSprop, lr=0.01, momentum=0.9, centered=True),
    "sgd": partial(torch.optim.SGD, lr=0.01, momentum=0.9),
    "plain sgd": partial(torch.optim.SGD, lr=0.01),
    "adagrad": partial(torch.optim.Adagrad, lr=0.01),
}


def optimized(make, seed):
    """A module after three steps of an optimiser, which never sees one of its parameters."""
    modules = torch.nn.ModuleDict({"used": torch.nn.Linear(3, 2), "unused": torch.nn.Linear(1, 1)})
    generator = torch.Generator().manual_seed(seed)
    for parameter in modules.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    optimizer = make(modules.parameters())
    for step in range(3):
        descend(modules, optimizer, step + seed)
    return {"net": modules}, {"optimizer": optimizer}


def descend(modules, optimizer, seed):
    inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    modules["used"](inputs).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimiser_continues_as_if_it_had_never_been_saved(tmp_path, name):
    modules, optimizers = optimized(OPTIMIZERS[name], seed=0)
    save_checkpoint(tmp_path / "file", gather_tensors(modules, optimizers), {})
    others = optimized(OPTIMIZERS[name], seed=1)
    check_tensors("'file'", load_checkpoint(tmp_path / "file")[0], *others)()
    for each_modules, each_optimizers in ((modules, optimizers), others):
        for step in range(3):
            descend(each_modules["net"], each_optimizers["optimizer"], 100 + step)
    ours, theirs = gather_tensors(modules, optimizers), gather_tensors(*others)
    assert ours.keys() == theirs.keys()
    for key, tensor in ours.items():
        assert torch.equal(tensor, theirs[key]), key
    num_slots = sum(key.startswith("optimizer.") for key in ours)
    assert num_slots == {"rmsprop": 2 * 4, "sgd": 2 * 1, "plain sgd": 0, "adagrad": 4 * 2}[name]


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


# Writing.


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    atomic_write(path, "old")

    def fail(*_):
        raise OSError("the disk is full")

    for step in ("fsync", "replace"):
        monkeypatch.setattr(os, step, fail)
        with pytest.raises(OSError, match="disk is full"):
            atomic_write(path, "new")
        monkeypatch.undo()
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["file"]
    atomic_write(path, "new")
    assert path.read_text() == "new"


def test_tensors_and_state_come_back(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(1, dtype=torch.int64)}
    state = {"text": 'quotes " and ü', "list": [1, None, 0.1]}
    save_checkpoint(tmp_path / "file", tensors, state)
    loaded, loaded_state = load_checkpoint(tmp_path / "file")
    assert loaded_state == {"format": FORMAT, **state}
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_of_several_who_write_exclusively_one_succeeds(tmp_path):
    path = tmp_path / "config.json"
    atomic_write(path, "first", exclusive=True)
    with pytest.raises(FileExistsError):
        atomic_write(path, "second", exclusive=True)
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]  # nothing temporary stays


def test_an_agent_of_another_simulators_version_is_told(tmp_path, monkeypatch):
    tasks = replace(strolls(), simulator="mujoco")
    agent = RL2(tasks, seed=0, trials_per_iteration=2, trials_per_minibatch=2)
    agent.save(tmp_path / "agent")
    RL2.load(tmp_path / "agent", tasks)  # the same version: no warning
    here = saving.versions()
    monkeypatch.setattr(saving, "versions", lambda: {**here, "mujoco": "9.9.9"})
    with pytest.warns(UserWarning, match=r"was trained on mujoco [\d.]+, here is mujoco 9\.9\.9"):
        RL2.load(tmp_path / "agent", tasks)
    with pytest.warns(UserWarning, match="returns may differ"):
        agent.restore(tmp_path / "agent")
    RL2.load(tmp_path / "agent", strolls())  # nothing depends on it here
