"""RL²: the learning algorithm is a recurrent network, learned by reinforcement learning."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metarl.adaptation import Rollout, rollout
from metarl.agents.base import MetaAgent
from metarl.agents.hyperparameters import check_hyperparameters
from metarl.agents.losses import generalized_advantages, masked_mean, standardize
from metarl.agents.normalize import Normalizer, RunningMoments
from metarl.agents.parallel import one_thread
from metarl.agents.recurrent import RecurrentActorCritic
from metarl.agents.rl2_adaptation import Recorder, RL2Adaptation
from metarl.agents.rl2_gradients import ppo_gradients, trial_values
from metarl.errors import check_at_least
from metarl.seeding import Seed, stream_seed
from metarl.tasks import TaskDistribution
from metarl.trial import TrialInput
from metarl.vector import TaskVectorEnv

Array = NDArray[Any]


class RL2(MetaAgent):
    """RL² (Duan et al. 2016; Wang et al. 2016) with PPO over whole trials.

    ::

        repeat
            sample tasks from the train split, one for each trial
            for each trial: h = 0, and for K episodes of its task
                a ~ pi(. | observation, last action, last reward, episode end; h)
            advantages across the whole trial, not cut at episode ends
            for each epoch, for each minibatch of whole trials
                ascend PPO's clipped objective through the whole trial

    The memory h is reset between trials and never inside one, so what the network learns in one
    episode it can use in the next: the forward pass is the inner loop.

    Differences from the paper: PPO with minibatches of trials and Adam. The end of a trial is
    terminal, in the bootstrap and in training alike: the objective is the return of the trial.
    The critic predicts the return of each episode left in the trial, not of all together: that
    varies far less over a trial, so the little that an exploring step is worth is not lost in
    the trend.

    Args:
        tasks: The family to train on.
        learning_rate: Adam's step size.
        anneal: Whether step size and entropy bonus fall linearly to zero over ``learn``.
        trials_per_iteration: Trials collected, side by side, in each iteration.
        episodes_per_trial: K; None takes the family's.
        first_episodes_per_trial: Begin with trials of so many episodes, growing geometrically to
            K over the first half of ``learn``; None begins with K. Short trials are cheap, and
            what is learned in them carries over to long ones.
        trials_per_minibatch: Trials in each gradient step; None takes all.
        n_epochs: Passes over the collected trials.
        gamma: The discount factor, across the whole trial.
        gae_lambda: The decay of generalised advantage estimation.
        clip_range: PPO's clipping range.
        ent_coef: The weight of the entropy bonus.
        vf_coef: The weight of the value loss.
        max_grad_norm: The gradient is scaled down to this norm.
        target_kl: Stop an iteration's epochs when the policy has moved this far; None never does.
        normalize_observation: Whether to normalise observations by running moments.
        normalize_reward: Whether to scale the rewards that are trained on by the running
            deviation of discounted returns, and those that are fed back by their own.
        policy_kwargs: Arguments of :class:`metarl.agents.recurrent.RecurrentActorCritic`:
            ``hidden_size``, ``cell``, ``encoder``, ``separate_critic``, ``log_std_init``.
        verbose: 1 prints the log of every iteration.
        seed: The seed of everything; None draws one.
        device: Where to compute.
        tensorboard_log: The folder for TensorBoard, or None.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If a value is out of its range, or ``policy_kwargs`` has an unknown name.
    """

    name = "RL2"

    def __init__(
        self,
        tasks: TaskDistribution,
        *,
        learning_rate: float = 1e-3,
        anneal: bool = False,
        trials_per_iteration: int = 256,
        episodes_per_trial: int | None = None,
        first_episodes_per_trial: int | None = None,
        trials_per_minibatch: int | None = 64,
        n_epochs: int = 4,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip_range: float = 0.2,
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        target_kl: float | None = None,
        normalize_observation: bool = False,
        normalize_reward: bool = False,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        tensorboard_log: str | None = None,
    ):
        arguments = locals()
        super().__init__(
            tasks,
            num_envs=trials_per_iteration,
            hyperparameters={name: arguments[name] for name in self.hyperparameter_names()},
            seed=seed,
            device=device,
            verbose=verbose,
            tensorboard_log=tensorboard_log,
        )
        if episodes_per_trial is None:
            episodes_per_trial = tasks.episodes_per_trial
        if first_episodes_per_trial is None:
            first_episodes_per_trial = episodes_per_trial
        if trials_per_minibatch is None:
            trials_per_minibatch = trials_per_iteration
        check_at_least(
            1,
            trials_per_iteration=trials_per_iteration,
            episodes_per_trial=episodes_per_trial,
            first_episodes_per_trial=first_episodes_per_trial,
            trials_per_minibatch=trials_per_minibatch,
            n_epochs=n_epochs,
        )
        check_at_least(0, ent_coef=ent_coef, vf_coef=vf_coef, gae_lambda=gae_lambda)
        for name, value, low, high in (
            ("learning_rate", learning_rate, 0.0, float("inf")),
            ("clip_range", clip_range, 0.0, float("inf")),
            ("max_grad_norm", max_grad_norm, 0.0, float("inf")),
            ("gamma", gamma, 0.0, 1.0),
            ("gae_lambda", gae_lambda, -1.0, 1.0),  # zero is allowed, see above
            ("target_kl", 1.0 if target_kl is None else target_kl, 0.0, float("inf")),
        ):
            if not low < value <= high:
                raise ValueError(f"{name} must be in ({low:g}, {high:g}], got {value}")
        if trials_per_minibatch > trials_per_iteration:
            raise ValueError(
                f"trials_per_minibatch ({trials_per_minibatch}) must not exceed "
                f"trials_per_iteration ({trials_per_iteration})"
            )
        if first_episodes_per_trial > episodes_per_trial:
            raise ValueError(
                f"first_episodes_per_trial ({first_episodes_per_trial}) must not exceed "
                f"episodes_per_trial ({episodes_per_trial})"
            )
        self.episodes_per_trial = episodes_per_trial
        self.first_episodes_per_trial = first_episodes_per_trial
        self.learning_rate = learning_rate
        self.anneal = anneal
        self.trials_per_minibatch = trials_per_minibatch
        self.n_epochs = n_epochs
        self.gamma = gamma
        self.gae_lambda = gae_lambda
        self.clip_range = clip_range
        self.ent_coef = ent_coef
        self.vf_coef = vf_coef
        self.max_grad_norm = max_grad_norm
        self.target_kl = target_kl
        self.normalize_observation = normalize_observation
        self.normalize_reward = normalize_reward

        self.trial_input = TrialInput(self.observation_space, self.action_space)
        weights = torch.Generator().manual_seed(stream_seed(self.seed, "network"))
        options = check_hyperparameters(
            RecurrentActorCritic.__init__, policy_kwargs or {}, "policy_kwargs name"
        )
        with torch.random.fork_rng(devices=[]):  # layers draw weights before ours replace them
            self.network = RecurrentActorCritic(
                self.trial_input.size, self.action_space, weights, **options
            ).to(self.device)
        observation = self.trial_input.observation
        self.observation_moments = RunningMoments(observation.stop).to(self.device)
        self.reward_moments = RunningMoments(1).to(self.device)
        self.return_moments = RunningMoments(1).to(self.device)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=learning_rate, eps=1e-5, fused=True
        )
        self._modules = {
            "network": self.network,
            "observation_moments": self.observation_moments,
            "reward_moments": self.reward_moments,
            "return_moments": self.return_moments,
        }
        self._optimizers = {"optimizer": self.optimizer}

    # One iteration.

    def _collect(self, env: TaskVectorEnv) -> Rollout:
        env.set_tasks(self.tasks.sample("train", self.n_envs, self._seed("tasks")))
        observations, _ = env.reset(seed=self._seed("envs"))
        num_episodes = self._present_episodes_per_trial()
        self._recorder = Recorder(self, self.n_envs, num_episodes, self._generator("actions"))
        return rollout(env, observations, self._recorder, num_episodes)

    def _progress(self) -> float:
        """Return the share of the env steps of ``learn`` that is done, as of this iteration."""
        return min(self._saved_timesteps / self._total_timesteps, 1.0)

    def _present_episodes_per_trial(self) -> int:
        growth = self.episodes_per_trial / self.first_episodes_per_trial
        share = min(2.0 * self._progress(), 1.0)
        return round(float(self.first_episodes_per_trial * growth**share))

    def _update(self) -> None:
        batch = self._recorder.batch()
        del self._recorder
        rewards, mask = batch["rewards"], batch["mask"]
        batch["inputs"] = self.normalizer()(batch["rows"])
        batch["values"] = trial_values(self.network, batch["inputs"])
        values = batch["values"] * batch["episodes_left"]
        if self.normalize_reward:
            rewards = rewards / self.return_moments.std()
        advantages = generalized_advantages(rewards, values, mask, self.gamma, self.gae_lambda)
        batch["advantages"] = standardize(advantages, mask)
        batch["targets"] = targets = advantages + values * mask
        residual = masked_mean((targets - values).square(), mask)
        spread = masked_mean((targets - masked_mean(targets, mask)).square(), mask)
        self.logger.record("train/explained_variance", 1.0 - (residual / spread).item())
        self._fit(batch)
        # The moments change only between iterations: what was recorded under the old ones is
        # learned from under the old ones.
        self._update_moments(batch["rows"], batch["rewards"], mask)

    def _fit(self, batch: dict[str, torch.Tensor]) -> None:
        remaining = 1.0 - self._progress() if self.anneal else 1.0
        self.optimizer.param_groups[0]["lr"] = self.learning_rate * remaining
        ent_coef = self.ent_coef * remaining
        parameters = list(self.network.parameters())
        generator = self._generator("minibatches")
        history = []
        for _ in range(self.n_epochs):
            order = torch.randperm(self.n_envs, generator=generator, device=self.device)
            epoch_kl = []
            for trials in torch.split(order, self.trials_per_minibatch):
                gradients, measured = ppo_gradients(
                    self.network,
                    batch,
                    trials,
                    clip_range=self.clip_range,
                    vf_coef=self.vf_coef,
                    ent_coef=ent_coef,
                )
                for parameter, gradient in zip(parameters, gradients):
                    parameter.grad = gradient
                with one_thread():  # waking others would take longer than the work
                    grad_norm = torch.nn.utils.clip_grad_norm_(
                        parameters, self.max_grad_norm, error_if_nonfinite=True
                    )
                    self.optimizer.step()
                history.append([*measured.tolist(), float(grad_norm)])
                epoch_kl.append(history[-1][3])
            if self.target_kl is not None and np.mean(epoch_kl) > self.target_kl:
                break
        names = ("policy_loss", "value_loss", "entropy", "approx_kl", "grad_norm")
        for name, mean in zip(names, np.mean(history, axis=0)):
            self.logger.record(f"train/{name}", mean)
        self.logger.record("train/gradient_steps", len(history))
        self.logger.record("train/learning_rate", self.optimizer.param_groups[0]["lr"])

    def normalizer(self) -> Normalizer:
        """Return what makes the network's inputs of rows, by the moments as they are now."""
        part = self.trial_input
        normalizer = Normalizer(part.size, self.device)
        if self.normalize_observation:
            moments = self.observation_moments
            normalizer.set(part.observation, moments.mean.float(), moments.std())
        if self.normalize_reward:
            normalizer.set(part.reward, 0.0, self.reward_moments.std())
        return normalizer

    def _update_moments(
        self, rows: torch.Tensor, rewards: torch.Tensor, mask: torch.Tensor
    ) -> None:
        real = mask.bool()
        if self.normalize_observation:
            self.observation_moments.update(rows[..., self.trial_input.observation][real])
        if self.normalize_reward:
            self.reward_moments.update(rewards[real].unsqueeze(-1))
            running = torch.zeros_like(rewards[0])
            returns = torch.stack([running := self.gamma * running + step for step in rewards])
            self.return_moments.update(returns[real].unsqueeze(-1))

    # Acting.

    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> RL2Adaptation:
        """Return fresh memories for ``num_tasks`` tasks.

        Args:
            num_tasks: How many tasks to act in at once.
            seed: The seed of the actions.
            deterministic: Whether to take the most likely action instead of sampling.
        """
        check_at_least(1, num_tasks=num_tasks)
        generator = None
        if not deterministic:
            generator = torch.Generator(self.device)
            generator.manual_seed(stream_seed(seed, "actions"))
        return RL2Adaptation(self, num_tasks, generator)

    def predict(
        self,
        observation: Array,
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, tuple[Array, ...]]:
        """Choose actions in trial environments (:class:`metarl.TrialEnv`). SB3's signature.

        Args:
            observation: A row of a trial environment, or a batch of rows of shape (n, size).
            state: The memory returned by the last call, of shape (num_slots, n, hidden_size) in
                a tuple; None at the start.
            episode_start: Where a new trial begins, of shape (n,); the memory is cleared there.
            deterministic: Whether to take the most likely action instead of sampling.

        Returns:
            The actions and the memory.

        Raises:
            ValueError: If the observation is not that of a trial environment.
        """
        rows = torch.as_tensor(np.asarray(observation), dtype=torch.float32, device=self.device)
        single = rows.ndim == 1
        rows = rows.reshape(1, -1) if single else rows
        if rows.ndim != 2 or rows.shape[1] != self.trial_input.size:
            raise ValueError(
                f"predict() needs rows of length {self.trial_input.size} as TrialEnv gives them "
                f"(observation, last action, last reward, episode end), got {tuple(rows.shape)}"
            )
        if state is None:
            memory = self.network.initial_state(len(rows))
        else:
            memory = torch.as_tensor(state[0], device=self.device).clone()
        if episode_start is not None:
            memory[:, torch.as_tensor(np.asarray(episode_start, dtype=bool).reshape(-1))] = 0.0
        if not deterministic and not hasattr(self, "_predict_generator"):
            self._predict_generator = torch.Generator(self.device)
            self._predict_generator.manual_seed(stream_seed(self.seed, "predict"))
        generator = None if deterministic else self._predict_generator
        with torch.no_grad():
            outputs, memory = self.network.act(self.normalizer()(rows)[None], memory)
            actions = self.network.sample(outputs, generator)[0]
        chosen = self.network.action_head.to_env(actions)
        return (chosen[0] if single else chosen), (memory.cpu().numpy(),)
