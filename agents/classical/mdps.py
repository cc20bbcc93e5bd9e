"""Classical learners of tabular MDPs: baselines for learned ones."""

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.agents.classical.planning import (
    Posterior,
    Values,
    optimistic_value_iteration,
    value_iteration,
)
from metarl.distribution import TaskDistribution
from metarl.errors import InvalidValueError, check_at_least
from metarl.evaluation.adaptation import Adaptation, Transition, check_rows
from metarl.parameters import Dirichlet, Normal
from metarl.seeding import Seed, stream
from metarl.vector.oracle import OracleVectorEnv

Array = NDArray[Any]


class MDPLearner(ABC):
    """A learner that plans at the start of each episode, from its experience in the MDP.

    Args:
        tasks: The tabular MDPs. Only the spaces and the horizon are used.
        prior_mean: The mean reward it expects of untried actions. The published scores of Duan
            et al. (2016) fit 0 better than the true 1.

    Raises:
        ValueError: If observations or actions are not Discrete, counted from 0.
    """

    name: str
    episodes_per_adaptation = 1
    epsilon = 0.0
    """The probability to act at random, in each step."""

    def __init__(self, tasks: TaskDistribution, *, prior_mean: float = 1.0):
        env = tasks.make_vec(1)
        env.close()
        states, actions = env.single_observation_space, env.single_action_space
        self.num_states = _count(states, "observations", self, tasks)
        self.num_actions = _count(actions, "actions", self, tasks)
        self.horizon = env.horizon
        self.prior_mean = prior_mean

    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> "MDPAdaptation":
        """Return a fresh learner for ``num_tasks`` tasks that has seen nothing.

        Args:
            num_tasks: How many MDPs to play side by side.
            seed: Where its random choices come from.
            deterministic: Has no effect: chance belongs to these strategies, it is not noise
                around them.

        Raises:
            ValueError: If ``num_tasks`` is below 1.
        """
        check_at_least(1, num_tasks=num_tasks)
        return MDPAdaptation(self, num_tasks, np.random.default_rng(stream(seed, "actions")))

    @abstractmethod
    def plan(self, posterior: Posterior, rng: np.random.Generator) -> Values:
        """Score the actions for the coming episode.

        Args:
            posterior: What is known of n MDPs.
            rng: The source of the learner's random choices.

        Returns:
            Action values of shape (n, horizon, states, actions).
        """


def _count(space: spaces.Space[Any], what: str, learner: object, tasks: TaskDistribution) -> int:
    if not isinstance(space, spaces.Discrete) or space.start != 0:
        raise InvalidValueError(
            f"{type(learner).__name__} needs Discrete {what}, counted from 0, as tabular MDPs "
            f"have; {tasks.name!r} has {space}"
        )
    return int(space.n)


class MDPAdaptation:
    """An :class:`MDPLearner`'s experience in each task, and its plans for the present episodes.

    Attributes:
        posterior: What is known of the tasks.
    """

    def __init__(self, learner: MDPLearner, num_tasks: int, rng: np.random.Generator):
        self.learner = learner
        self.rng = rng
        shape = (num_tasks, learner.num_states, learner.num_actions)
        visits = np.zeros((*shape, learner.num_states))
        self.posterior = Posterior(visits, np.zeros(shape), learner.prior_mean)
        self._rows = np.arange(num_tasks)
        self._step = np.zeros(num_tasks, dtype=np.int64)  # of the episode
        self._plan = np.empty((num_tasks, learner.horizon, *shape[1:]))
        self._planned = np.zeros(num_tasks, dtype=np.bool_)

    def act(self, observations: Array) -> Array:
        check_rows(observations, len(self._rows))
        learner, rng = self.learner, self.rng
        if not self._planned.all():
            rows = np.flatnonzero(~self._planned)
            self._plan[rows] = learner.plan(self.posterior[rows], rng)
            self._planned[rows] = True
        actions: Array = self._plan[self._rows, self._step, observations].argmax(axis=-1)
        if learner.epsilon:
            explore = rng.random(len(actions)) < learner.epsilon
            anything = rng.integers(learner.num_actions, size=len(actions))
            actions = np.where(explore, anything, actions)
        return actions

    def observe(self, transition: Transition) -> None:
        seen = transition
        rows = np.flatnonzero(seen.active)
        step = (seen.observations, seen.actions, seen.rewards, seen.next_observations)
        self.posterior.update(rows, *(values[rows] for values in step))
        self._step += seen.active
        ended = rows[seen.episode_end[rows]]
        self._step[ended] = 0
        self._planned[ended] = False


class GreedyMDP(MDPLearner):
    """Act optimally for the mean of the posterior: certainty equivalence."""

    name = "greedy"

    def plan(self, posterior: Posterior, rng: np.random.Generator) -> Values:
        return value_iteration(posterior.mean_transitions(), posterior.mean_rewards(), self.horizon)


class EpsilonGreedyMDP(GreedyMDP):
    """Act at random with probability epsilon, else as :class:`GreedyMDP`.

    Args:
        tasks: The tabular MDPs.
        epsilon: The probability, in [0, 1]. The default was chosen on 500 tasks of ``train``, over
            10 to 100 episodes: less is better in short trials, more in long ones.
        prior_mean: See :class:`MDPLearner`.

    Raises:
        ValueError: If epsilon is outside [0, 1], or a space is not Discrete.
    """

    name = "epsilon-greedy"

    def __init__(self, tasks: TaskDistribution, *, epsilon: float = 0.03, prior_mean: float = 1.0):
        super().__init__(tasks, prior_mean=prior_mean)
        if not 0.0 <= epsilon <= 1.0:
            raise InvalidValueError(f"epsilon is a probability in [0, 1], got {epsilon}")
        self.epsilon = epsilon


