"""What every memory must do, whatever its state is. A new one is tested by being registered."""

import copy
from collections import namedtuple
from unittest.mock import patch

import numpy as np
import pytest
import torch
from toys import aim, strolls
from witness import SMALL

from metarl import evaluate
from metarl.agents import RL2, Memory, MemorySizes, register_memory
from metarl.agents.common.memory.contract import map_state, select, tensors_of
from metarl.agents.common.memory.episodic import Episodic
from metarl.agents.common.memory.registry import MEMORIES

with patch.dict(MEMORIES):  # other tests do not know it
    from extensions.memory import Traces

CASES = [
    *((name, {}) for name in [*MEMORIES, "traces"]),
    ("episodic", {"recall_encoder": [5]}),
    ("linear", {"num_layers": 1}),
    ("transformer", {"context": 5}),  # in two layers it sees 8 steps back: of the 9 here, all
]
SIZES = MemorySizes(inputs=7, row=3, hidden=8)
T, N = 9, 3


def parametrized(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: "-".join((case[0], *case[1])))


every_memory = parametrized(CASES)
every_memory_that_remembers = parametrized([case for case in CASES if case[0] != "none"])


@pytest.fixture(params=[True, False], ids=["gradients", "acting"])
def _with_and_without_gradients(request):  # without, a memory may take other ways
    with torch.set_grad_enabled(request.param):
        yield


in_both_ways = pytest.mark.usefixtures("_with_and_without_gradients")


@pytest.fixture(autouse=True)
def _memories(monkeypatch):
    monkeypatch.setitem(MEMORIES, "traces", Traces)
    monkeypatch.setattr(Episodic, "CAPACITY", 4)  # of the 9 steps here


def build(case, seed=0):
    """Return a memory in double precision: what differs, differs by more than rounding."""
    name, options = case
    memory_class = MEMORIES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        return memory_class(SIZES, memory_class.config_class.build(options), generator).double()


def random_inputs(num_steps=T, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_steps, N, SIZES.inputs, generator=generator, dtype=torch.float64)


def read(memory, inputs, state=None, time=0):
    """Read inputs, from the start or from a state before the steps of index ``time``, (n,)."""
    num_steps, num_lanes = inputs.shape[:2]
    if state is None:
        state = memory.initial_state(num_lanes)
    steps = torch.arange(num_steps)[:, None] + torch.as_tensor(time).expand(num_lanes)
    return memory(inputs, state, steps, steps % 4 == 0)  # episodes of four steps


def copied(state):
    return map_state(torch.clone, state)


def assert_same_state(one, other):
    for mine, theirs in zip(tensors_of(one), tensors_of(other), strict=True):
        torch.testing.assert_close(mine, theirs)


@in_both_ways
@every_memory
@pytest.mark.parametrize("pieces", [[1] * T, [4, 5], [1, 3, 1, 4]])
def test_in_pieces_it_reads_what_it_reads_at_once(case, pieces):
    memory, inputs = build(case), random_inputs()
    whole, end = read(memory, inputs)
    assert whole.shape == (T, N, SIZES.hidden)
    state, parts, time = memory.initial_state(N), [], 0
    for piece in inputs.split(pieces):
        features, state = read(memory, piece, state, time)
        parts.append(features)
        time += len(piece)
    torch.testing.assert_close(torch.cat(parts), whole)
    following = random_inputs(3, seed=2)
    torch.testing.assert_close(
        read(memory, following, state, T)[0], read(memory, following, end, T)[0]
    )


@every_memory
@pytest.mark.parametrize("t", [0, 4, T - 1])
def test_a_step_changes_no_features_before_it_nor_in_other_lanes(case, t):
    memory, inputs = build(case), random_inputs()
    before, state = read(memory, inputs)
    changed = inputs.clone()
    changed[t, 1] += 1.0
    after, other = read(memory, changed)
    same = (before - after).abs().amax(-1) < 1e-12
    expected = torch.ones(T, N, dtype=torch.bool)
    expected[t : None if memory.remembers else t + 1, 1] = False
    assert torch.equal(same, expected)
    for mine, theirs in zip(tensors_of(state), tensors_of(other)):
        torch.testing.assert_close(mine[[0, 2]], theirs[[0, 2]])


