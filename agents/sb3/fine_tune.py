"""Transfer and its control: PPO that keeps learning in the held-out task, or starts there."""

import copy
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize

from metarl.agents.sb3.multi_task import MultiTask, PPOConfig, no_distribution
from metarl.agents.sb3.streams import global_streams
from metarl.agents.sb3.vec_env import FlatVecEnv, flat, spaces_only, translation
from metarl.agents.training.config import Count, Positive, Range
from metarl.agents.training.saving import SelfAgent
from metarl.batches import map_leaves, take
from metarl.errors import InvalidValueError, check_at_least
from metarl.evaluation.adaptation import Transition, check_rows
from metarl.seeding import Seed, stream_seed
from metarl.spaces import Values

Array = NDArray[Any]


@dataclass(frozen=True)
class FineTuneConfig(PPOConfig):
    """The hyperparameters of fine-tuning: those of SB3's PPO in training, and in the new task."""

    episodes_per_adaptation: Count = 5
    """K, the episodes of a task that are played in parallel before each update in it."""
    adaptation_learning_rate: Positive = 3e-4
    """Adam's step size in the new task."""
    adaptation_epochs: Count = 10
    """Epochs over the K episodes in each update."""
    adaptation_batch_size: Annotated[int, Range(2)] = 64
    """Steps in each gradient step in the new task."""


