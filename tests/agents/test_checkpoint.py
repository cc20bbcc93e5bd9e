"""Checkpoints: what was saved comes back, and learning goes on as if it had never been saved."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from saved_agents import (
    OPTIMIZERS,
    OPTIONS,
    Rehearsing,
    assert_same,
    descend,
    everything,
    optimized,
    rehearsing,
    trained,
)
from toys import risk, strolls

from metarl import evaluate
from metarl.agents import RL2
from metarl.agents.training import saving
from metarl.agents.training.checkpoint import (
    FORMAT,
    check_tensors,
    gather_tensors,
    load_checkpoint,
    save_checkpoint,
)
from metarl.files import atomic_write

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


def test_another_version_of_the_simulator_is_warned_of(tmp_path, monkeypatch):
    tasks = replace(strolls(), simulator="mujoco")
    agent = RL2(tasks, seed=0, trials_per_iteration=2, trials_per_minibatch=2)
    agent.save(tmp_path / "agent")
    RL2.load(tmp_path / "agent", tasks)  # the same version: no warning
    here = saving.versions()
    monkeypatch.setattr(saving, "versions", lambda: {**here, "mujoco": "9.9.9"})
    with pytest.warns(UserWarning, match=r"was trained on mujoco [\d.]+, this is mujoco 9\.9\.9"):
        RL2.load(tmp_path / "agent", tasks)
    with pytest.warns(UserWarning, match="returns may differ"):
        agent.restore(tmp_path / "agent")
    RL2.load(tmp_path / "agent", strolls())  # nothing depends on it here


# Agents that keep more than modules and Adam.


class Forgetful(Rehearsing):
    """Takes over nothing."""

    def restore_extra_state(self, tensors, data):
        pass


Forgetful.__name__ = "Rehearsing"


def test_an_agent_with_a_buffer_continues_as_if_it_had_never_been_saved(tmp_path):
    agent = rehearsing()
    agent.save(tmp_path / "agent")
    loaded = Rehearsing.load(tmp_path / "agent", strolls())
    with_resets = Forgetful.load(tmp_path / "agent", strolls())
    assert torch.equal(loaded.buffer, agent.buffer)
    assert_same(everything(agent), everything(with_resets))
    for each in (agent, loaded, with_resets):
        each.learn(60, reset_num_timesteps=False)
    assert_same(everything(agent), everything(loaded))
    assert torch.equal(loaded.buffer, agent.buffer)
    assert loaded.num_seen == agent.num_seen
    # The buffer matters: an agent that starts with an empty one learns something else.
    assert not torch.equal(agent.network.policy.bias, with_resets.network.policy.bias)


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