@every_memory_that_remembers
def test_gradients_flow_from_the_last_step_to_the_first(case):
    memory, inputs = build(case), random_inputs().requires_grad_()
    features, _ = read(memory, inputs)
    (gradient,) = torch.autograd.grad(features[-1, 1].sum(), inputs, retain_graph=True)
    assert (gradient[:, 1].abs().amax(-1) > 1e-9).all()
    assert (gradient[:, [0, 2]] == 0).all()
    features.sum().backward()
    for name, parameter in memory.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(), name


@every_memory
def test_reading_and_resetting_leave_the_given_state_as_it_was(case):
    memory, inputs = build(case), random_inputs()
    with torch.no_grad():
        _, state = read(memory, inputs[:6])
        kept = copied(state)
        once, _ = read(memory, inputs[6:7], state, 6)
        memory.reset(state, torch.tensor([True, False, True]))
        assert_same_state(state, kept)
        again, _ = read(memory, inputs[6:7], copy.deepcopy(state), 6)
    assert torch.equal(once, again)


@in_both_ways
@every_memory
def test_from_one_state_it_reads_on_in_two_ways(case):
    memory, inputs = build(case), random_inputs(4)
    ways = [torch.cat([inputs, random_inputs(15, seed)]) for seed in (2, 3)]
    state = None
    for step, row in enumerate(inputs):
        _, state = read(memory, row[None], state, step)
    states = [state, state]
    for step in range(4, 19):  # step by step in turn
        for way, inputs in enumerate(ways):
            features, states[way] = read(memory, inputs[step : step + 1], states[way], step)
            whole, _ = read(memory, inputs[: step + 1])
            torch.testing.assert_close(features[0], whole[-1])


@in_both_ways
@every_memory_that_remembers
def test_a_lane_that_is_reset_is_at_the_start_of_a_trial(case):
    memory, inputs = build(case), random_inputs(12)
    _, state = read(memory, inputs[:6])
    state = memory.reset(state, torch.tensor([True, False, True]))
    following = inputs[6:]
    features, _ = read(memory, following, state, torch.tensor([0, 6, 0]))
    fresh, continued = read(memory, following)[0], read(memory, inputs)[0][6:]
    torch.testing.assert_close(features[:, [0, 2]], fresh[:, [0, 2]])
    torch.testing.assert_close(features[:, 1], continued[:, 1])
    assert not torch.allclose(fresh, continued, atol=1e-4)


@in_both_ways
@every_memory
def test_a_lane_that_waits_stays_as_it_was(case):
    memory, inputs = build(case), random_inputs(20)
    active = torch.rand(20, N, generator=torch.Generator().manual_seed(0)) < 0.6
    active[0, 0] = False  # it may wait from the start
    state, time, parts = memory.initial_state(N), torch.zeros(N, dtype=torch.int64), []
    for step, lanes in zip(inputs, active):
        features, after = read(memory, step[None], state, time)
        state, time = select(lanes, after, state), time + lanes
        parts.append(features[0])
    together = torch.stack(parts)
    for lane in range(N):
        taken = active[:, lane]
        assert 4 < taken.sum() < 20
        alone, _ = read(memory, inputs[taken][:, [lane]])
        torch.testing.assert_close(together[taken, lane], alone[:, 0])


@every_memory
def test_every_tensor_of_a_state_has_a_row_for_each_lane(case):
    memory = build(case)
    _, after = read(memory, random_inputs())
    for state in (memory.initial_state(N), after):
        assert {len(tensor) for tensor in tensors_of(state)} == ({N} if memory.remembers else set())


