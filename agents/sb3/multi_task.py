"""Multi-task learning: one policy for all tasks, by SB3's PPO. It does not adapt."""

import contextlib
import math
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from metarl.agents.common.actions import action_head
from metarl.agents.common.teacher import ActionLabels
from metarl.agents.sb3.adapter import SB3Adaptation
from metarl.agents.sb3.policies import MaskedPolicy, RowAndPixels
from metarl.agents.sb3.presets import PRESETS
from metarl.agents.sb3.streams import global_streams
from metarl.agents.sb3.vec_env import (
    FlatVecEnv,
    TaskVecEnv,
    flat,
    flat_space,
    scaled,
    spaces_only,
    translation,
)
from metarl.agents.training.config import (
    Config,
    Count,
    Discount,
    NotNegative,
    Positive,
    Range,
    Share,
)
from metarl.agents.training.learner import NO_MEMORY
from metarl.agents.training.online import OnlineLearner
from metarl.batches import as_batch
from metarl.errors import DivergedError, InvalidValueError, check_at_least, found_in
from metarl.evaluation.adaptation import Adaptation, OnStep, Rollout, Transition
from metarl.masks import find_mask
from metarl.seeding import Seed, stream_seed
from metarl.spaces import Values, image_shapes, vector_size
from metarl.vector.env import TaskVectorEnv

Array = NDArray[Any]


@dataclass(frozen=True)
class PPOConfig(Config):
    """The hyperparameters of SB3's PPO."""

    num_envs: Count = 64
    """Environments stepped in parallel, each with its own task, a new one in every iteration."""
    learning_rate: Positive = 3e-4
    """Adam's step size."""
    anneal: bool = False
    """Whether the learning rate falls linearly to zero over ``learn``."""
    batch_size: Annotated[int, Range(2)] = 512
    """Steps in each gradient step."""
    n_epochs: Count = 10
    """Epochs over the data of an iteration."""
    gamma: Discount = 0.99
    """The discount factor."""
    gae_lambda: Share = 0.95
    """The decay of generalised advantage estimation."""
    clip_range: Positive = 0.2
    """PPO's clipping range."""
    ent_coef: NotNegative = 0.0
    """The weight of the entropy bonus."""
    vf_coef: NotNegative = 0.5
    """The weight of the value loss."""
    max_grad_norm: Positive = 0.5
    """The gradient is scaled down to this norm."""
    target_kl: Positive | None = None
    """Stop an iteration's epochs when the policy has moved this far; None never does."""
    normalize: bool = True
    """Whether to normalise observations and rewards by running moments (``VecNormalize``)."""
    policy_kwargs: dict[str, Any] | None = None
    """Arguments of the policy: ``hidden_sizes``, ``activation``, ``log_std_init``; see
    :class:`metarl.agents.sb3.multi_task.PPOPolicyConfig`."""


@dataclass(frozen=True)
class PPOPolicyConfig(Config):
    """The ``policy_kwargs`` of the agents on SB3's PPO."""

    hidden_sizes: Sequence[Count] = (64, 64)
    """The number of units of each hidden layer, in both policy and critic."""
    activation: Literal["relu", "tanh"] = "tanh"
    """The nonlinearity of hidden layers."""
    log_std_init: Annotated[float, Range(-100, 100)] = 0.0
    """The initial log standard deviation of Box actions."""


