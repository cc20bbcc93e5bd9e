"""What training knows of the task, and the policy does not."""

import numpy as np
import pytest
import torch
from toys import strolls
from witness import Witness

from metarl.agents import RL2

MEMORIES = {
    "of the actor": {"privileged_critic": True},
    "of its own": {"privileged_critic": True, "separate_critic": True, "memory": "lstm"},
    "with a head": {"privileged_critic": True, "encoder": [6], "head": [7, 5]},
}
SMALL = {"trials_per_iteration": 6, "trials_per_minibatch": 4, "n_epochs": 2}


def small(policy_kwargs=None, family=None, **options):
    network = {"hidden_size": 8, **(policy_kwargs or {})}
    return RL2(family or strolls(), seed=3, policy_kwargs=network, **{**SMALL, **options})


def tensors(agent):
    return {name: tensor.clone() for name, tensor in agent._state()[0].items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# A privileged critic.


@pytest.mark.parametrize("name", MEMORIES)
def test_the_critic_depends_on_the_task_and_the_policy_does_not(name):
    agent = small(MEMORIES[name])
    network = agent.network
    rows = torch.randn(5, 3, agent.trial_input.size)
    pixels = torch.zeros(5, 3, 0, dtype=torch.uint8)
    tasks = torch.randn(2, 3, agent.tasks.task_size)
    one, other = (network(rows, pixels, task) for task in tasks)
    assert torch.equal(one.distribution.mean, other.distribution.mean)
    assert ((one.values - other.values).abs() > 1e-4).all()
    assert torch.equal(network.values(rows, pixels, tasks[0]), one.values)
    # Both depend on what was seen before: the critic must know what the policy has found out.
    rows[0, :, 0] += 1.0
    later = network(rows, pixels, tasks[0])
    assert ((later.values[1:] - one.values[1:]).abs() > 1e-6).all()


def test_its_values_are_those_of_its_layers_step_by_step():
    network = small(MEMORIES["of the actor"]).network
    with torch.no_grad():
        rows, task = torch.randn(4, 2, network.actor.sizes.inputs), torch.randn(2, 3)
        pixels = torch.zeros(4, 2, 0, dtype=torch.uint8)
        outputs = network(rows, pixels, task)
        state = network.initial_state(2)
        weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        for t in range(4):
            _, state = network.act(rows[t], pixels[t], state)  # a GRU's state is its features
            for n in range(2):
                joined = np.concatenate([state[1][n], rows[t, n], task[n]])
                layer = weights["value_layers.0.weight"] @ joined + weights["value_layers.0.bias"]
                value = weights["value.weight"] @ np.tanh(layer) + weights["value.bias"]
                np.testing.assert_allclose(outputs.values[t, n], value[0], rtol=1e-4)


@pytest.mark.parametrize("separate", [False, True])
def test_what_the_critic_learns_does_not_change_the_actors_memory(separate):
    agent = small({"privileged_critic": True, "separate_critic": separate})
    network = agent.network
    rows = torch.randn(4, 2, agent.trial_input.size)
    pixels = torch.zeros(4, 2, 0, dtype=torch.uint8)
    values = network(rows, pixels, torch.randn(2, agent.tasks.task_size)).values
    values.square().mean().backward()
    assert all(parameter.grad is None for parameter in network.actor.parameters())
    assert all(parameter.grad is not None for parameter in network.value_layers.parameters())


def test_each_trial_has_the_value_of_its_own_task():
    # Minibatches are drawn, and cut into pieces: whose task is whose must not get lost.
    witness = Witness(policy_kwargs={"privileged_critic": True})
    network = witness.agent.network
    calls = []
    network.register_forward_hook(lambda _, given, out: calls.append((given[0], given[2])))
    (batch,) = witness.learn().batches
    for rows, task in calls:
        for n in range(rows.shape[1]):
            (whose,) = (batch.rows[0] == rows[0, n]).all(-1).nonzero()[:, 0]
            assert torch.equal(task[n], batch.task[whose])
    assert len(calls) == 2 * 2


def test_it_predicts_what_only_the_task_tells():
    # Every step earns what the task says, and no step shows the task before it earns. In the first
    # of these episodes a critic without the task predicts the mean. It explains 0.38 and 0.45 of
    # the variance of returns (two seeds), one that sees the task 0.86 and 0.90.
    family = strolls(stop=0.0, worth=(0.0, 1.0), episodes_per_trial=1)
    options = {
        "trials_per_iteration": 64,
        "trials_per_minibatch": 16,
        "learning_rate": 1e-2,
        "gamma": 1.0,
        "gae_lambda": 1.0,
    }
    explained = {}
    for privileged in (False, True):
        agent = small({"privileged_critic": privileged}, family, **options)
        batch_of, shares = agent.batch_of, []

        def witnessed(trials, batch_of=batch_of, shares=shares):
            batch, share = batch_of(trials)
            shares.append(share)
            return batch, share

        agent.batch_of = witnessed
        agent.learn(64 * 8 * 12)
        explained[privileged] = np.mean(shares[-5:])
    assert explained[True] > 0.75
    assert explained[False] < 0.55


@pytest.mark.parametrize("name", MEMORIES)
def test_resumed_to_the_bit(name, tmp_path):
    straight = small(MEMORIES[name]).learn(200)
    half = small(MEMORIES[name]).learn(100)
    half.save(tmp_path / "agent")
    loaded = RL2.load(tmp_path / "agent", strolls())
    loaded.learn(straight.num_timesteps - loaded.num_timesteps, reset_num_timesteps=False)
    assert same(tensors(straight), tensors(loaded))
