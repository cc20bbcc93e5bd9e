"""A learner of one's own that acts in environments: PPO on trials, of a policy without a memory."""

from dataclasses import dataclass

import torch
from torch import nn

from metarl import Transition, rollout
from metarl.agents import OnlineLearner
from metarl.agents.common.actions import action_head
from metarl.agents.common.ppo import TrialPPOConfig, make_batch, ppo_update
from metarl.agents.common.trials import TrialOutputs, Trials
from metarl.agents.training.config import Count
from metarl.seeding import stream_seed
from metarl.trial import TrialInput


class Reacting:
    """An adaptation by the last transition alone, where all episodes are as long as others.

    Args:
        choose: From rows (n, row_size) to actions as the environment takes them.
        trial_input: Makes the rows.
    """

    def __init__(self, choose, trial_input):
        self.choose, self.trial_input = choose, trial_input
        self.last = None
        self.rows, self.rewards, self.ends = [], [], []

    def act(self, observations):
        trial_input = self.trial_input
        rows, _ = (
            trial_input.start(observations)
            if self.last is None
            else trial_input.follow(observations, *self.last)
        )
        self.rows.append(torch.from_numpy(rows))
        return self.choose(self.rows[-1])

    def observe(self, transition: Transition):
        self.last = (transition.actions, transition.rewards, transition.episode_end)
        self.rewards.append(torch.as_tensor(transition.rewards, dtype=torch.float32))
        self.ends.append(torch.as_tensor(transition.episode_end, dtype=torch.float32))


class Policy(nn.Module):
    """A layer, then outputs of a policy and a value: what PPO on trials asks of a network."""

    steps_per_piece = 10_000

    def __init__(self, trial_input, action_space, hidden_size, seed):
        super().__init__()
        self.head = action_head(action_space)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = nn.Linear(trial_input.size, hidden_size)
            self.policy = nn.Linear(hidden_size, self.head.num_outputs)
            self.value = nn.Linear(hidden_size, 1)

    def outputs(self, rows):
        return self.policy(torch.tanh(self.body(rows)))

    def values(self, rows, pixels, task):
        return self.value(torch.tanh(self.body(rows))).squeeze(-1)

    def forward(self, rows, pixels, task):
        values = self.values(rows, pixels, task)
        return TrialOutputs(self.head.distribution(self.outputs(rows)), values)

    def act(self, rows, noise):
        with torch.no_grad():
            return self.head.sample(self.outputs(rows), None, noise)


@dataclass(frozen=True)
class ReactiveConfig(TrialPPOConfig):
    """The hyperparameters of a reactive agent."""

    num_trials: Count = 64
    """Trials in each iteration."""
    hidden_size: Count = 16
    """The number of units."""


class Reactive(OnlineLearner[Trials]):
    """Learns by PPO on trials how to react to the last transition.

    Args:
        tasks: The family to train on.
    """

    name = "reactive"
    config_class = ReactiveConfig
    divisible = True
    num_tasks_option = "num_trials"

    def build(self):
        self.trial_input = TrialInput(self.observation_space, self.action_space)
        seed = stream_seed(self.seed, "network")
        self.network = Policy(self.trial_input, self.action_space, self.config.hidden_size, seed)
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.config.learning_rate)
        self.modules, self.optimizers = {"network": self.network}, {"optimizer": optimizer}

    def collect(self, env, on_step):
        noise, drawn = self.collecting_noise(), []

        def choose(rows):
            drawn.append(self.network.act(rows, noise))
            return self.network.head.to_env(drawn[-1])

        observations, acting = self.begin_tasks(env), Reacting(choose, self.trial_input)
        played = rollout(env, observations, acting, self.tasks.episodes_per_trial, on_step)
        if not played.complete:
            return played, None
        rows, actions, rewards, ends = map(
            torch.stack, (acting.rows, drawn, acting.rewards, acting.ends)
        )
        pixels = torch.zeros(*rewards.shape, 0, dtype=torch.uint8)
        episodes_left = self.tasks.episodes_per_trial - ends.cumsum(0) + ends
        steps_left = episodes_left * self.horizon
        with torch.no_grad():
            distribution = self.network.head.distribution(self.network.outputs(rows))
        log_probs, mask = distribution.log_prob(actions), torch.ones_like(rewards)
        task = torch.as_tensor(self.tasks.encode(env.tasks))
        return played, Trials(
            rows, pixels, actions, log_probs, episodes_left, steps_left, rewards, mask, task
        )

    def update(self, experience):
        batch, _ = make_batch(
            self.network, experience, experience.rows, experience.rewards, self.config, self.ranks
        )
        generator, optimizer = self.generator_for("minibatches"), self.optimizers["optimizer"]
        measured = ppo_update(self.network, optimizer, batch, self.config, generator, self.ranks)
        for name, value in measured.items():
            self.logger.record(f"train/{name}", value)

    def adaptation(self, num_tasks, *, seed=0, deterministic=False, shard=None):
        noise = None if deterministic else self.adaptation_noise(seed, num_tasks, shard)
        network = self.network
        return Reacting(
            lambda rows: network.head.to_env(network.act(rows, noise)), self.trial_input
        )