class MultiTask(OnlineLearner[PPO]):
    """One policy for all tasks, without a memory, by SB3's PPO.

    ::

        repeat
            a new task of the train split for each environment
            collect an episode in each (SB3's collect_rollouts)
            PPO's epochs on all of it (SB3's train)

    It cannot tell one task from another, and plays every episode alike: what it earns is what can
    be had without adapting. On ``tasks.oracle()`` it is the oracle.

    Args:
        tasks: The family to train on.
        seed: The seed of everything; None draws one.
        device: Where to compute.
        verbose: 1 prints the log of every iteration.
        tensorboard_log: The folder for TensorBoard, or None.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If a value is out of its range, or a name is unknown.
    """

    name = "multi-task"
    presets = PRESETS
    num_tasks_option = "num_envs"
    config: PPOConfig
    config_class = PPOConfig

    def build(self) -> None:
        with global_streams(stream_seed(self.seed, "network")):
            self.policy = self._make_policy()
        self._env_actions = translation(self.action_space)
        self._ppo: PPO | None = None
        self._num_updates = 0  # epochs so far, for the log
        self._normalize = self._make_moments()
        self.modules = {"policy": self.policy}
        self.optimizers = {"optimizer": self.policy.optimizer}

    def _make_policy(self) -> ActorCriticPolicy:
        space = flat_space(self.observation_space)
        policy_class: Any = ActorCriticPolicy
        if find_mask(self.observation_space, self.action_space) is not None:
            policy_class = MaskedPolicy
        elif isinstance(space, spaces.Dict):
            policy_class = MultiInputActorCriticPolicy
        policy: ActorCriticPolicy = policy_class(
            space,
            scaled(self.action_space),
            lambda remaining: self.config.learning_rate,
            **self._policy_options(),
        )
        return policy.to(self.device)

    def _make_moments(self) -> VecNormalize | None:
        """Return the normalisation, before any data."""
        if not self.config.normalize:
            return None
        env = spaces_only(self.observation_space, self.action_space)
        return _normalized(FlatVecEnv(env), self.config.gamma)

    def _policy_options(self) -> dict[str, Any]:
        config = PPOPolicyConfig.build(self.config.policy_kwargs or {}, "policy_kwargs name")
        options: dict[str, Any] = {
            "net_arch": list(config.hidden_sizes),
            "activation_fn": {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[config.activation],
            "log_std_init": config.log_std_init,
        }
        if isinstance(flat_space(self.observation_space), spaces.Dict):
            options["features_extractor_class"] = RowAndPixels
            options["features_extractor_kwargs"] = {"shapes": image_shapes(self.observation_space)}
        return options

    def close(self) -> None:
        super().close()
        self._ppo = None  # it holds the environments

    # One iteration.

    def collect(self, env: TaskVectorEnv, on_step: OnStep) -> tuple[Rollout, PPO]:
        if self._ppo is None:
            prepared = self._prepared(TaskVecEnv(self.tasks, self.n_envs, env=env))
            self._ppo = self._make_ppo(prepared, self.config)
        ppo, venv = self._ppo, self._ppo.env
        assert venv is not None
        ppo.set_logger(self.logger)
        venv.seed(self.seed_for("tasks"))
        ppo._last_obs = venv.reset()  # type: ignore[assignment]
        ppo._last_episode_starts = np.ones(self.n_envs, dtype=np.bool_)
        forward = _Forward(on_step, self.horizon)
        forward.init_callback(ppo)
        with global_streams(self.seed_for("actions")), no_distribution("the policy"):
            complete = ppo.collect_rollouts(venv, forward, ppo.rollout_buffer, ppo.n_steps)
        # (number of tasks, 1)
        returns = np.concatenate(forward.returns)[:, None]
        lengths = np.concatenate(forward.lengths)[:, None]
        return Rollout(returns, lengths, complete=complete), ppo

    def update(self, experience: PPO) -> None:
        experience._current_progress_remaining = 1.0 - self.progress()
        experience._n_updates = self._num_updates
        try:
            with global_streams(self.seed_for("minibatches")), no_distribution("the policy"):
                experience.train()
            self._num_updates = experience._n_updates
        except DivergedError as error:
            raise self.diverged(str(error)) from None

    def _prepared(self, venv: VecEnv) -> VecEnv:
        """Return environments whose observations are as the policy takes them."""
        venv = FlatVecEnv(venv)
        if self._normalize is not None:
            moments = self._normalize
            venv = _normalized(venv, self.config.gamma)
            venv.obs_rms, venv.ret_rms = moments.obs_rms, moments.ret_rms
        return venv

    def _make_ppo(self, venv: VecEnv, config: PPOConfig) -> PPO:
        # At least 2048 steps an iteration, SB3's default, and whole rounds of tasks.
        steps = self.horizon * math.ceil(2048 / (self.horizon * venv.num_envs))
        rate = config.learning_rate
        # SB3 warns of a last minibatch that is smaller, and draws weights before ours replace them.
        with warnings.catch_warnings(), global_streams(0):
            warnings.simplefilter("ignore")
            ppo = PPO(
                type(self.policy),
                venv,
                learning_rate=(lambda remaining: rate * remaining) if config.anneal else rate,
                n_steps=steps,
                batch_size=min(config.batch_size, steps * venv.num_envs),
                n_epochs=config.n_epochs,
                gamma=config.gamma,
                gae_lambda=config.gae_lambda,
                clip_range=config.clip_range,
                ent_coef=config.ent_coef,
                vf_coef=config.vf_coef,
                max_grad_norm=config.max_grad_norm,
                target_kl=config.target_kl,
                policy_kwargs=self._policy_options(),
                device=self.device,
            )
        ppo.policy = self.policy
        ppo.ep_info_buffer, ppo.ep_success_buffer = deque(maxlen=100), deque(maxlen=100)
        return ppo

    # What is saved besides policy and optimiser.

    def extra_state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return {
            f"{name}.{part}": torch.as_tensor(np.asarray(getattr(moments, part), dtype=np.float64))
            for name, moments in self._moments().items()
            for part in ("mean", "var", "count")
        }, {"num_updates": self._num_updates}

    def restore_extra_state(
        self, tensors: Mapping[str, torch.Tensor], data: Mapping[str, Any]
    ) -> None:
        expected, _ = self.extra_state()
        for name in tensors.keys() - expected.keys():
            raise InvalidValueError(f"it holds {name!r}, unknown to this agent")
        for name, tensor in expected.items():
            if name not in tensors or tensors[name].shape != tensor.shape:
                raise InvalidValueError(
                    f"the moments lack {name!r}, of shape {tuple(tensor.shape)}"
                )
        check_at_least(0, num_updates=data.get("num_updates", 0))
        self._num_updates = data.get("num_updates", 0)  # early files lack it
        for name, moments in self._moments().items():
            moments.mean = tensors[f"{name}.mean"].numpy().copy()
            moments.var = tensors[f"{name}.var"].numpy().copy()
            moments.count = float(tensors[f"{name}.count"])

    def _moments(self) -> dict[str, RunningMeanStd]:
        if self._normalize is None:
            return {}
        observations: Any = self._normalize.obs_rms
        if isinstance(observations, dict):
            observations = observations["row"]
        return {"observations": observations, "returns": self._normalize.ret_rms}

    # Acting.

    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> Adaptation:
        """Return the policy in ``num_tasks`` tasks.

        Args:
            num_tasks: How many tasks to act in at once.
            seed: The seed of the actions.
            deterministic: Whether to take the most likely action instead of sampling.
        """
        check_at_least(1, num_tasks=num_tasks)
        return SB3Adaptation(
            self.policy,
            num_tasks,
            seed=seed,
            deterministic=deterministic,
            prepare=self._prepare,
            finish=self._env_actions,
        )

    def _prepare(self, observations: Values) -> Values:
        rows = flat(self.observation_space, observations)
        return rows if self._normalize is None else self._normalize.normalize_obs(rows)

    @torch.no_grad()
    def action_labels(self, rows: torch.Tensor, pixels: torch.Tensor) -> ActionLabels:
        if isinstance(self.policy, MaskedPolicy):
            raise InvalidValueError(
                f"a teacher of tasks with action masks must be RL2, got {self.name}; train it "
                f"with: metarl train rl2 {self.interface.name} --oracle"
            )
        # (time, n, ...) to (time * n, ...); without a memory, the observation is all that counts
        seen: Values = rows[..., : vector_size(self.observation_space)].flatten(0, 1).cpu().numpy()
        if image_shapes(self.observation_space):
            seen = {"row": seen, "pixels": pixels.flatten(0, 1).cpu().numpy()}
        if self._normalize is not None:
            seen = self._normalize.normalize_obs(seen)
        policy = self.policy
        features = policy.extract_features(
            policy.obs_to_tensor(seen)[0], policy.pi_features_extractor
        )
        assert isinstance(features, torch.Tensor)  # a pair only where both are asked for
        outputs = policy.action_net(policy.mlp_extractor.forward_actor(features))
        head = action_head(self.action_space)
        log_std = policy.log_std.detach() if head.num_log_std else None
        return ActionLabels(head, outputs.unflatten(0, rows.shape[:2]), log_std)

    def predict(
        self,
        observation: Values,
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """Choose actions. SB3's signature; there is no state."""
        with found_in(NO_MEMORY):
            batch, single = as_batch(self.observation_space, observation)
        generator = self.prediction_generator(deterministic)
        seed = 0 if generator is None else int(torch.randint(2**31, (1,), generator=generator))
        with global_streams(seed):
            actions, _ = self.policy.predict(self._prepare(batch), deterministic=deterministic)
        actions = self._env_actions(actions)
        return (actions[0] if single else actions), state


class _Forward(BaseCallback):
    """Passes SB3's steps on as ours, and keeps the return of one episode of each task.

    An environment plays as many episodes of its task as time allows. Only the first one counts,
    because it is always complete; among the others, short ones are complete more often.

    Args:
        on_step: What steps are passed on to.
        period: How many steps there are between two tasks.
    """

    def __init__(self, on_step: OnStep, period: int):
        super().__init__()
        self._forward = on_step
        self._period = period
        self.returns: list[Array] = []
        self.lengths: list[Array] = []

    def _on_step(self) -> bool:
        seen, dones = self.locals, self.locals["dones"]
        if (self.n_calls - 1) % self._period == 0:
            self.returns.append(np.zeros(len(dones)))
            self.lengths.append(np.zeros(len(dones), dtype=np.int64))
        returns, lengths = self.returns[-1], self.lengths[-1]
        for i in np.flatnonzero(dones & (lengths == 0)).tolist():
            episode = seen["infos"][i]["episode"]
            returns[i], lengths[i] = episode["r"], episode["l"]
        return self._forward(
            Transition(
                observations=seen["self"]._last_obs,
                actions=seen["clipped_actions"],
                rewards=seen["rewards"],
                terminated=dones,
                truncated=np.zeros_like(dones),
                next_observations=seen["new_obs"],
                active=np.ones_like(dones),
            )
        )


@contextlib.contextmanager
def no_distribution(whose: str) -> Iterator[None]:
    """Turn PyTorch's error about a distribution's parameters into ours.

    Raises:
        DivergedError: If parameters were not finite.
    """
    try:
        yield
    except ValueError as error:
        if not str(error).startswith("Expected parameter"):
            raise
        raise DivergedError(f"{whose} no longer gives a distribution of actions") from None


def _normalized(venv: VecEnv, gamma: float) -> VecNormalize:
    keys = ["row"] if isinstance(venv.observation_space, spaces.Dict) else None
    return VecNormalize(venv, gamma=gamma, norm_obs_keys=keys)
