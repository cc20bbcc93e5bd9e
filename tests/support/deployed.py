"""Agents of any spaces, and lives that they may have had: no environment is needed to deploy."""

import json

import numpy as np
import torch
from gymnasium import spaces

from metarl.agents.training.interface import TaskInterface
from metarl.batches import map_leaves

BOX = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([1.0, np.inf], np.float32))
EVERYTHING = spaces.Dict(
    {
        "aim": BOX,
        "tool": spaces.Tuple([spaces.MultiDiscrete([2, 3], start=[1, -1]), spaces.MultiBinary(2)]),
        "whole": spaces.Box(-3, 5, (2,), np.int64),
        "which": spaces.Discrete(4, start=-1),
    }
)


def interface(observation_space, action_space, horizon=6, episodes_per_trial=3):
    """Return what an agent needs to be built for such spaces."""
    features = {"goal": (2, None)}
    return TaskInterface(
        "anything", {}, "", observation_space, action_space, horizon, episodes_per_trial, features
    )


def shaken(agent, scale=0.3):
    """Return the agent with larger weights and with moments, so that its choices differ."""
    generator = torch.Generator().manual_seed(0)
    for name, module in agent.modules.items():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += scale * noise
        if name.endswith("moments"):
            module.mean += 0.3
            module.var *= 2.0
    return agent


class Life:
    """A sequence of observations, rewards and episode ends, whatever the actions are."""

    def __init__(self, space, num_steps, seed=0, horizon=6):
        space.seed(seed)
        rng = np.random.default_rng(seed)
        self.observations = [self._finite(space.sample()) for _ in range(num_steps + 1)]
        self.rewards = rng.normal(size=num_steps).tolist()
        self.ends = [bool(rng.random() < 0.2) or i % horizon == 5 for i in range(num_steps)]

    @staticmethod
    def _finite(observation):
        def allowed(part):
            return np.ones_like(part)

        if isinstance(observation, dict) and "action_mask" in observation:
            mask = observation["action_mask"]
            if not mask.any():
                observation = {**observation, "action_mask": map_leaves(allowed, mask)}
        return observation

    def lived(self, session, start=0, stop=None):
        """Return the actions of a session in some of the steps."""
        actions = []
        stop = len(self.rewards) if stop is None else stop
        for step in range(start, stop):
            actions.append(session.act(self.observations[step]))
            ended = self.ends[step]
            following = self.observations[step + 1]
            session.observe(following, self.rewards[step], ended and step % 2 == 0, ended)
        return actions


class Runner:
    """An exported graph with the methods of a session, for whatever has numpy and onnxruntime."""

    def __init__(self, path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.graph = onnxruntime.InferenceSession(path, options)
        self.about = json.loads(self.graph.get_modelmeta().custom_metadata_map["metarl"])
        self.feed = {
            name: np.zeros(value["shape"], value["dtype"])
            for name, value in self.about["inputs"].items()
        }

    def put(self, name, value):
        if isinstance(value, dict):
            for key, part in value.items():
                self.put(f"{name}.{key}", part)
        elif isinstance(value, tuple):
            for index, part in enumerate(value):
                self.put(f"{name}.{index}", part)
        elif name in self.feed:
            self.feed[name] = np.asarray(value, dtype=self.about["inputs"][name]["dtype"])

    def step(self, observation):
        """Return the outputs by name."""
        self.put("observation", observation)
        found = dict(zip(self.about["outputs"], self.graph.run(None, self.feed)))
        self.feed |= {name: found[f"next_{name}"] for name in self.about["state"]}
        return found

    def follow(self, action, reward, episode_end):
        self.put("last_action", action)
        self.put("last_reward", reward)
        self.put("last_episode_end", episode_end)
