"""VariBAD: a policy on a belief about the task, which a variational autoencoder has learned."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metarl.agents.common.acting import TrialBuffer
from metarl.agents.common.trial_learner import TrialLearner, TrialLearnerConfig
from metarl.agents.common.trials import Trials
from metarl.agents.training.config import Count, NotNegative, Positive, Width
from metarl.agents.training.saving import State
from metarl.agents.varibad.model import TaskModel, step_inputs
from metarl.agents.varibad.network import BeliefConfig, BeliefPolicy, Encoder, VariBADNetwork
from metarl.agents.varibad.presets import PRESETS
from metarl.agents.varibad.trials import OutcomeBuffer, TrialStore
from metarl.errors import InvalidValueError
from metarl.spaces import Values

Array = NDArray[Any]


@dataclass(frozen=True)
class VariBADConfig(TrialLearnerConfig):
    """The hyperparameters of VariBAD."""

    latent_size: Width = 5
    """The number of latent variables that describe a task."""
    decode_reward: bool = True
    """Whether the belief is trained to predict rewards, from observation, action and next
    observation."""
    decode_state: bool = False
    """Whether it is trained to predict next observations, from observation and action: where tasks
    differ in their dynamics."""
    kl_weight: NotNegative = 0.1
    """The weight of the divergence between successive beliefs, beside the sum of the errors of all
    predictions."""
    vae_learning_rate: Positive = 1e-3
    """Adam's step size for encoder and decoders; it falls with ``anneal`` too."""
    vae_gradient_steps: Count = 10
    """Gradient steps of encoder and decoders in each iteration."""
    vae_batch_trials: Count = 32
    """Trials in each of them, drawn from those stored."""
    vae_buffer_trials: Count = 1000
    """How many of the latest trials are stored. Checkpoints hold them: for each step two
    observations, the action and two numbers more, of 4 bytes."""
    vae_terms: Count | None = 50
    """How many of a trial's beliefs a gradient step decodes, and how many of its steps from each,
    drawn at random; None takes all."""
    policy_kwargs: dict[str, Any] | None = None
    """Arguments of the networks, those of :class:`metarl.agents.varibad.network.BeliefConfig`:
    ``hidden_size``, ``memory``, ``head``, ``decoder`` and more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.decode_reward or self.decode_state):
            raise InvalidValueError("decode_reward or decode_state must be true, got both false")
        if self.task_prediction_coef:
            raise InvalidValueError(
                f"task_prediction_coef={self.task_prediction_coef:g} has no effect in VariBAD, "
                "whose belief is trained by its decoders; leave it out"
            )

    def annealed(self, progress: float) -> "VariBADConfig":
        config = super().annealed(progress)
        rate = self.vae_learning_rate * (config.learning_rate / self.learning_rate)
        return replace(config, vae_learning_rate=max(rate, math.ulp(0.0)))


class VariBAD(TrialLearner):
    """VariBAD (Zintgraf et al. 2020): acts on a learned posterior over tasks.

    ::

        repeat
            sample tasks from the train split, one for each trial                  collect
            for each trial, for K episodes of its task                             rollout
                q(m | trial so far) = N(mean, variance) of a recurrent encoder     Encoder
                a ~ pi(. | observation, mean, log-variance)                        act
            improve policy and critic by PPO, with beliefs as inputs               update_policy
            store the trials; for some batches of stored trials                    update_model
                from the belief at every step, decode the whole trial              TaskModel.loss
                descend errors + kl_weight * KL(q after a step || q before it)

    On the right is the function that does it.

    The encoder learns only from the decoders. They predict what a task pays (``decode_reward``) and
    what actions do in it (``decode_state``) from a sample of the belief, in the past and in the
    future of the trial. So the belief must spread over all that the task may still be: it holds
    what is known and how certainly, and the policy can learn when to search.

    Differences from the paper: whole trials in minibatches of PPO; the encoder sees the first
    observation too; a reward is decoded as a Gaussian of variance 1, one at a time, on grids too.
    The beliefs that the policy learns from are those that it acted on, for all epochs.

    Args:
        tasks: The family to train on.
        seed: The seed of everything; None draws one.
        device: Where to compute.
        verbose: 1 prints the log of every iteration.
        tensorboard_log: The folder for TensorBoard, or None.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If a value is out of its range, a name is unknown, or observations hold images.
    """

    name = "VariBAD"
    presets = PRESETS
    step_sizes = ("learning_rate", "vae_learning_rate")
    buffer_class = OutcomeBuffer
    config: VariBADConfig
    network: VariBADNetwork
    config_class = VariBADConfig
    policy_config_class = BeliefConfig

    def build(self) -> None:
        super().build()
        config, part = self.config, self.trial_input
        if part.num_pixels:
            raise InvalidValueError(
                f"VariBAD does not take images, {self.interface.name!r} has images of the shapes "
                f"{part.image_shapes}; train 'rl2' there"
            )
        networks = BeliefConfig.build(config.policy_kwargs or {}, "policy_kwargs name")
        latent_size, policy_size = config.latent_size, part.observation.stop
        with self.initial_weights() as weights:
            encoder = Encoder(part, latent_size, weights, networks)
            policy = BeliefPolicy(
                policy_size + 2 * latent_size, part.mask, self.action_space, weights, networks
            )
            self.network = VariBADNetwork(part, encoder, policy).to(self.device)
            self.model = TaskModel(
                part,
                encoder,
                latent_size,
                config.decode_reward,
                config.decode_state,
                weights,
                networks,
            ).to(self.device)
        self.optimizer = torch.optim.Adam(
            policy.parameters(), lr=config.learning_rate, eps=1e-5, fused=True
        )
        self.model_optimizer = torch.optim.Adam(
            self.model.parameters(), lr=config.vae_learning_rate, eps=1e-5, fused=True
        )
        self.store = TrialStore(config.vae_buffer_trials, part, self.device)
        self.modules = {"policy": policy, "model": self.model, **self.moments}
        self.optimizers = {"optimizer": self.optimizer, "model_optimizer": self.model_optimizer}

    @property
    def ppo_network(self) -> BeliefPolicy:
        return self.network.policy

    # One iteration.

    def update(self, experience: TrialBuffer) -> None:
        assert isinstance(experience, OutcomeBuffer)
        trials = experience.trials()
        self.update_policy(trials)  # first, while the encoder is the one that the policy acted on
        self.store.add(trials, experience.outcomes())
        self.update_model()
        self.update_moments(trials)

    def ppo_rows(self, trials: Trials) -> torch.Tensor:
        rows, _ = self.network.policy_inputs(super().ppo_rows(trials))
        return rows

    def update_model(self) -> None:
        """Improve encoder and decoders on stored trials."""
        config, normalize = self.config.annealed(self.progress()), self.normalizer()
        self.model_optimizer.param_groups[0]["lr"] = config.vae_learning_rate
        generator = self.generator_for("model")
        history = []
        for _ in range(config.vae_gradient_steps):
            rows, outcomes, mask = self.store.sample(config.vae_batch_trials, generator)
            loss, measured = self.model.loss(
                normalize(rows),
                normalize(outcomes),
                mask,
                config.kl_weight,
                config.vae_terms,
                generator,
            )
            self.model_optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.model_optimizer.step()
            history.append(torch.stack(list(measured.values())))
        means = torch.stack(history).double().mean(0).tolist()
        for name, value in zip(measured, means):
            self.logger.record(f"train/{name}", value)

    # What the belief says.

    @torch.no_grad()
    def expected_rewards(
        self,
        rows: Array,
        observations: Values,
        actions: Array,
        next_observations: Values,
        *,
        num_samples: int = 100,
    ) -> Array:
        """Return which rewards the agent expects of some steps, at each moment of a trial.

        Args:
            rows: The trial's rows, of shape (time, row_size); see :class:`metarl.trial.TrialInput`.
            observations: The observations of the steps, of shape (num_steps, ...).
            actions: The actions in them, likewise.
            next_observations: The observations after them, likewise.
            num_samples: How many samples of the belief are averaged over.

        Returns:
            An array of shape (time, num_steps).

        Raises:
            ValueError: If the agent has no decoder of rewards.
        """
        if self.model.reward is None:
            raise InvalidValueError("expected_rewards() needs an agent with decode_reward")
        part, normalize, zeros = self.trial_input, self.normalizer(), np.zeros(len(actions))
        before, after, seen = (
            normalize(torch.as_tensor(each, device=self.device))
            for each in (
                part.start(observations)[0],
                part.follow(next_observations, actions, zeros, zeros)[0],
                rows,
            )
        )
        mean, log_variance = self.network.encoder(seen[:, None])[0].chunk(2, dim=-1)
        noise = torch.randn((num_samples, *mean.shape), generator=torch.Generator().manual_seed(0))
        latents = mean + (0.5 * log_variance).exp() * noise.to(self.device)
        rewards = self.model.reward(
            latents.flatten(0, 1), step_inputs(part, before, after)[:, None]
        )
        if self.config.normalize_reward:
            rewards = rewards * self.reward_moments.std()
        # (num_samples * time, num_steps, 1, 1) to (num_samples, time, num_steps)
        return np.asarray(rewards.reshape(num_samples, len(rows), -1).mean(0).cpu())

    # What is saved besides networks and optimisers.

    def extra_state(self) -> State:
        return self.store.state(), {}

    def training_only(self) -> tuple[str, ...]:
        return (*super().training_only(), "extra")

    def restore_extra_state(
        self, tensors: Mapping[str, torch.Tensor], data: Mapping[str, Any]
    ) -> None:
        super().restore_extra_state({}, data)
        if tensors:
            self.store.restore(tensors)
        else:
            self.store.clear()
