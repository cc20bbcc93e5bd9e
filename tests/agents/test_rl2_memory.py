"""RL²'s memories: what they hold in a trial, what they recall, and what a head sees besides."""

import itertools

import numpy as np
import pytest
import torch
from witness import NORMAL, SPACES, Witness

from metarl import Transition, envs
from metarl.agents import RL2
from metarl.agents.common.memory.contract import MemorySizes, map_state, select, tensors_of
from metarl.agents.common.memory.episodic import Episodic, EpisodicConfig
from metarl.agents.common.memory.registry import MEMORIES

NETWORKS = {
    **{name: {"memory": name} for name in MEMORIES},
    "separate": {"separate_critic": True, "encoder": [5]},
    "lstm-separate": {"memory": "lstm", "separate_critic": True},
    "episodic-pairs": {"memory": "episodic", "memory_kwargs": {"recall_encoder": [5]}},
    "skip": {"skip": True},
}
REMEMBERING = [network for network in NETWORKS if network != "none"]


@pytest.mark.parametrize("network", REMEMBERING)
def test_memory_starts_empty_and_outlives_episodes(network):
    witness = Witness(policy_kwargs=NETWORKS[network], num_iterations=2)
    memory = witness.agent.network.actor
    calls, before_call = [], []

    def seen(state, time):  # of a cache the slots that are filled
        if network != "transformer":
            return map_state(torch.clone, state)
        filled = torch.arange(state.shape[1]) < time[:, None]
        return state * filled[..., None, None, None, None]

    memory.register_forward_pre_hook(
        lambda _, given: before_call.append(seen(given[1], given[2][0]))
    )
    memory.register_forward_hook(
        lambda _, given, result: calls.append(
            (given[0].shape, before_call.pop(), seen(result[1], given[2][-1] + 1))
        )
    )
    witness.learn()

    def same(one, other):
        def pad(tensor, like):  # a cache has room to grow
            missing = [0] * (2 * (tensor.ndim - 2)) + [0, like.shape[1] - tensor.shape[1]]
            return tensor if network != "transformer" else torch.nn.functional.pad(tensor, missing)

        pairs = zip(tensors_of(one), tensors_of(other), strict=True)
        return all(torch.equal(mine, pad(theirs, mine)) for mine, theirs in pairs)

    acting = [call for call in calls if call[0][0] == 1]
    for trial in witness.trials:
        during, acting = acting[: len(trial)], acting[len(trial) :]
        assert same(during[0][1], memory.initial_state(6))
        for step, ((_, earlier, after), (_, before, _)) in zip(trial, itertools.pairwise(during)):
            active = torch.from_numpy(step[4])
            assert same(before, select(active, after, earlier))
            assert any((tensor != 0).any() for tensor in tensors_of(before))
    learning = [call for call in calls if call[0][0] > 1]
    assert len(learning) >= 2 * 2 * 2
    assert all(same(state, memory.initial_state(shape[1])) for shape, state, _ in learning)


@pytest.mark.parametrize("options", [{}, NORMAL])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("network", NETWORKS)
def test_one_call_over_whole_trials_repeats_what_was_recorded(network, space, options):
    witness = Witness(space, NETWORKS[network], num_iterations=2, **options)
    seen = []

    def check(batch):
        real = batch.mask.bool()
        with torch.no_grad():
            distribution, values, _ = witness.agent.network(batch.rows, batch.pixels, batch.task)
        log_probs = distribution.log_prob(batch.actions)
        torch.testing.assert_close(log_probs[real], batch.log_probs[real], atol=1e-5, rtol=0.0)
        values = values * batch.value_scale
        expected = witness.values[-1]
        torch.testing.assert_close(values[real], expected[real], atol=1e-5, rtol=0.0)
        seen.append(len(real))

    witness.checks.append(check)
    witness.learn()
    assert len(seen) == 2  # the second iteration normalises by the moments of the first
    assert min(seen) > 10


