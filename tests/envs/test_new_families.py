"""What a preset that nobody has tuned to a family learns there at the first try."""

import pytest

from metarl import envs, evaluate
from metarl.agents import MAML, RL2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent_class", "family", "least"),
    # Beside it, what earlier presets scored (docs/results/runs.md). RL² learned from too few
    # gradients, was not punished for falling and had no entropy bonus; MAML made 8 to 41 updates.
    [
        (RL2, "cart-pole-200", 170.0),  # 105
        (RL2, "acrobot", -110.0),  # -165
        (RL2, "pendulum", -400.0),  # -1025
        (MAML, "cart-pole-200", 150.0),  # 67
        (MAML, "acrobot", -170.0),  # -200
        (MAML, "pendulum", -500.0),  # -1168
    ],
)
def test_a_new_family_is_learned_at_the_first_try(agent_class, family, least):
    tasks = envs.make(family)
    agent = agent_class.from_preset(tasks, seed=0).learn(1_200_000)
    before = agent.episodes_per_adaptation
    num_episodes = max(tasks.episodes_per_trial, 2 * before)
    report = evaluate(agent, tasks, num_tasks=100, num_episodes=num_episodes, seed=1)
    assert report.returns[:, before:].mean() > least
