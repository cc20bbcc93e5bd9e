"""RL² on sequences of a trial's steps: what they start from, and the gradients they give."""

import math

import numpy as np
import pytest
import torch
from learning import trained
from toys import aim, strolls
from witness import SMALL, Witness

from metarl import evaluate
from metarl.agents import RL2
from metarl.agents.common import ppo
from metarl.agents.common.memory.contract import map_state, tensors_of
from metarl.agents.common.ppo import in_sequences, ppo_gradients

NETWORKS = {
    "gru": {"memory": "gru"},
    "lstm-separate": {"memory": "lstm", "separate_critic": True, "encoder": [5]},
    "linear": {"memory": "linear", "separate_critic": True, "head": [5], "timed_critic": True},
    "none": {"memory": "none", "timed_critic": True},
}
every_network = pytest.mark.parametrize("network", NETWORKS)


def batch_of_trials(network):
    """Return an agent, and trials of unequal lengths that it has collected."""
    witness = Witness(policy_kwargs=NETWORKS[network], ent_coef=0.01).learn()
    return witness.agent, witness.batches[0]


def gradients(agent, batch):
    """Return the gradient by each parameter, of the loss on all real steps."""
    columns = torch.arange(batch.mask.shape[1])
    columns = columns[batch.mask.sum(0) > 0]
    parts = ppo_gradients(agent.network, batch, columns, batch.mask.sum(), agent.config)
    return parts[:-1]


@every_network
def test_a_minibatch_has_the_chosen_sequences_with_their_states(network):
    agent, batch = batch_of_trials(network)
    cut = in_sequences(agent.network, batch, 3)
    chosen = torch.tensor([5, 0, 7])
    part = cut.select(chosen)
    for name in ("rows", "pixels", "actions", "log_probs", "advantages", "targets", "mask"):
        assert torch.equal(getattr(part, name), getattr(cut, name)[:, chosen]), name
    assert torch.equal(part.task, cut.task[chosen])
    for one, other in zip(tensors_of(part.state), tensors_of(cut.state), strict=True):
        assert torch.equal(one, other[chosen])