class FineTune(MultiTask):
    """Transfer learning: the multi-task policy keeps learning by PPO in the new task.

    Training is that of :class:`MultiTask`. In a new task, after every K episodes, SB3's PPO makes
    its epochs on them. Actor, critic and the moments of observations continue from training; the
    optimiser is reset. The episodes it learns from are those that are counted.

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

    name = "fine-tune"
    config: FineTuneConfig
    config_class = FineTuneConfig

    def build(self) -> None:
        super().build()
        self.episodes_per_adaptation = self.config.episodes_per_adaptation

    @property
    def evaluation_options(self) -> tuple[str, ...]:
        return (
            "adaptation_batch_size",
            "adaptation_epochs",
            "adaptation_learning_rate",
            "clip_range",
            "ent_coef",
            "episodes_per_adaptation",
            "gae_lambda",
            "gamma",
            "max_grad_norm",
            "target_kl",
            "vf_coef",
        )

    def adaptation(
        self,
        num_tasks: int,
        *,
        seed: Seed = 0,
        deterministic: bool = False,
        episodes_per_adaptation: int | None = None,
    ) -> "PPOAdaptation":
        """Return a copy of the policy for each of ``num_tasks`` tasks.

        Args:
            num_tasks: How many tasks to act in, each in ``episodes_per_adaptation`` environments.
            seed: The seed of actions and minibatches.
            deterministic: Must be False: a policy gradient comes from actions that differ.
            episodes_per_adaptation: The episodes of a round; None takes those of the config.

        Raises:
            ValueError: If a number is below 1 or ``deterministic`` is set.
        """
        num_episodes = self.episodes_per_adaptation
        if episodes_per_adaptation is not None:
            num_episodes = episodes_per_adaptation
        check_at_least(1, num_tasks=num_tasks, episodes_per_adaptation=num_episodes)
        if deterministic:
            raise InvalidValueError(
                f"{self.name} adapts by a policy gradient, which needs sampled actions: use "
                "deterministic=False"
            )
        return PPOAdaptation(self, num_tasks, num_episodes, seed)

    @classmethod
    def reads(cls) -> tuple[str, ...]:
        return (cls.__name__, MultiTask.__name__)  # training is the same

    def in_task(self, seed: int) -> tuple[ActorCriticPolicy, VecNormalize | None]:
        """Return the start of a new task: a policy, and its normalisation moments."""
        with global_streams(seed):
            policy = self._make_policy()
        policy.load_state_dict(self.policy.state_dict())
        return policy, copy.deepcopy(self._normalize)

    def updater(self) -> PPO:
        """Return the PPO that learns in new tasks, used for one policy after the other."""
        config = self.config
        in_task = replace(
            config,
            learning_rate=config.adaptation_learning_rate,
            n_epochs=config.adaptation_epochs,
            batch_size=config.adaptation_batch_size,
            anneal=False,
        )
        env = spaces_only(self.observation_space, self.action_space)
        ppo = self._make_ppo(FlatVecEnv(env), in_task)
        ppo.set_logger(Logger(None, []))
        return ppo


class FromScratch(FineTune):
    """Learning from scratch: PPO that starts in the new task, without training.

    The control of :class:`FineTune`, and the same otherwise: a task starts with random weights and
    fresh normalisation statistics. ``learn`` does nothing.

    Args:
        tasks: The family; the agent learns in its new tasks.
        seed: The seed of everything; None draws one.
        device: Where to compute.
        verbose: As of other agents.
        tensorboard_log: As of other agents.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If a value is out of its range, or a name is unknown.
    """

    name = "from-scratch"
    config_class = FineTuneConfig

    @classmethod
    def reads(cls) -> tuple[str, ...]:
        return (cls.__name__,)

    def learn(self: SelfAgent, *args: Any, **kwargs: Any) -> SelfAgent:
        """Return at once: all learning happens in the new task."""
        return self

    def in_task(self, seed: int) -> tuple[ActorCriticPolicy, VecNormalize | None]:
        # Also depends on the agent's seed: two seeds are two repetitions, even on the same tasks.
        with global_streams(stream_seed(self.seed, "network", seed)):
            policy = self._make_policy()
        return policy, copy.deepcopy(self._normalize)  # without data, as there was no training


@dataclass
class _Step:
    """One step of all lanes: arrays of shape (num_lanes, ...).

    Attributes:
        rows: What was observed.
        seen: The same as the policies take it.
        actions: As sampled.
        values: The critics' values.
        log_probs: Of the actions.
        rewards: The rewards, scaled.
        active: Whether the step belongs to the round.
        ended: Whether it ended the round's episode.
        worth: The critics' values of what followed, where the time limit ended the episode.
    """

    rows: Values
    seen: Values
    actions: Array
    values: Array
    log_probs: Array
    rewards: Array = field(init=False)
    active: Array = field(init=False)
    ended: Array = field(init=False)
    worth: Array = field(init=False)


class PPOAdaptation:
    """PPO in several tasks: after each round of K episodes, SB3's epochs on them, task by task.

    Args:
        agent: The start of a task and the settings of learning; only read.
        num_tasks: The number of tasks, M.
        num_episodes: K, the episodes of a round.
        seed: The seed of actions and minibatches.
    """

    synchronous = True

    def __init__(self, agent: FineTune, num_tasks: int, num_episodes: int, seed: Seed):
        self._space, self._env_actions = agent.observation_space, translation(agent.action_space)
        self._seed = seed
        self._ppo = agent.updater()
        rate = agent.config.adaptation_learning_rate
        self._whose = f"a policy that learns with adaptation_learning_rate={rate}"
        self._learners = [
            agent.in_task(stream_seed(seed, "network", task)) for task in range(num_tasks)
        ]
        self._lanes = [
            slice(task * num_episodes, (task + 1) * num_episodes) for task in range(num_tasks)
        ]
        self._num_steps = 0
        self._steps: list[_Step] = []
        self._ended = np.zeros(num_tasks * num_episodes, dtype=np.bool_)
        self._running = np.zeros(len(self._ended))  # discounted returns, for their deviation

    def act(self, observations: Values) -> Array:
        check_rows(observations, len(self._ended))
        # The update is made when the next round begins: the last round needs no update.
        if self._ended.all():
            self._learn()
        rows = flat(self._space, observations)
        seed = stream_seed(self._seed, "actions", self._num_steps)
        with global_streams(seed), torch.no_grad(), no_distribution(self._whose):
            parts = [self._act(task, take(rows, lanes)) for task, lanes in enumerate(self._lanes)]
        self._num_steps += 1
        seen, actions, values, log_probs = (
            map_leaves(lambda *leaves: np.concatenate(leaves), *part) for part in zip(*parts)
        )
        self._steps.append(_Step(rows, seen, actions, values, log_probs))
        return self._env_actions(actions)

    def _act(self, task: int, rows: Values) -> tuple[Values, Array, Array, Array]:
        """Return rows of a task as its policy takes them, actions, values, log-probabilities."""
        policy, moments = self._learners[task]
        seen = rows if moments is None else moments.normalize_obs(rows)
        actions, values, log_probs = policy(policy.obs_to_tensor(seen)[0])
        return seen, *(part.cpu().numpy() for part in (actions, values.flatten(), log_probs))

    def observe(self, transition: Transition) -> None:
        step = self._steps[-1]
        step.active = transition.active & ~self._ended
        step.ended = step.active & transition.episode_end
        step.rewards = np.array(transition.rewards, dtype=np.float64)
        step.worth = np.zeros(len(step.rewards))
        cut = step.active & transition.truncated
        last = flat(self._space, transition.next_observations)
        for (policy, moments), lanes in zip(self._learners, self._lanes):
            rows = take(last, lanes)
            if moments is not None:
                active = step.active[lanes]
                self._update_moments(moments, take(rows, active), step.rewards[lanes], lanes)
                step.rewards[lanes] = moments.normalize_reward(step.rewards[lanes])
                rows = moments.normalize_obs(rows)
            if cut[lanes].any():
                with torch.no_grad():
                    worth = policy.predict_values(policy.obs_to_tensor(rows)[0])
                step.worth[lanes] = worth.cpu().numpy().flatten() * cut[lanes]
        self._running[step.ended] = 0.0
        self._ended |= step.ended

    def _update_moments(
        self, moments: VecNormalize, rows: Values, rewards: Array, lanes: slice
    ) -> None:
        """Add a step of a task, as ``VecNormalize`` does."""
        active = self._steps[-1].active[lanes]
        if not active.any():
            return
        observed: Any = moments.obs_rms
        if isinstance(rows, dict):
            observed, rows = observed["row"], rows["row"]
        observed.update(rows)
        self._running[lanes] = self._running[lanes] * moments.gamma + rewards
        moments.ret_rms.update(self._running[lanes][active])

    def _learn(self) -> None:
        """Make the updates of all tasks, and begin a new round."""
        for task, (policy, _) in enumerate(self._learners):
            self._ppo.policy = policy
            self._ppo.rollout_buffer = self._buffer(self._lanes[task])
            seed = stream_seed(self._seed, "minibatches", self._num_steps, task)
            with global_streams(seed), no_distribution(self._whose):
                self._ppo.train()
        self._steps = []
        self._ended[:] = False

    def _real(self, part: str, lanes: slice) -> Values:
        """Return a part of the real steps of some lanes, episode by episode."""
        active = np.stack([step.active[lanes] for step in self._steps], axis=1)

        def select(*leaves: Array) -> Array:
            rows: Array = np.stack([leaf[lanes] for leaf in leaves], axis=1)[active]
            return rows

        return map_leaves(select, *(getattr(step, part) for step in self._steps))

    def _buffer(self, lanes: slice) -> RolloutBuffer:
        """Return a round's episodes of a task as SB3's buffer, one behind the other."""
        ppo = self._ppo
        rewards, ended = self._real("rewards", lanes), self._real("ended", lanes)
        buffer_class = type(ppo.rollout_buffer)
        buffer = buffer_class(
            len(rewards),
            ppo.observation_space,
            ppo.action_space,
            ppo.device,
            gae_lambda=ppo.gae_lambda,
            gamma=ppo.gamma,
        )
        buffer.observations = map_leaves(lambda leaf: leaf[:, None], self._real("seen", lanes))
        buffer.actions[:] = self._real("actions", lanes).reshape(buffer.actions.shape)
        buffer.rewards[:, 0] = rewards + ppo.gamma * self._real("worth", lanes)
        buffer.values[:, 0] = self._real("values", lanes)
        buffer.log_probs[:, 0] = self._real("log_probs", lanes)
        buffer.episode_starts[:, 0] = np.concatenate([[True], ended[:-1]])
        buffer.pos, buffer.full = len(rewards), True
        buffer.compute_returns_and_advantage(torch.zeros(1), np.ones(1))
        return buffer