class PSRL(MDPLearner):
    """Posterior sampling: draw an MDP from the posterior and act optimally for it.

    Source: Strens (2000); Osband, Russo and Van Roy (2013).
    """

    name = "PSRL"

    def plan(self, posterior: Posterior, rng: np.random.Generator) -> Values:
        return value_iteration(*posterior.sample(rng), self.horizon)


class OPSRL(PSRL):
    """Optimistic posterior sampling: act by the greatest action values of several draws.

    Source: Osband and Van Roy (2017), and their code.

    Args:
        tasks: The tabular MDPs.
        num_samples: How many MDPs to draw for each plan.
        prior_mean: See :class:`MDPLearner`.

    Raises:
        ValueError: If ``num_samples`` is below 1, or a space is not Discrete.
    """

    name = "OPSRL"

    def __init__(self, tasks: TaskDistribution, *, num_samples: int = 5, prior_mean: float = 1.0):
        super().__init__(tasks, prior_mean=prior_mean)
        check_at_least(1, num_samples=num_samples)
        self.num_samples = num_samples

    def plan(self, posterior: Posterior, rng: np.random.Generator) -> Values:
        best = super().plan(posterior, rng)
        for _ in range(1, self.num_samples):
            np.maximum(best, super().plan(posterior, rng), out=best)
        return best


class UCRL2(MDPLearner):
    """Act optimally for the best of all MDPs that are plausible.

    Those are, after t steps, with m visits to an action in a state and L = ln(2 S A t), mean
    rewards up to ``c * sqrt(2 L / (m + 1))`` above the posterior mean, and distributions over S
    next states within the L1 distance ``c * sqrt(2 S L / (m + S))`` of it.

    Source: Jaksch, Ortner and Auer (2010). Differences: a plan for each episode instead of each
    doubling of the visits; the posterior's mean and its count instead of the sample's; and a factor
    c for the width, as theirs is for proofs.

    Args:
        tasks: The tabular MDPs.
        c: The width of the bounds. The default was chosen like :class:`EpsilonGreedyMDP`'s.
        prior_mean: See :class:`MDPLearner`.

    Raises:
        ValueError: If c is negative, or a space is not Discrete.
    """

    name = "UCRL2"

    def __init__(self, tasks: TaskDistribution, *, c: float = 0.15, prior_mean: float = 1.0):
        super().__init__(tasks, prior_mean=prior_mean)
        check_at_least(0.0, c=c)
        self.c = c

    def plan(self, posterior: Posterior, rng: np.random.Generator) -> Values:
        num_states, num_visits = self.num_states, posterior.num_visits
        this_step = 1.0 + num_visits.sum(axis=(1, 2), keepdims=True)
        log = np.log(2.0 * num_states * self.num_actions * this_step)
        width = self.c * np.sqrt(2.0 * log / (num_visits + 1.0))
        radius = self.c * np.sqrt(2.0 * num_states * log / (num_visits + num_states))
        return optimistic_value_iteration(
            posterior.mean_transitions(), posterior.mean_rewards() + width, radius, self.horizon
        )


class KnownMDP:
    """The oracle: it is given the MDP and acts optimally, by value iteration.

    Args:
        tasks: The oracle's view of MDPs, ``tasks.oracle()``, whose task is ``transitions`` of a
            Dirichlet distribution and ``rewards`` of a Normal distribution.

    Raises:
        ValueError: If the tasks are not the oracle's view, or not such MDPs.
    """

    name = "known MDP"
    episodes_per_adaptation = 1

    def __init__(self, tasks: TaskDistribution):
        env = tasks.make_vec(1)
        env.close()
        if not isinstance(env, OracleVectorEnv):
            raise InvalidValueError(
                f"the oracle reads the task: give it tasks.oracle(), got {tasks.name!r}"
            )
        self.num_states = _count(env.env.single_observation_space, "observations", self, tasks)
        self.horizon = env.horizon
        distributions = tasks.parameters
        kinds = {name: type(distribution) for name, distribution in distributions.items()}
        if kinds != {"transitions": Dirichlet, "rewards": Normal}:
            raise InvalidValueError(
                f"the oracle needs tasks of Dirichlet transitions and Normal rewards, "
                f"{tasks.name!r} has {distributions}"
            )
        self._samplers = distributions

    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> Adaptation:
        """Return a player of ``num_tasks`` tasks; it draws no random number."""
        return KnownMDPAdaptation(self, num_tasks)

    def plan(self, features: Array) -> Values:
        """Return the optimal action values, of shape (n, horizon, states, actions).

        Args:
            features: The encoded tasks, of shape (n, num_features).
        """
        task, first = {}, 0
        for name, distribution in self._samplers.items():
            assert isinstance(distribution, (Dirichlet, Normal))
            last = first + math.prod(distribution.shape)
            task[name] = distribution.decode(features[:, first:last])
            first = last
        return value_iteration(task["transitions"], task["rewards"], self.horizon)


class KnownMDPAdaptation:
    """The plan of a :class:`KnownMDP` for each task, and where in it the episodes are."""

    def __init__(self, learner: KnownMDP, num_tasks: int):
        self.learner = learner
        self._rows = np.arange(num_tasks)
        self._step = np.zeros(num_tasks, dtype=np.int64)
        self._plan: Values | None = None

    def act(self, observations: Array) -> Array:
        check_rows(observations, len(self._rows))
        one_hot, features = np.split(observations, [self.learner.num_states], axis=1)
        if self._plan is None:
            self._plan = self.learner.plan(features)
        actions: Array = self._plan[self._rows, self._step, one_hot.argmax(axis=1)].argmax(axis=-1)
        return actions

    def observe(self, transition: Transition) -> None:
        self._step = np.where(transition.episode_end, 0, self._step + transition.active)
