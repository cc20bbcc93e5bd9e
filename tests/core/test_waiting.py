"""Environments that wait for the others: nothing happens in them, so nothing is learned there."""

import numpy as np
import pytest
import torch
from walk import TINY, walk

from metarl import rollout
from metarl.agents import AD, DPT, MAML, RL2, FineTune, MultiTask, SB3Agent


class Counts:
    """A policy with a state, in SB3's words: its actions are its steps since the last start."""

    def __init__(self, shape):
        self.shape = shape

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        row = observation.reshape(len(observation), -1)[:, -1:]  # in trials, an episode's end
        count = np.zeros((len(row), 1)) if state is None else state[0].reshape(-1, 1)
        count = np.where(episode_start[:, None], 0.0, count) + 1.0 + row
        return count / 100.0, (count.reshape(self.shape),)


AGENTS = {
    "rl2": lambda tasks: RL2(tasks, seed=0, policy_kwargs={"hidden_size": 8}),
    "rl2-resets": lambda tasks: RL2(
        tasks, seed=0, reset_memory_every=3, policy_kwargs={"hidden_size": 8, "memory": "episodic"}
    ),
    "maml": lambda tasks: MAML(
        tasks, seed=0, episodes_per_adaptation=2, inner_lr=1.0, policy_kwargs=TINY
    ),
    "fine-tune": lambda tasks: FineTune(tasks, seed=0, episodes_per_adaptation=2),
    "ad": lambda tasks: AD(tasks, seed=0, policy_kwargs={"hidden_size": 8}),
    "dpt": lambda tasks: DPT(tasks, seed=0, context=40, policy_kwargs={"hidden_size": 8}),
    "multi-task": lambda tasks: MultiTask(tasks, seed=0),
    "sb3": lambda tasks: SB3Agent(Counts((-1,)), tasks),
    "sb3-trials": lambda tasks: SB3Agent(Counts((1, -1, 1)), tasks, trials=True),
}


@pytest.mark.parametrize("name", AGENTS)
def test_four_episodes_are_two_and_two_more(name):
    tasks = walk()
    agent = AGENTS[name](tasks)
    if isinstance(agent, (AD, DPT, RL2)):
        with torch.no_grad():
            for parameter in agent.network.parameters():
                parameter.mul_(3.0)
            agent.network.policy.weight.mul_(30.0)  # what is remembered counts
    num_lanes = 4 * agent.episodes_per_adaptation

    def play(*parts):
        env = tasks.make_vec(num_lanes)
        env.set_tasks(tasks.sample("train", 4, 0).repeat(agent.episodes_per_adaptation))
        assert len(set(np.ceil(env.tasks.columns["length"]))) > 2
        observations, _ = env.reset(seed=0)  # those of every episode's start
        sampled = agent.episodes_per_adaptation > 1
        adaptation = agent.adaptation(4, seed=0, deterministic=not sampled)
        played = [rollout(env, observations, adaptation, part) for part in parts]
        return np.concatenate([part.returns for part in played], axis=1)

    whole, parts = play(4), play(2, 2)
    np.testing.assert_allclose(whole, parts, rtol=1e-5, atol=1e-5)
    assert np.ptp(whole, axis=0).max() > 0.01
