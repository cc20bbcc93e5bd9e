"""The decision-pretrained transformer: the best action, from transitions of a task in any order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metarl.agents.common.actions import action_head
from metarl.agents.common.noise import ActionNoise
from metarl.agents.distill.learner import Distillation, DistillationConfig, prediction_loss
from metarl.agents.distill.presets import DPT_PRESETS
from metarl.agents.distill.transitions import DPTNetworkConfig, TransitionNetwork
from metarl.agents.training.config import Count
from metarl.agents.training.offline import Data
from metarl.agents.training.session import Tensors
from metarl.batches import as_batch, map_leaves
from metarl.data import Batch, Histories
from metarl.errors import InvalidValueError, check_at_least
from metarl.evaluation.adaptation import Transition, check_rows
from metarl.seeding import Seed
from metarl.spaces import Values, flatten, image_shapes, leaf_values, vector_size

Array = NDArray[Any]


@dataclass(frozen=True)
class DPTConfig(DistillationConfig):
    """The hyperparameters of DPT."""

    queries: Count = 16
    """Predictions for each window in a gradient step, after random numbers of its transitions. All
    have the same task: more windows of fewer predictions tell more about tasks."""
    context: Count | None = None
    """The most transitions that it chooses by, in training and in acting, where the oldest make
    room; None takes as many as a window can have."""
    consistent: bool = False
    """Whether a choice also depends on the last action of the episode. Actions that are drawn one
    by one make no plan: in a dark room they wander about its center. With this, training asks what
    is best after a best action alone, so the actions drawn in an episode agree with each other, as
    those of posterior sampling do. It needs actions that are best exactly: not for Box actions."""


class DPT(Distillation):
    """The decision-pretrained transformer (Lee et al. 2023).

    ::

        repeat
            draw windows from histories whose best actions an oracle has named       update
            draw numbers of transitions, and a query state of the window for each    loss
            predict the best action in it, from so many of the window's first
                transitions (s, a, r, s'), in no order                               loss
            descend the negative log-likelihood of the best actions                  update

    In a new task it acts by all transitions it has seen there. A prediction of the best action
    holds what is not yet known, so drawing actions from it explores as posterior sampling does.

    Differences from the paper: transitions do not attend to each other, and only queries attend to
    them, so a choice does not depend on their order, and what is stored of a transition serves all
    later queries; in the paper a causal GPT reads the query first, and all again in each step. Each
    attention also gives sums over transitions, not means alone, as certainty grows with counts.
    A window is asked after a few numbers of transitions, each with a query state of its own, and
    not after all with the same. Contexts are what a learner had
    seen at some moment, and not any of its transitions: later ones, which it chose by what it had
    found out, would give that away. Of the trajectory that precedes a query in the paper's theory,
    ``consistent`` keeps the last action.

    Args:
        tasks: The family to act in.
        seed: The seed of everything; None draws one.
        device: Where to compute.
        verbose: 1 prints the log of every iteration.
        tensorboard_log: The folder for TensorBoard, or None.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If a value is out of its range, a name is unknown, or observations are images.
    """

    name = "DPT"
    presets = DPT_PRESETS
    config: DPTConfig
    network: TransitionNetwork
    config_class = DPTConfig
    policy_config_class = DPTNetworkConfig

    def build_network(self, generator: torch.Generator) -> TransitionNetwork:
        if image_shapes(self.observation_space):
            raise InvalidValueError(
                f"DPT reads vectors, and the observation_space {self.observation_space} holds "
                "images: use AD"
            )
        config = DPTNetworkConfig.build(self.config.policy_kwargs or {}, "policy_kwargs name")
        self.context = self.config.context or self.num_episodes * self.horizon
        head = action_head(self.action_space)
        size, num_actions = map(vector_size, (self.observation_space, self.action_space))
        # Observation, action, reward and next observation, side by side.
        transition_size = 2 * size + num_actions + 1
        query_size = size + num_actions * self.config.consistent
        return TransitionNetwork(transition_size, query_size, head, config, generator)

    def prepare(self, data: Data[Batch] | Histories) -> Data[Batch]:
        """Return what it learns from.

        Raises:
            ValueError: If histories hold no best actions, or do not fit.
        """
        if isinstance(data, Histories) and not data.info["labels"]:
            raise InvalidValueError(
                "DPT learns the best actions, which these histories lack: record them with "
                "--labels and an oracle, such as --labels known-goal"
            )
        return super().prepare(data)

    def loss(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        transitions = self.transitions(
            batch.observations, batch.actions, batch.rewards, batch.next_observations
        )
        head, labels = self.network.action_head, batch.best_actions
        assert labels is not None
        best = head.from_env(map_leaves(lambda part: part.reshape(-1, *part.shape[2:]), labels))
        best = best.to(self.device)
        best = best.reshape(*batch.mask.shape, *best.shape[1:])
        mask = askable = torch.as_tensor(batch.mask, device=self.device)
        states = self.vectors(batch.observations)
        if self.config.consistent:
            actions = self.rows(self.action_space, batch.actions)
            was_best = (actions == self.rows(self.action_space, labels)).all(-1)
            starts = torch.as_tensor(batch.episode_end, device=self.device).roll(1, 1)
            starts[:, 0] = True
            askable = mask & (starts | was_best.roll(1, 1))
            states = torch.cat([states, actions.roll(1, 1) * ~starts[..., None]], -1)
        places = (~askable).int().argsort(dim=1, stable=True)  # the steps to ask for come first
        num_places = askable.sum(1, keepdim=True)
        sizes = (2, len(mask), self.config.queries)
        drawn = torch.rand(sizes, generator=generator, device=self.device)
        queried = places.gather(1, (drawn[0] * num_places).long().minimum(num_places - 1))
        most = mask.sum(1, keepdim=True).clamp(max=self.context)
        lengths = (drawn[1] * (most + 1)).long().minimum(most)  # (n, queries), in 0, ..., most
        stored = self.network.store(transitions[:, : self.context])
        rows = torch.arange(len(mask), device=self.device)[:, None]
        visible = torch.arange(stored.shape[1], device=self.device) < lengths[..., None]
        outputs = self.network(states[rows, queried], stored, visible)
        distribution = head.distribution(outputs.flatten(0, 1), self.network.log_std)
        return prediction_loss(distribution, best[rows, queried].flatten(0, 1))

    def transitions(
        self, observations: Values, actions: Array, rewards: Array, next_observations: Values
    ) -> torch.Tensor:
        """Return transitions (n, time, ...) as rows, of shape (n, time, transition_size)."""
        parts = [
            self.vectors(observations),
            self.rows(self.action_space, actions),
            torch.as_tensor(rewards, dtype=torch.float32, device=self.device)[..., None],
            self.vectors(next_observations),
        ]
        return torch.cat(parts, -1)

    def vectors(self, observations: Values) -> torch.Tensor:
        """Return observations (n, time, ...) as normalised rows, of shape (n, time, size)."""
        rows = self.rows(self.observation_space, observations)
        return self.normalizer_of(rows.shape[-1])(rows)

    def rows(self, space: Any, values: Values) -> torch.Tensor:
        """Return values of a space (n, time, ...) as rows, of shape (n, time, size)."""
        _, first = next(leaf_values(space, values))
        steps = map_leaves(lambda part: part.reshape(-1, *part.shape[2:]), values)
        rows = torch.as_tensor(flatten(space, steps), device=self.device)
        return rows.reshape(*first.shape[:2], -1)

    # Acting.

    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> "DPTAdaptation":
        """Return a learner for ``num_tasks`` tasks that has seen no transition.

        Args:
            num_tasks: How many tasks there are.
            seed: The seed of the actions.
            deterministic: Whether to take the most likely action instead of sampling.
        """
        check_at_least(1, num_tasks=num_tasks)
        noise = None if deterministic else self.adaptation_noise(seed, num_tasks)
        return DPTAdaptation(self, num_tasks, noise)

    def predict(
        self,
        observation: Values,
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, None]:
        """Choose actions without any transition; ``adaptation`` goes on from there."""
        batch, single = as_batch(self.observation_space, observation)
        size = len(flatten(self.observation_space, batch))
        acting = DPTAdaptation(self, size, self.prediction_noise(deterministic))
        actions = acting.act(batch)
        return (actions[0] if single else actions), None


class DPTAdaptation:
    """The transitions of every task, as the network has stored them.

    Args:
        agent: The agent; only read.
        num_tasks: The number of tasks.
        noise: Draws the actions; None takes the most likely ones.
    """

    def __init__(self, agent: DPT, num_tasks: int, noise: ActionNoise | None):
        self._agent, self._noise = agent, noise
        self._counts = torch.zeros(num_tasks, dtype=torch.int64, device=agent.device)
        # A ring for each task: its transition t is in slot t % context.
        self._stored = agent.network.nothing.detach().new_zeros(
            num_tasks, 0, *agent.network.nothing.shape
        )
        # The last action of the present episode, as a row; none at its start.
        num_actions = vector_size(agent.action_space) * agent.config.consistent
        self._last_actions = self._stored.new_zeros(num_tasks, num_actions)

    @torch.no_grad()
    def act(self, observations: Values) -> Array:
        check_rows(observations, len(self._counts))
        network = self._agent.network
        outputs = self.outputs(observations)
        actions = network.action_head.sample(outputs, network.log_std, self._noise)
        chosen: Array = network.action_head.to_env(actions)
        return chosen

    def outputs(self, observations: Values) -> torch.Tensor:
        """Return the policy's outputs in present observations, of shape (n, num_outputs)."""
        slots = torch.arange(self._stored.shape[1], device=self._counts.device)
        states = self._agent.vectors(map_leaves(lambda part: part[:, None], observations))
        queries = torch.cat([states, self._last_actions[:, None]], -1)
        visible = slots < self._counts[:, None, None]  # (n, 1, num_slots)
        outputs: torch.Tensor = self._agent.network(queries, self._stored, visible)[:, 0]
        return outputs

    @torch.no_grad()
    def observe(self, transition: Transition) -> None:
        agent, active = self._agent, transition.active
        if not active.any():
            return
        seen = (transition.observations, transition.actions, transition.rewards)
        parts = [
            map_leaves(lambda part: part[active][:, None], part)  # (n, time = 1, ...)
            for part in (*seen, transition.next_observations)
        ]
        new = agent.network.store(agent.transitions(*parts))[:, 0]
        lanes = torch.from_numpy(np.flatnonzero(active)).to(agent.device)
        slots = self._counts[lanes] % agent.context
        num_slots = self._stored.shape[1]
        if (missing := int(slots.max()) + 1 - num_slots) > 0:
            missing = max(missing, min(num_slots, agent.context - num_slots))  # it doubles
            empty = self._stored.new_zeros(len(self._stored), missing, *self._stored.shape[2:])
            self._stored = torch.cat([self._stored, empty], 1)
        self._stored[lanes, slots] = new
        self._counts[lanes] += 1
        if agent.config.consistent:
            self._last_actions[lanes] = agent.rows(agent.action_space, parts[1])[:, 0]
            self._last_actions[transition.episode_end] = 0.0

    def state(self) -> Tensors:
        """Return all that it continues from: the transitions, as the network has stored them."""
        noise = {} if self._noise is None else {"noise": self._noise.state()}
        last = {"last_actions": self._last_actions}
        return {"counts": self._counts, "stored": self._stored, **last, **noise}

    def restore_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over what :meth:`state` gave."""
        self._counts, self._stored, self._last_actions = (
            tensors[name].clone().to(self._agent.device)
            for name in ("counts", "stored", "last_actions")
        )
        if self._noise is not None and "noise" in tensors:
            self._noise.restore_state(tensors["noise"])