@every_memory
def test_weights_come_from_the_seed_and_from_a_file(case):
    one, same, other = build(case), build(case), build(case, seed=1)
    inputs = random_inputs()
    assert torch.equal(read(one, inputs)[0], read(same, inputs)[0])
    assert not torch.allclose(read(one, inputs)[0], read(other, inputs)[0])
    other.load_state_dict(one.state_dict())
    assert torch.equal(read(one, inputs)[0], read(other, inputs)[0])


@every_memory
def test_it_moves_to_another_device(case):
    memory = build(case).float().to("meta")
    inputs = random_inputs().float().to("meta")
    time = torch.zeros(T, N, dtype=torch.int64, device="meta")
    features, state = memory(inputs, memory.initial_state(N), time, time == 0)
    assert features.shape == (T, N, SIZES.hidden)
    assert {tensor.device.type for tensor in [features, *tensors_of(state)]} == {"meta"}


@every_memory
def test_an_agent_with_it_is_trained_saved_and_evaluated(case, tmp_path):
    name, options = case
    kwargs = {"hidden_size": 8, "memory": name, "memory_kwargs": options, "separate_critic": True}
    agents = [
        RL2(strolls(), seed=3, policy_kwargs={**kwargs, "encoder": [5]}, **SMALL).learn(1)
        for _ in range(2)
    ]
    agents[0].save(tmp_path / "agent")
    agents.append(RL2.load(tmp_path / "agent", strolls()))
    one, same, loaded = (evaluate(a, strolls(), num_tasks=3, seed=0).returns for a in agents)
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(one, loaded)


def test_without_memory_only_the_present_observation_counts():
    agent = RL2(strolls(), seed=0, policy_kwargs={"memory": "none", "head": [5], "encoder": [6]})
    seen = agent.trial_input.observation
    rows = torch.randn(4, 3, agent.trial_input.size)
    pixels = torch.zeros(4, 3, 0, dtype=torch.uint8)

    def outputs(rows):
        task = torch.zeros(3, agent.tasks.task_size)
        distribution, values, _ = agent.network(rows, pixels, task)
        return distribution.mean[-1], values[-1]

    with torch.no_grad():
        agent.network.policy.weight.normal_()
        before = outputs(rows)
        rows[..., seen.stop :] += 1.0  # last action, last reward, episode end
        rows[:3] += 1.0
        for one, other in zip(before, outputs(rows)):
            assert torch.equal(one, other)
        rows[3, :, seen] += 1.0
        for one, other in zip(before, outputs(rows)):
            assert ((one - other).abs() > 1e-4).all()


def test_reports_name_the_control_and_warn_of_no_memory():
    with_memory, without = (RL2(aim(), policy_kwargs={"memory": m}) for m in ("gru", "none"))
    reports = [
        evaluate(agent, aim(), num_tasks=2, num_episodes=9) for agent in (with_memory, without)
    ]
    assert [report.agent for report in reports] == ["RL2", "RL2 without memory"]
    assert "its memory may fail" in str(reports[0])
    assert "memory may fail" not in str(reports[1])


