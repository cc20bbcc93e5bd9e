"""Memory and policy for tools on things: what they know of one tool, thing or action, of all."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metarl import envs
from metarl.agents import RL2, reference
from metarl.agents.common.actions import IMPOSSIBLE
from metarl.agents.common.tool_use import TableReader, ToolMemory, ToolPolicy
from metarl.envs.alchemy.family import TOOLS
from metarl.errors import InvalidValueError
from metarl.tools import ToolUse
from metarl.trial import TrialInput

TASKS = envs.make("alchemy")
SMALL = {
    "trials_per_iteration": 4,
    "trials_per_minibatch": 2,
    "n_epochs": 1,
    "policy_kwargs": {"tool_use": 8, "head": [8], "privileged_critic": True},
}


def played(num_steps=30, num_envs=4):
    """Return a trial input and rows of random actions, of shape (num_steps, num_envs, size)."""
    env = TASKS.make_vec(num_envs)
    env.set_tasks(TASKS.sample("train", num_envs, 0))
    trial_input = TrialInput(env.single_observation_space, env.single_action_space)
    observations, _ = env.reset(seed=0)
    rows, rng = [trial_input.start(observations)[0]], np.random.default_rng(0)
    for _ in range(num_steps - 1):
        actions = rng.integers(40, size=num_envs)
        observations, rewards, terminated, truncated, _ = env.step(actions)
        ended = terminated | truncated
        rows.append(trial_input.follow(observations, actions, rewards, ended)[0])
    return trial_input, torch.from_numpy(np.stack(rows))


def weights():
    return torch.Generator().manual_seed(0)


def test_the_table_is_read():
    trial_input, rows = played()
    looks, kinds, counts = TableReader(TOOLS)(rows)
    seen = rows[..., trial_input.observation]
    stones, potions = seen[..., :15].unflatten(-1, (3, 5)), seen[..., 15:].unflatten(-1, (12, 2))
    here, left = stones[..., 4] == 0, potions[..., 1] == 0
    assert (looks[..., :3, :].sum(-1) == 4 * here).all()  # three coordinates and a sum
    assert not looks[..., 3, :].any()
    colors = (3 * potions[..., 0] + 3).round().long()
    assert (kinds[..., :12] == torch.where(left, colors, 6)).all()
    assert (kinds[..., 12] == 6).all()
    assert (counts.sum(-1) == left.sum(-1)).all()
    assert not here.all()
    assert not left.all()


def test_only_what_can_be_used_can_be_chosen():
    trial_input, rows = played()
    policy = ToolPolicy(TOOLS, 8, weights())
    possible = policy(torch.zeros(*rows.shape[:2], 48), rows) > IMPOSSIBLE
    seen = rows[..., trial_input.observation]
    here = seen[..., :15].unflatten(-1, (3, 5))[..., 4] == 0
    left = torch.nn.functional.pad(
        seen[..., 15:].unflatten(-1, (12, 2))[..., 1] == 0, (1, 0), value=True
    )
    assert possible[..., 0].all()
    assert (possible[..., 1:] == (here[..., None] & left[..., None, :]).flatten(-2)).all()


def test_a_memory_keeps_what_uses_of_its_kind_did_and_nothing_else():
    trial_input, rows = played()
    memory = ToolMemory(TOOLS, trial_input, 8, weights())
    num_steps, n = rows.shape[:2]
    time = torch.arange(num_steps)[:, None].expand(num_steps, n)
    starts = (rows[..., trial_input.episode_end.start] > 0) | (time == 0)
    features, _ = memory(rows, memory.initial_state(n), time, starts)
    found = features.unflatten(-1, (6, 8))
    changed = (found[1:] != found[:-1]).any(-1)  # (steps, n, kinds)
    _, kinds, _ = memory.reader(rows)
    actions = rows[1:, :, trial_input.action].argmax(-1)
    potion = ((actions - 1) % 13 - 1).clamp(min=0)
    used = (actions > 0) & ((actions - 1) % 13 > 0)
    kind = kinds[:-1].gather(-1, potion[..., None])[..., 0]
    allowed = torch.nn.functional.one_hot(torch.where(used, kind, 6), 7)[..., :6].bool()
    assert changed.any()
    assert not (changed & ~(allowed & ~starts[1:, :, None])).any()
    # Step by step it is the same.
    state, stepwise = memory.initial_state(n), []
    for t in range(num_steps):
        row, state = memory(rows[t : t + 1], state, time[t : t + 1], starts[t : t + 1])
        stepwise.append(row)
    torch.testing.assert_close(torch.cat(stepwise), features)


def test_equal_stones_and_equal_potions_have_equal_logits():
    _, rows = played(1, 64)
    policy = ToolPolicy(TOOLS, 8, weights())
    torch.nn.init.normal_(policy.output.weight, generator=weights())
    features = torch.randn(64, 48, generator=weights())
    logits = policy(features, rows[0])[:, 1:].unflatten(-1, (3, 13))
    _, kinds, _ = policy.reader(rows[0])
    same = kinds[:, :12, None] == kinds[:, None, :12]
    differ = logits[:, :, 1:, None] != logits[:, :, None, 1:]
    assert not (differ & same[:, None]).any()
    assert differ.any()
    swapped = rows[0].clone()
    swapped[:, 0:5], swapped[:, 5:10] = rows[0][:, 5:10], rows[0][:, 0:5]
    moved = policy(features, swapped)[:, 1:].unflatten(-1, (3, 13))
    torch.testing.assert_close(moved[:, [1, 0, 2]], logits)


def test_the_teacher_shows_the_best_plans():
    agent, view = reference("known-chemistry", TASKS)
    tasks = TASKS.sample("held_out", 30, 1)
    task = torch.from_numpy(TASKS.encode(tasks))
    env = TASKS.make_vec(30)
    env.set_tasks(tasks)
    observations, _ = env.reset(seed=0)
    play = agent.adaptation(30)
    known = view.make_vec(30)
    known.set_tasks(tasks)
    seen, _ = known.reset(seed=0)
    earned, best = np.zeros(30), np.zeros(30)
    for _ in range(20):
        rows = torch.cat([torch.from_numpy(observations), task, torch.zeros(30, 42)], -1)
        labels = agent.action_labels(rows[None], torch.zeros(1, 30, 0))
        observations, rewards, *_ = env.step(labels.outputs[0].argmax(-1).numpy())
        earned += rewards
        seen, rewards, *_ = known.step(play.act(seen))
        best += rewards
        play._step += 1
    assert (earned <= best).all()  # a potion costs something to the teacher
    assert earned.mean() > 0.97 * best.mean()


def test_a_reference_teaches():
    agent = RL2(TASKS, seed=0, device="cpu", teacher_share=1.0, **SMALL)
    agent.set_teacher(reference("known-chemistry", TASKS)[0])
    before = agent.network.policy.of_look.weight.clone()
    agent.learn(800)
    assert (agent.network.policy.of_look.weight != before).any()
    with pytest.raises(TypeError, match="a reference that can teach"):
        agent.set_teacher(reference("random-potions", TASKS)[0])


def test_refusals_say_what_to_do():
    with pytest.raises(
        InvalidValueError, match=r"declares its tools.*got bandit-10x5: leave it out"
    ):
        RL2(envs.make("bandit-10x5"), policy_kwargs={"tool_use": 8})
    with pytest.raises(InvalidValueError, match="leave out memory, encoder"):
        RL2(TASKS, policy_kwargs={"tool_use": 8, "memory": "lstm", "encoder": [8]})
    with pytest.raises(InvalidValueError, match="each thing must have 4 entries"):
        replace(TOOLS, things=((0, 1),))
    with pytest.raises(InvalidValueError, match="below 12, or -1 for none"):
        replace(TOOLS, actions=((0, 12),))
    with pytest.raises(InvalidValueError, match=r"39 actions.*got 40 actions and 39 numbers"):
        replace(TOOLS, actions=TOOLS.actions[1:]).check_fits(39, 40)


def test_things_without_tools_are_described_too():
    tools = ToolUse(((0,), (1,)), ((0.0, 1.0),), (2,), (0.0,), ((0, 0), (1, 0), (-1, 0), (-1, -1)))
    logits = ToolPolicy(tools, 4, weights())(torch.zeros(1, 4), torch.tensor([[0.0, 5.0, 0.0]]))
    assert (logits > IMPOSSIBLE).tolist() == [[True, False, True, True]]
