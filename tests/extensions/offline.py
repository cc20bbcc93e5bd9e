"""A learner of one's own from recorded data: algorithm distillation (Laskin et al. 2022).

A sequence model predicts each action of a learning algorithm from all that came before it in the
history. Once it acts, it goes on as the algorithm would: it learns in its context.
"""

from dataclasses import dataclass

import torch
from torch import nn

from metarl.agents import MemorySizes, OfflineLearner
from metarl.agents.common.actions import action_head
from metarl.agents.common.memory.registry import MEMORIES
from metarl.agents.training.config import Count, Positive, Width
from metarl.agents.training.offline import OfflineConfig
from metarl.data import Batch
from metarl.seeding import stream_seed
from metarl.trial import TrialInput


class Imitator(nn.Module):
    """A memory, then the outputs of a policy."""

    def __init__(self, trial_input, num_outputs, config, seed):
        super().__init__()
        self.episode_end = trial_input.episode_end.start
        memory_class = MEMORIES[config.memory]
        with torch.random.fork_rng(devices=[]):
            generator = torch.manual_seed(seed)
            sizes = MemorySizes(trial_input.size, trial_input.size, config.hidden_size)
            self.memory = memory_class(sizes, memory_class.config_class(), generator)
            self.policy = nn.Linear(config.hidden_size, num_outputs)

    def forward(self, rows, state=None, first=0):
        """Read rows (T, n, row_size) from step ``first`` on; return outputs and the state after."""
        num_steps, num_lanes = rows.shape[:2]
        state = self.memory.initial_state(num_lanes) if state is None else state
        time = first + torch.arange(num_steps, device=rows.device)[:, None].expand(-1, num_lanes)
        starts = (rows[..., self.episode_end] > 0) | (time == 0)
        features, state = self.memory(rows, state, time, starts)
        return self.policy(features), state


@dataclass(frozen=True)
class DistillationConfig(OfflineConfig):
    """The hyperparameters of algorithm distillation."""

    batch_size: Count = 64
    """Windows in each gradient step."""
    num_episodes: Count = 10
    """Episodes of a window."""
    memory: str = "gru"
    """The name of the memory."""
    hidden_size: Width = 32
    """The length of its features."""
    learning_rate: Positive = 1e-2
    """Adam's step size."""


class Distillation(OfflineLearner[Batch]):
    """Algorithm distillation, for discrete actions.

    Args:
        tasks: The family to act in.
    """

    name = "distillation"
    config_class = DistillationConfig

    def build(self):
        self.trial_input = TrialInput(self.observation_space, self.action_space)
        self.head = action_head(self.action_space)
        seed = stream_seed(self.seed, "network")
        network = Imitator(self.trial_input, self.head.num_outputs, self.config, seed)
        self.network = network.to(self.device)
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.config.learning_rate)
        self.modules, self.optimizers = {"network": self.network}, {"optimizer": optimizer}

    def examples(self, histories):
        return histories.windows(self.config.num_episodes)

    def update(self, batch):
        ended = batch.terminated | batch.truncated
        rows, _ = self.trial_input.sequence(batch.observations, batch.actions, batch.rewards, ended)
        rows, actions, mask = (  # (T, n, ...)
            torch.as_tensor(part, device=self.device).transpose(0, 1)
            for part in (rows, batch.actions - self.action_space.start, batch.mask)
        )
        outputs, _ = self.network(rows)
        loss = -self.head.distribution(outputs).log_prob(actions)[mask].mean()
        optimizer = self.optimizers["optimizer"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        self.logger.record_mean("train/loss", loss.item())

    def adaptation(self, num_tasks, *, seed=0, deterministic=False):
        noise = None if deterministic else self.adaptation_noise(seed, num_tasks)
        return Imitating(self, noise)


class Imitating:
    """An adaptation: the memory of each task, and the last transition in it."""

    def __init__(self, learner, noise):
        self.learner, self.noise = learner, noise
        self.state, self.last, self.time = None, (), 0

    @torch.no_grad()
    def act(self, observations):
        trial_input, head = self.learner.trial_input, self.learner.head
        read = trial_input.follow if self.last else trial_input.start
        rows = torch.as_tensor(read(observations, *self.last)[0], device=self.learner.device)
        outputs, self.state = self.learner.network(rows[None], self.state, self.time)
        self.time += 1
        return head.to_env(head.sample(outputs[0], None, self.noise))

    def observe(self, transition):  # tasks that have ended are not acted in again
        self.last = (transition.actions, transition.rewards, transition.episode_end)
