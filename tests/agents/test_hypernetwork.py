"""The emitted network: an ordinary one at the start, and one for each step afterwards."""

import pytest
import torch
from learning import trained
from toys import aim, signposts, strolls
from witness import SMALL, Witness

from metarl import evaluate
from metarl.agents import RL2
from metarl.agents.common.hypernetwork import CONTEXT_SIZE, Hypernetwork


def build(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Hypernetwork(6, 4, [5, 3], 2, 0.5, generator).double()


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_at_the_start_it_is_an_ordinary_network_that_ignores_the_memory():
    network, features, inputs = build(), drawn(7, 3, 6), drawn(7, 3, 4)
    first, second, last = (layer.start for layer in (*network.layers, network.output))
    expected = last(torch.tanh(second(torch.tanh(first(inputs)))))
    assert torch.equal(network(features, inputs), expected)
    assert torch.equal(network(2 * features, inputs), expected)
    for product, scale in (
        (first.weight.T @ first.weight, 2.0),
        (last.weight @ last.weight.T, 0.25),
    ):
        expected = scale * torch.eye(len(product), dtype=torch.float64)
        torch.testing.assert_close(product, expected, atol=1e-5, rtol=0.0)
    assert (last.bias == 0).all()


def test_each_step_has_the_weights_that_its_memory_emits():
    network, features, inputs = build(), drawn(7, 3, 6), drawn(7, 3, 4)
    with torch.no_grad():
        for layer in (*network.layers, network.output):
            layer.change.weight.normal_()
    outputs = network(features, inputs)
    for t in range(7):
        for n in range(3):
            context, x = network.context(features[t, n]), inputs[t, n]
            for layer in (*network.layers, network.output):
                change = layer.change.weight.unflatten(1, (CONTEXT_SIZE, len(x) + 1))
                emitted = torch.einsum("k,oki->oi", context, change)
                weight, bias = (
                    layer.start.weight + emitted[:, :-1],
                    layer.start.bias + emitted[:, -1],
                )
                x = weight @ x + bias
                if layer is not network.output:
                    x = torch.tanh(x)
            torch.testing.assert_close(outputs[t, n], x)


def test_the_first_update_lets_the_memory_in():
    witness = Witness(policy_kwargs={"hypernetwork": [5], "separate_critic": True}).learn()
    network = witness.agent.network
    for head in (network.policy, network.value):
        for layer in (*head.layers, head.output):
            assert (layer.change.weight != 0).any()
    assert len(network.policy_layers) == len(network.value_layers) == 0


@pytest.mark.parametrize("family", [aim(), strolls()], ids=["one-step", "strolls"])
def test_it_acts_as_it_learns_and_is_resumed_in_the_same_bits(family, tmp_path):
    options = {**SMALL, "policy_kwargs": {"hidden_size": 8, "hypernetwork": [5]}}
    straight = RL2(family, seed=0, **options).learn(200)
    first = RL2(family, seed=0, **options).learn(100)
    first.save(tmp_path / "agent")
    resumed = RL2.load(tmp_path / "agent", family)
    resumed.learn(straight.num_timesteps - first.num_timesteps, reset_num_timesteps=False)
    for one, other in zip(straight.network.parameters(), resumed.network.parameters()):
        assert torch.equal(one, other)
    network, rows = straight.network, torch.randn(6, 3, straight.trial_input.size)
    pixels, state, outputs = torch.zeros(6, 3, 0, dtype=torch.uint8), network.initial_state(3), []
    task = torch.zeros(3, family.task_size)
    with torch.no_grad():
        for row, pixel in zip(rows, pixels):
            output, state = network.act(row, pixel, state)
            outputs.append(output)
        torch.testing.assert_close(torch.stack(outputs), network(rows, pixels, task)[0].mean)


@pytest.mark.slow
def test_it_searches_and_goes_straight():
    # Which action leads where is read from the observation, and where to go from the memory: see
    # test_rl2_learning.py. Without memory the best is 1.36, with actions that ignore the
    # observation 1.0.
    family = signposts()
    policy = {"hypernetwork": [16]}
    agent = trained(
        family, 100, steps_per_episode=4, gae_lambda=0.9, ent_coef=0.01, policy_kwargs=policy
    )
    assert evaluate(agent, family, num_tasks=400).trial_returns.mean() > 2.0


def test_a_head_beside_it_is_refused():
    for option in ({"head": [8]}, {"skip": True}):
        with pytest.raises(
            ValueError, match="hypernetwork takes the place of head and skip: leave"
        ):
            RL2(strolls(), policy_kwargs={"hypernetwork": [8], **option})