@pytest.mark.parametrize("network", REMEMBERING)
def test_a_memory_that_forgets_begins_anew_in_that_task_alone(network):
    tasks = envs.make("navigation-2d")
    rng = np.random.default_rng(0)
    ends = np.array([[0, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1], [0, 1, 0], [0, 0, 0]], dtype=bool)
    steps = [
        Transition(
            *rng.normal(size=(2, 3, 2)), rng.normal(size=3), end, end & False, None, end | True
        )
        for end in ends
    ]

    def outputs(reset_memory_every, first=0):
        """Return the policy's outputs, of shape (steps, tasks, ...)."""
        agent = RL2(
            tasks, seed=0, policy_kwargs=NETWORKS[network], reset_memory_every=reset_memory_every
        )
        adaptation = agent.adaptation(3, deterministic=True)
        seen = []
        for step in steps[first:]:
            seen.append(adaptation._act(step.observations)[1][3])
            adaptation.observe(step)
        return torch.stack(seen)

    forgets, keeps, fresh = outputs(2), outputs(None), outputs(None, first=4)
    # Two episodes of task 0 have ended by its fourth step, two of task 1 by its fifth.
    torch.testing.assert_close(forgets[:4], keeps[:4])
    torch.testing.assert_close(forgets[4:, 0], fresh[:, 0])
    assert not torch.allclose(forgets[4:, 0], keeps[4:, 0], atol=1e-4)
    torch.testing.assert_close(forgets[4, 1:], keeps[4, 1:])
    assert not torch.allclose(forgets[5, 1], keeps[5, 1], atol=1e-4)
    torch.testing.assert_close(forgets[5, 2], keeps[5, 2])


@pytest.mark.parametrize("reset_memory_every", [None, 2])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_task_that_waits_is_remembered_as_it_was(network, reset_memory_every, monkeypatch):
    monkeypatch.setattr(Episodic, "CAPACITY", 2)
    agent = RL2(
        envs.make("navigation-2d"),
        seed=0,
        policy_kwargs=NETWORKS[network],
        reset_memory_every=reset_memory_every,
    )
    rng = np.random.default_rng(0)
    num_steps, num_tasks = 12, 3
    active = rng.random((num_steps, num_tasks)) < 0.6
    active[0, 0] = False  # it may wait from the start
    ends = active & (rng.random(active.shape) < 0.4)
    seen, actions = rng.normal(size=(2, num_steps, num_tasks, 2)).astype(np.float32)
    rewards = rng.normal(size=active.shape)

    def outputs(steps, tasks):
        """Act in some tasks, in some steps; return the policy's outputs."""
        adaptation = agent.adaptation(len(tasks), deterministic=True)
        outputs = []
        for t in steps:
            outputs.append(adaptation._act(seen[t, tasks])[1][3])
            ended, moved = ends[t, tasks], active[t, tasks]
            adaptation.observe(
                Transition(
                    seen[t, tasks], actions[t, tasks], rewards[t, tasks],
                    ended, ended & False, None, moved,
                )
            )  # fmt: skip
        return torch.stack(outputs)

    together = outputs(range(num_steps), np.arange(num_tasks))
    for task in range(num_tasks):
        steps = np.flatnonzero(active[:, task])
        assert 3 < len(steps) < num_steps
        torch.testing.assert_close(together[steps, task], outputs(steps, [task])[:, 0])


def episodic(recall_encoder):
    """Return an episodic memory of rows of 3 numbers and 4 features."""
    config = EpisodicConfig(recall_encoder)
    return Episodic(MemorySizes(7, 3, 5), config, torch.Generator().manual_seed(0))


def read(memory, inputs):
    time = torch.arange(len(inputs))[:, None].expand(-1, inputs.shape[1])
    return memory(inputs, memory.initial_state(inputs.shape[1]), time, time == 0)