def test_what_acting_has_recorded_can_be_trained_on():
    (recorded,) = Witness(policy_kwargs=NETWORKS["lstm-separate"]).learn().recorded
    tensors = [value for value in vars(recorded).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 9
    assert not any(tensor.is_inference() for tensor in tensors)


@every_network
@pytest.mark.parametrize("length", [None, 10**6])
def test_one_sequence_a_trial_gives_the_gradient_of_whole_trials(network, length):
    agent, batch = batch_of_trials(network)
    whole = in_sequences(agent.network, batch, length or len(batch.rows))
    assert whole.mask.shape == batch.mask.shape
    for one, other in zip(gradients(agent, batch), gradients(agent, whole)):
        assert torch.equal(one, other)


@every_network
@pytest.mark.parametrize("length", [1, 4, 5])
def test_gradients_are_those_of_a_loop_over_detached_states(network, length):
    agent, batch = batch_of_trials(network)
    cut = in_sequences(agent.network, batch, length)
    num_parts = math.ceil(len(batch.rows) / length)
    assert cut.mask.shape == (length, 6 * num_parts)
    assert cut.mask.sum() == batch.mask.sum()
    # Trial by trial and piece by piece, each from the state in which the last one ended.
    network, expected = agent.network, [torch.zeros_like(p) for p in agent.network.parameters()]
    for trial in range(6):
        one = batch.select(torch.tensor([trial]))
        state = network._start(one.rows)
        for start in range(0, int(one.mask.sum()), length):
            piece = one.map(lambda tensor, start=start: tensor[start : start + length])
            piece = type(piece)(**{**vars(piece), "state": (state,)})
            found = ppo_gradients(
                network, piece, torch.tensor([0]), batch.mask.sum(), agent.config
            )[:-1]
            expected = [total + part for total, part in zip(expected, found)]
            for t in range(len(piece.rows)):  # on, a step at a time
                row, pixels = piece.rows[t : t + 1], piece.pixels[t : t + 1]
                inputs = network._see(row, pixels)
                after = [network._read(row, inputs, state)[1]]
                if network.critic is not None:
                    after.append(network._read(row, inputs, state, for_critic=True)[1])
                passed = network._passed(row, state)[0] + 1
                state = map_state(torch.detach, (state[0] + 1, *after, passed))
    for one, other in zip(gradients(agent, cut), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    if network.actor.remembers:
        whole = gradients(agent, batch)
        assert any((a - b).abs().max() > 1e-5 for a, b in zip(whole, expected))


def test_a_minibatch_has_as_many_steps_and_padding_is_left_out():
    agent, batch = batch_of_trials("gru")
    given = []

    def spy(network, batch, columns, num_steps, config):
        given.append((columns, batch.mask[:, columns].sum(0), num_steps))
        return ppo_gradients(network, batch, columns, num_steps, config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ppo, "ppo_gradients", spy)
        config = RL2.config_class(**SMALL, sequence_length=3)
        ppo.ppo_update(agent.network, agent.optimizer, batch, config, torch.Generator())
    assert len(given) == 2 * 2  # two epochs of minibatches of four and of two trials, as without
    for epoch in (given[:2], given[2:]):
        columns = torch.cat([columns for columns, _, _ in epoch])
        assert len(columns) == len(columns.unique())
        steps = [lengths.sum() for _, lengths, _ in epoch]
        assert sum(steps) == batch.mask.sum()
        assert all((lengths > 0).all() for _, lengths, _ in epoch)
        assert len(epoch[0][0]) == math.ceil(4 / 6 * len(columns))
        assert [num_steps for _, _, num_steps in epoch] == steps


def test_states_are_those_of_acting():
    agent, batch = batch_of_trials("lstm-separate")
    with torch.no_grad():
        found = agent.network.states(batch.rows, batch.pixels, 4)
        state = agent.network.initial_state(6)
        for t, (row, pixels) in enumerate(zip(batch.rows, batch.pixels)):
            if t % 4 == 0:
                for one, other in zip(tensors_of(found[t // 4][:2]), tensors_of(state)):
                    torch.testing.assert_close(one, other)
            _, state = agent.network.act(row, pixels, state)
    assert len(found) == math.ceil(len(batch.rows) / 4) > 2


def test_training_on_sequences_is_resumed_in_the_same_bits(tmp_path):
    family, options = (
        strolls(),
        {**SMALL, "sequence_length": 3, "policy_kwargs": {"hidden_size": 8}},
    )
    straight = RL2(family, seed=0, **options).learn(400)
    first = RL2(family, seed=0, **options).learn(200)
    first.save(tmp_path / "agent")
    resumed = RL2.load(tmp_path / "agent", family)
    resumed.learn(straight.num_timesteps - first.num_timesteps, reset_num_timesteps=False)
    assert resumed.num_timesteps == straight.num_timesteps
    for one, other in zip(straight.network.parameters(), resumed.network.parameters()):
        assert torch.equal(one, other)


def test_it_learns_from_sequences_that_are_shorter_than_a_trial():
    # Two shots each: what the first shot tells is learned to be kept within a sequence, and is then
    # kept over the rest of the trial. Without memory the best is 0.
    family = aim()
    agent = trained(family, 40, sequence_length=2)
    report = evaluate(agent, family, num_tasks=200, deterministic=True)
    assert report.returns[:, 1:].mean() > 0.8
    np.testing.assert_array_less(np.abs(report.returns[:, 0].mean()), 0.2)


@pytest.mark.parametrize("memory", ["episodic", "transformer"])
def test_a_memory_whose_state_grows_is_refused(memory):
    match = (
        rf"fixed size, such as 'gru', got '{memory}', whose state grows .* leave sequence_length"
    )
    with pytest.raises(ValueError, match=match):
        RL2(strolls(), sequence_length=4, policy_kwargs={"memory": memory})
    with pytest.raises(ValueError, match="sequence_length must be at least 1, got 0"):
        RL2(strolls(), sequence_length=0)
