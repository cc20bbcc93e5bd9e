"""The Transformer memory: what it sees, how far back, and what it keeps."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from learning import trained
from test_memories import SIZES, N, random_inputs, read
from toys import strolls

from metarl import Choice, StepResult, TaskDistribution, TaskVectorEnv, evaluate
from metarl.agents import RL2
from metarl.agents.common.memory.contract import select
from metarl.agents.common.memory.transformer import Transformer, TransformerConfig


def build(**options):
    generator = torch.Generator().manual_seed(0)
    return Transformer(SIZES, TransformerConfig(**options), generator).double()


@pytest.mark.parametrize(("num_layers", "context", "reach"), [(1, 1, 0), (1, 4, 3), (2, 4, 6)])
def test_it_sees_back_as_far_as_its_context(num_layers, context, reach):
    memory, inputs = build(num_layers=num_layers, context=context), random_inputs(12)
    changed = inputs.clone()
    changed[2] += 1.0
    difference = (read(memory, inputs)[0] - read(memory, changed)[0]).abs().amax((1, 2))
    assert torch.nonzero(difference > 1e-9).flatten().tolist() == list(range(2, 3 + reach))


def test_the_same_window_gives_the_same_features_at_any_time():
    memory, inputs = build(context=3), random_inputs(5).repeat(4, 1, 1)  # sees 4 steps back
    features, _ = read(memory, inputs)
    torch.testing.assert_close(features[4:15], features[9:])
    assert not torch.allclose(features[:4], features[5:9])  # the first see less


def test_the_order_of_earlier_steps_counts():
    memory, inputs = build(num_layers=1), random_inputs(4)
    swapped = inputs[[1, 0, 2, 3]]
    difference = (read(memory, inputs)[0][3] - read(memory, swapped)[0][3]).abs().max()
    assert difference > 1e-4  # without rotation zero


@pytest.mark.parametrize("context", [None, 3])
def test_the_cache_is_no_longer_than_the_longest_trial(context):
    memory, inputs = build(context=context), random_inputs(40)
    state, time = memory.initial_state(N), torch.zeros(N, dtype=torch.int64)
    for step, row in enumerate(inputs):
        _, state = read(memory, row[None], state, time)
        time += 1
        ended = time == torch.tensor([5, 6, 7])  # trials end at different steps
        state, time = memory.reset(state, ended), time.masked_fill(ended, 0)
        assert state.shape[1] == min(step + 1, context or 7)


@torch.no_grad()
def test_acting_copies_the_cache_only_where_it_grows():
    memory, inputs, state, copies = build(), random_inputs(100), None, 0
    for step, row in enumerate(inputs):
        before = state
        _, state = read(memory, row[None], state, step)
        if before is not None:
            state = select(torch.arange(N) > step % 2, state, before)  # where some lanes wait, too
        copies += before is not None and before.data_ptr() != state.data_ptr()
    assert copies == 3  # at 16, 32 and 64 steps
    assert state.shape[1] == 128


def test_heads_that_do_not_divide_the_features_are_refused():
    with pytest.raises(ValueError, match=r"^hidden_size must be a multiple of 8, twice the num_h"):
        RL2(strolls(), policy_kwargs={"hidden_size": 20, "memory": "transformer"})
    kwargs = {"hidden_size": 20, "memory": "transformer", "memory_kwargs": {"num_heads": 5}}
    RL2(strolls(), policy_kwargs=kwargs)


class CueVectorEnv(TaskVectorEnv):
    """The first of four observations is the cue, -1 or 1; the last action pays if it is its."""

    def __init__(self, num_envs):
        super().__init__(
            num_envs,
            parameters={"cue": Choice((-1, 1))},
            observation_space=spaces.Box(-1.0, 1.0, (1,), np.float32),
            action_space=spaces.Discrete(2),
            horizon=4,
        )
        self._steps = np.zeros(num_envs, dtype=np.int64)

    def set_parameters(self, columns):
        self._cues = columns["cue"]

    def reset_lanes(self, ids):
        self._steps[ids] = 0
        return self._cues[ids, None].astype(np.float32)

    def step_lanes(self, ids, actions):
        self._steps[ids] += 1
        right = 2 * actions - 1 == self._cues[ids]
        rewards = np.where(self._steps[ids] == 4, right, 0.0)
        return StepResult(
            np.zeros((len(rewards), 1), np.float32), rewards, np.zeros(len(rewards), bool)
        )


def test_it_learns_to_recall_what_it_saw_three_steps_ago():
    # Whoever sees the present step alone is right in half of the tasks.
    tasks = TaskDistribution(
        "cue", {"cue": Choice((-1, 1))}, CueVectorEnv, shares_tasks=True, statistic="mean"
    )
    for context, low, high in ((None, 0.95, 1.0), (1, 0.35, 0.65)):
        policy = {"memory": "transformer", "memory_kwargs": {"context": context}}
        agent = trained(tasks, 10, steps_per_episode=4, policy_kwargs=policy)
        score = evaluate(agent, tasks, num_tasks=200, deterministic=True).returns.mean()
        assert low <= score <= high