@pytest.mark.parametrize("recall_encoder", [(), (6,)])
def test_episodic_memory_recalls_what_followed_the_like(monkeypatch, recall_encoder):
    monkeypatch.setattr(Episodic, "CAPACITY", 6)
    torch.manual_seed(0)
    memory = episodic(recall_encoder)
    inputs = torch.randn(15, 2, 7)
    given = []
    memory.cell.register_forward_pre_hook(lambda _, args: given.append(args[0].detach()))
    read(memory, inputs)
    recalled = given[0][..., 7:]
    assert (recalled[0] == 0).all()  # at the start there is nothing to recall
    for n in range(2):
        keys = memory.key(inputs[:, n])
        keys = keys / keys.norm(dim=1, keepdim=True)
        rows = inputs[:, n, :3]
        if recall_encoder:
            first = memory.recall_encoder[0]
            rows = torch.tanh(rows @ first.weight.T + first.bias)
        values = memory.value(rows)
        for t in range(1, 15):
            weights, parts = [], []
            for s in range(max(0, t - 6), t):  # the step s, and the row that came after it
                weights.append(torch.exp(8.0 * (keys[s] @ keys[t] - 0.5)))
                parts.append(values[s + 1])
            expected = sum(w * v for w, v in zip(weights, parts)) / (1.0 + sum(weights))
            assert torch.allclose(recalled[t, n], expected, atol=1e-5)


def test_pairs_are_told_apart_only_after_a_recall_encoder():
    # In the same state two actions were taken, and one of them paid: which? The rows after them,
    # (action 0, action 1, reward), have the same mean either way.
    state = torch.ones(1, 4)
    stories = [[[1.0, 0, 1], [0, 1.0, 0]], [[1.0, 0, 0], [0, 1.0, 1]]]
    for recall_encoder, told_apart in [((), False), ((6,), True)]:
        memory = episodic(recall_encoder)
        with torch.no_grad():
            memory.key.weight[:, :3] = 0.0  # the state alone is compared
        given = []
        memory.cell.register_forward_pre_hook(lambda _, args, given=given: given.append(args[0]))
        for story in stories:
            rows = torch.tensor([[0.0, 0, 0], *story]).unsqueeze(1)
            inputs = torch.cat([rows, state.expand(3, 1, 4)], dim=-1)
            read(memory, inputs)
        one, other = (parts[2, 0, 7:] for parts in given)
        assert bool((one - other).abs().max() > 1e-3) == told_apart


@pytest.mark.parametrize("options", [{"head": [16]}, {"skip": True}], ids=["head", "skip"])
@pytest.mark.parametrize("memory", MEMORIES)
def test_a_head_sees_the_present_input_beside_the_memory(memory, options):
    tasks = envs.bandit(10, 5)
    kwargs = {"hidden_size": 8, "memory": memory, "separate_critic": True, **options}
    agent = RL2(tasks, seed=0, policy_kwargs=kwargs)
    network = agent.modules["network"]
    rows = torch.randn(6, 3, agent.trial_input.size)
    pixels = torch.zeros(6, 3, 0, dtype=torch.uint8)
    state, outputs = network.initial_state(3), []
    for step in rows:  # acting step by step equals whole trials
        out, state = network.act(step, pixels[0], state)
        outputs.append(out)
    distribution, values, _ = network(rows, pixels, torch.zeros(3, tasks.task_size))
    acted = network.distribution(torch.stack(outputs))
    torch.testing.assert_close(acted.logits, distribution.logits)
    assert values.shape == (6, 3)
    # Without the weights of the memory the policy still follows the input.
    with torch.no_grad():
        network.policy.weight.normal_()
        first = network.policy_layers[0] if "head" in options else network.policy
        first.weight[:, :8] = 0.0
        one, _ = network.act(rows[0], pixels[0], network.initial_state(3))
        other, _ = network.act(rows[1], pixels[0], network.initial_state(3))
    assert (one - other).abs().max() > 0.01