def share_recalled(name, num_steps, num_updates):
    """Train a memory to recall a cue over noise; return the share recalled in the last updates.

    The first step of ``num_steps`` shows the cue, -1 or 1, to be said after the last.
    """
    generator = torch.Generator().manual_seed(0)
    memory_class, answer = MEMORIES[name], torch.nn.Linear(16, 1)
    memory = memory_class(MemorySizes(3, 3, 16), memory_class.config_class(), generator)
    torch.nn.init.zeros_(answer.weight)
    torch.nn.init.zeros_(answer.bias)
    optimizer = torch.optim.Adam([*memory.parameters(), *answer.parameters()], lr=1e-2)
    time = torch.arange(num_steps)[:, None].expand(-1, 32)
    shares = []
    for _ in range(num_updates):
        cues = torch.randint(2, (32,), generator=generator).float()
        inputs = torch.randn(num_steps, 32, 3, generator=generator)
        inputs[..., 0] = 0.0
        inputs[0, :, 0] = 2 * cues - 1
        features, _ = memory(inputs, memory.initial_state(32), time, time == 0)
        said = answer(features[-1]).squeeze(-1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(said, cues)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(memory.parameters(), 0.5)
        optimizer.step()
        shares.append(((said > 0) == cues.bool()).float().mean())
    return torch.stack(shares[-10:]).mean()


@pytest.mark.parametrize(("name", "low", "high"), [("linear", 0.95, 1.0), ("none", 0.35, 0.65)])
def test_a_linear_recurrence_recalls_a_cue_after_50_steps(name, low, high):
    # So does a Transformer; a GRU and an LSTM are still at chance after as many updates (0.5).
    assert low <= share_recalled(name, 50, 100) <= high


Pair = namedtuple("Pair", ["short", "long"])


def test_states_of_any_form_are_selected_and_filled_up():
    def state(value, length):
        return {"list": [torch.full((2,), value)], "pair": Pair(torch.full((2, length, 1), value),
                (torch.full((2, 3), value),))}  # fmt: skip

    selected = select(torch.tensor([True, False]), state(1, 1), state(2, 3))
    assert selected["list"][0].tolist() == [1, 2]
    assert isinstance(selected["pair"], Pair)
    assert selected["pair"].short.squeeze(-1).tolist() == [[1, 0, 0], [2, 2, 2]]
    assert selected["pair"].long[0].tolist() == [[1, 1, 1], [2, 2, 2]]
    assert [len(tensor) for tensor in tensors_of(selected)] == [2, 2, 2]


def test_the_start_of_an_episode_and_the_time_in_the_trial_are_given():
    given = []

    class Clock(MEMORIES["gru"]):
        def forward(self, inputs, state, time, starts):
            given.append((time.clone(), starts.clone()))
            return super().forward(inputs, state, time, starts)

    with patch.dict(MEMORIES, clock=Clock):
        kwargs = {"hidden_size": 4, "memory": "clock"}
        RL2(strolls(), seed=3, policy_kwargs=kwargs, **SMALL).learn(1)
        acting = [call for call in given if len(call[0]) == 1]
        (time, starts), *_ = (call for call in given if len(call[0]) == len(acting))
    # Lanes that have finished wait; the others' steps are counted alike in acting and learning.
    assert (time == torch.arange(len(time))[:, None]).all()
    acted, began = (torch.cat(parts) for parts in zip(*acting))
    same = acted == time[:, : acted.shape[1]]
    assert same.any(0).all()
    assert torch.equal(began[same], starts[same])
    assert starts[0].all()
    assert starts[1:].any()
    assert not starts.all()


def test_names_and_options_of_memories_are_checked():
    def network(**kwargs):
        return RL2(strolls(), policy_kwargs=kwargs)

    with pytest.raises(ValueError, match="unknown memory 'lstn'; did you mean 'lstm'"):
        network(memory="lstn")
    with pytest.raises(
        ValueError, match="unknown memory_kwargs name of 'gru': 'recall_encoder'; none is known"
    ):
        network(memory_kwargs={"recall_encoder": [8]})
    with pytest.raises(ValueError, match=r"recall_encoder\[0\] must be at least 1, got 0"):
        network(memory="episodic", memory_kwargs={"recall_encoder": [0]})
    with pytest.raises(TypeError, match="memory_kwargs must be a dictionary or None, got 8"):
        network(memory_kwargs=8)
    with pytest.raises(TypeError, match=r"'mine' must be a subclass of metarl\.agents\.Memory"):
        register_memory("mine", torch.nn.GRU)
    with pytest.raises(ValueError, match=r"'gru' is metarl\..*\.GRU already; register Mine by"):
        register_memory("gru", type("Mine", (Memory,), {}))
    register_memory("gru", MEMORIES["gru"])  # again, as when a module is imported again
