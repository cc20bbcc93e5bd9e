"""RL² at work: memories that act in many tasks at once, and a recorder for training."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from metarl.agents.rl2 import RL2

Array = NDArray[Any]


class RL2Adaptation:
    """RL² at work: a memory for every task, and the last transition to show it.

    Args:
        agent: The agent; only read.
        num_tasks: The number of tasks.
        generator: Draws the actions; None takes the most likely ones.
    """

    def __init__(self, agent: "RL2", num_tasks: int, generator: torch.Generator | None):
        self._agent = agent
        self._memory = agent.network.initial_state(num_tasks).detach()
        self._generator = generator
        self._normalize = agent.normalizer()
        self._last: tuple[Array, Array, Array] | None = None

    def act(self, observations: Array) -> Array:
        return self._act(observations)[0]

    def _act(self, observations: Array) -> tuple[Array, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return actions for the environments, input rows, actions and the policy's outputs."""
        agent = self._agent
        if self._last is None:
            inputs = agent.trial_input.start(observations)
        else:
            inputs = agent.trial_input.follow(observations, *self._last)
        rows = torch.from_numpy(inputs).to(agent.device)
        network = agent.network
        with torch.no_grad():
            outputs, self._memory = network.act(self._normalize(rows)[None], self._memory)
            actions = network.sample(outputs, self._generator)
        return network.action_head.to_env(actions[0]), rows, actions[0], outputs[0]

    def observe(
        self,
        observations: Array,
        actions: Array,
        rewards: Array,
        terminated: Array,
        truncated: Array,
        next_observations: Array,
        active: NDArray[np.bool_],
    ) -> None:
        self._last = (actions, rewards, terminated | truncated)


class Recorder(RL2Adaptation):
    """The same adaptation, keeping what training needs of every step.

    Args:
        agent: The agent.
        num_tasks: The number of tasks.
        num_episodes: The episodes of a trial.
        generator: Draws the actions.
    """

    def __init__(self, agent: "RL2", num_tasks: int, num_episodes: int, generator: torch.Generator):
        super().__init__(agent, num_tasks, generator)
        self._episodes_left = np.full(num_tasks, num_episodes)
        self._acted: tuple[list[torch.Tensor], ...] = ([], [], [])
        self._observed: tuple[list[Array], ...] = ([], [], [])

    def act(self, observations: Array) -> Array:
        chosen, *acted = self._act(observations)
        for steps, tensor in zip(self._acted, acted):
            steps.append(tensor)
        return chosen

    def observe(
        self,
        observations: Array,
        actions: Array,
        rewards: Array,
        terminated: Array,
        truncated: Array,
        next_observations: Array,
        active: NDArray[np.bool_],
    ) -> None:
        ended = terminated | truncated
        self._last = (actions, rewards, ended)
        for steps, values in zip(self._observed, (self._episodes_left, rewards, active)):
            steps.append(np.array(values, dtype=np.float32))  # an environment may reuse its own
        self._episodes_left = self._episodes_left - ended
        self._agent._after_step(rewards, ended, active)

    def batch(self) -> dict[str, torch.Tensor]:
        """Return everything recorded, stacked to shapes (time, num_trials, ...).

        ``episodes_left`` counts the episodes of the trial not yet ended, the present one included.
        """
        rows, actions, outputs = (torch.stack(steps) for steps in self._acted)
        episodes_left, rewards, mask = (
            torch.as_tensor(np.stack(steps), device=rows.device) for steps in self._observed
        )
        with torch.no_grad():
            log_probs = self._agent.network.distribution(outputs).log_prob(actions)
        return {
            "rows": rows,
            "actions": actions,
            "log_probs": log_probs,
            "episodes_left": episodes_left,
            "rewards": rewards,
            "mask": mask,
        }
