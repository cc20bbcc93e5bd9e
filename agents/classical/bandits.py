"""Classical bandit algorithms: baselines for learned ones."""

from abc import ABC, abstractmethod
from collections import deque
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.spaces import flatdim
from numpy.typing import NDArray

from metarl.agents.classical.gittins import gittins_table, posterior_mean, table_place
from metarl.agents.classical.random_actions import NoAdaptation
from metarl.agents.common.actions import IMPOSSIBLE, action_head
from metarl.agents.common.teacher import ActionLabels
from metarl.distribution import TaskDistribution
from metarl.errors import InvalidValueError, check_at_least
from metarl.evaluation.adaptation import Adaptation, Transition, check_rows
from metarl.seeding import Seed, stream
from metarl.vector.oracle import OracleVectorEnv

Array = NDArray[Any]
Counts = NDArray[np.int64]
Scores = NDArray[np.float64]


class BanditLearner(ABC):
    """A learner that counts successes and failures of every arm and pulls the arm it scores best.

    Rewards are taken for draws of Bernoulli arms whose means have the prior Beta(1, 1), so all
    learners start with one success and one failure of each arm.

    Args:
        tasks: The bandits. Only the action space is used.
        random_ties: Whether arms of equal score have equal chances; else the first is pulled.

    Raises:
        ValueError: If the action space is not Discrete.
    """

    name: str
    episodes_per_adaptation = 1
    discount = 1.0
    """The factor by which each pull shrinks the counts of those before."""
    window: int | None = None
    """How many of the last pulls count; None counts all."""

    def __init__(self, tasks: TaskDistribution, *, random_ties: bool = True):
        env = tasks.make_vec(1)
        env.close()
        space = env.single_action_space
        if not isinstance(space, spaces.Discrete):
            raise InvalidValueError(
                f"{type(self).__name__} needs a Discrete action space, one action for each arm; "
                f"{tasks.name!r} has {space}. RandomActions works with any action space"
            )
        self.num_arms = int(space.n)
        self.first_arm = int(space.start)
        self.random_ties = random_ties

    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> "BanditAdaptation":
        """Return a fresh learner for ``num_tasks`` tasks that has seen nothing.

        Args:
            num_tasks: How many bandits to play side by side.
            seed: Where its random choices come from.
            deterministic: Has no effect: chance belongs to these strategies, it is not noise
                around them.

        Raises:
            ValueError: If ``num_tasks`` is below 1.
        """
        check_at_least(1, num_tasks=num_tasks)
        return BanditAdaptation(self, num_tasks, np.random.default_rng(stream(seed, "actions")))

    @abstractmethod
    def scores(self, successes: Counts, failures: Counts, rng: np.random.Generator) -> Scores:
        """Score every arm.

        Args:
            successes: The successes seen of each arm, of shape (num_tasks, num_arms).
            failures: The failures seen, of the same shape.
            rng: The source of the learner's random choices.

        Returns:
            An array of the same shape.
        """


class BanditAdaptation:
    """A :class:`BanditLearner`'s counts in each task, and its choices.

    Attributes:
        successes: The successes seen of each arm, of shape (num_tasks, num_arms).
        failures: The failures seen, of the same shape.
    """

    def __init__(self, learner: BanditLearner, num_tasks: int, rng: np.random.Generator):
        self.learner = learner
        self.rng = rng
        kind = np.int64 if learner.discount == 1.0 else np.float64
        self.successes: Array = np.zeros((num_tasks, learner.num_arms), dtype=kind)
        self.failures: Array = np.zeros_like(self.successes)
        self._recent: deque[tuple[Array, Array, Array]] = deque()  # those of the window

    def act(self, observations: Array) -> Array:
        check_rows(observations, len(self.successes))
        scores = self.learner.scores(self.successes, self.failures, self.rng)
        if self.learner.random_ties:
            best = scores == scores.max(axis=1, keepdims=True)
            scores = np.where(best, self.rng.random(scores.shape), -1.0)
        arms: Array = np.argmax(scores, axis=1)
        return arms + self.learner.first_arm

    def observe(self, transition: Transition) -> None:
        rewards, active = transition.rewards, transition.active
        won = rewards == 1
        bernoulli = won | (rewards == 0) | ~active
        if not bernoulli.all():
            raise InvalidValueError(
                f"{self.learner.name} expects rewards of 0 or 1, as Bernoulli arms give, "
                f"got {rewards[~bernoulli][0]}"
            )
        rows = np.flatnonzero(active)
        arms = transition.actions[rows] - self.learner.first_arm
        if self.learner.discount < 1.0:
            self.successes[rows] *= self.learner.discount
            self.failures[rows] *= self.learner.discount
        self.successes[rows, arms] += won[rows]
        self.failures[rows, arms] += ~won[rows]
        if self.learner.window is not None:
            self._recent.append((rows, arms, won[rows]))
            if len(self._recent) > self.learner.window:
                rows, arms, lucky = self._recent.popleft()
                self.successes[rows, arms] -= lucky
                self.failures[rows, arms] -= ~lucky


class Greedy(BanditLearner):
    """Pull the arm of the highest posterior mean.

    Ties matter here: an arm with one success and one failure equals all untried arms. With random
    ties the learner moves on and earns more; the published scores of Duan et al. (2016) fit
    first-arm ties, with which it stays (``random_ties=False``).
    """

    name = "greedy"

    def scores(self, successes: Counts, failures: Counts, rng: np.random.Generator) -> Scores:
        return posterior_mean(successes, failures)


class EpsilonGreedy(Greedy):
    """Pull any arm with probability epsilon, else the arm of the highest posterior mean.

    Args:
        tasks: The bandits.
        epsilon: The probability, in [0, 1].
        random_ties: See :class:`Greedy`.

    Raises:
        ValueError: If epsilon is outside [0, 1], or the action space is not Discrete.
    """

    name = "epsilon-greedy"

    def __init__(self, tasks: TaskDistribution, *, epsilon: float = 0.03, random_ties: bool = True):
        super().__init__(tasks, random_ties=random_ties)
        if not 0.0 <= epsilon <= 1.0:
            raise InvalidValueError(f"epsilon is a probability in [0, 1], got {epsilon}")
        self.epsilon = epsilon

    def scores(self, successes: Counts, failures: Counts, rng: np.random.Generator) -> Scores:
        explore = rng.random((len(successes), 1)) < self.epsilon
        means = super().scores(successes, failures, rng)
        return np.where(explore, rng.random(means.shape), means)


class UCB1(BanditLearner):
    """Pull the arm of the highest upper confidence bound on its mean.

    In round t the bound of an arm with posterior mean mu, seen m times, prior included, is
    ``mu + c * sqrt(2 * ln(t) / m)``.

    Source: Auer, Cesa-Bianchi and Fischer (2002); the factor c and the prior as in Duan et al.
    (2016).

    Args:
        tasks: The bandits.
        c: The width of the bound. Auer's proof is for 1; far less is best in short trials.

    Raises:
        ValueError: If c is negative, or the action space is not Discrete.
    """

    name = "UCB1"

    def __init__(self, tasks: TaskDistribution, *, c: float = 0.2):
        super().__init__(tasks)
        check_at_least(0.0, c=c)
        self.c = c

    def scores(self, successes: Counts, failures: Counts, rng: np.random.Generator) -> Scores:
        times_seen = successes + failures
        this_round = 1 + times_seen.sum(axis=1, keepdims=True)
        width = np.sqrt(2.0 * np.log(this_round) / (times_seen + 2))
        bounds: Scores = posterior_mean(successes, failures) + self.c * width
        return bounds


class ThompsonSampling(BanditLearner):
    """Draw each arm's mean from its posterior and pull the arm of the highest draw.

    Source: Thompson (1933).
    """

    name = "Thompson sampling"

    def scores(self, successes: Counts, failures: Counts, rng: np.random.Generator) -> Scores:
        return rng.beta(successes + 1, failures + 1)


class DiscountedThompson(ThompsonSampling):
    """Thompson sampling that forgets: before each pull all counts shrink by a factor.

    Source: Raj and Kalyani (2017).

    Args:
        tasks: The bandits.
        discount: The factor, in (0, 1].

    Raises:
        ValueError: If the discount is outside (0, 1], or the action space is not Discrete.
    """

    name = "discounted Thompson sampling"

    def __init__(self, tasks: TaskDistribution, *, discount: float = 0.97):
        super().__init__(tasks)
        if not 0.0 < discount <= 1.0:
            raise InvalidValueError(f"discount must be in (0, 1], got {discount}")
        self.discount = discount


class SlidingWindowUCB(UCB1):
    """UCB1 on the last pulls alone.

    Source: Garivier and Moulines (2011).

    Args:
        tasks: The bandits.
        window: How many pulls count.
        c: The width of the bound, as for :class:`UCB1`.

    Raises:
        ValueError: If the window is below 1, c is negative, or the action space is not Discrete.
    """

    name = "sliding-window UCB"

    def __init__(self, tasks: TaskDistribution, *, window: int = 30, c: float = 0.2):
        super().__init__(tasks, c=c)
        check_at_least(1, window=window)
        self.window = window


class GittinsIndex(BanditLearner):
    """Pull the arm of the highest finite-horizon Gittins index, undiscounted.

    With h pulls left, the index of an arm is the best mean reward per pull that it can give until
    one stops pulling it, the moment chosen with foresight: :func:`gittins_table`. With a finite
    horizon that is not optimal, but close: on two arms and up to 16 pulls, where the optimum can
    be computed, it loses at most 0.02 % of it.

    Args:
        tasks: The bandits.
        num_pulls: The horizon; ``episodes_per_trial`` of the tasks if None. Pulls beyond it go to
            the highest posterior mean, which is the index of the last pull.

    Raises:
        ValueError: If ``num_pulls`` is not in [1, MAX_PULLS], or the action space is not Discrete.
    """

    name = "Gittins index"
    MAX_PULLS = 600

    def __init__(self, tasks: TaskDistribution, *, num_pulls: int | None = None):
        super().__init__(tasks)
        self.num_pulls = tasks.episodes_per_trial if num_pulls is None else num_pulls
        check_at_least(1, num_pulls=self.num_pulls)
        if self.num_pulls > self.MAX_PULLS:
            raise InvalidValueError(
                f"the table of Gittins indices grows with the cube of the number of pulls, so "
                f"num_pulls must be at most {self.MAX_PULLS}, got {self.num_pulls}"
            )

    def scores(self, successes: Counts, failures: Counts, rng: np.random.Generator) -> Scores:
        table = gittins_table(self.num_pulls)
        pulls = successes + failures
        elapsed = pulls.sum(axis=1, keepdims=True)
        planned = elapsed < self.num_pulls
        place = np.where(planned, table_place(elapsed, pulls, successes), 0)
        return np.where(planned, table[place], posterior_mean(successes, failures))


class KnownBestArm:
    """The oracle: it is given the task and always pulls the best arm.

    Its expected reward per pull is k / (k + 1) with k arms of means ~ U[0, 1].

    Args:
        tasks: The oracle's view of bandits, ``tasks.oracle()``, whose task is one number for each
            arm.

    Raises:
        ValueError: If the tasks are not the oracle's view, or do not have one number for each arm.
    """

    name = "known best arm"
    episodes_per_adaptation = 1

    def __init__(self, tasks: TaskDistribution):
        env = tasks.make_vec(1)
        env.close()
        space = env.single_action_space
        if not isinstance(env, OracleVectorEnv):
            raise InvalidValueError(
                f"the oracle reads the task: give it tasks.oracle(), got {tasks.name!r}"
            )
        num_features = tasks.encode(env.tasks).shape[1]
        if not isinstance(space, spaces.Discrete) or num_features != space.n:
            raise InvalidValueError(
                f"the oracle needs a Discrete action space and one task feature for each action; "
                f"{tasks.name!r} has {space} and {num_features} features"
            )
        self.tasks = tasks
        self.num_arms = num_features
        self.first_arm = int(space.start)
        self._task = flatdim(env.single_observation_space) - num_features  # where it begins
        self._head = action_head(space)

    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> Adaptation:
        """Return a player of ``num_tasks`` tasks; it uses neither ``seed`` nor anything it sees."""
        return NoAdaptation(self._best_arms)

    def action_labels(self, rows: torch.Tensor, pixels: torch.Tensor) -> ActionLabels:
        """Return the best arm in the steps of trials, for a student to imitate.

        Args:
            rows: Of the oracle's view, of shape (time, n, row_size).
            pixels: None, of shape (time, n, 0).
        """
        task = rows[..., self._task : self._task + self.num_arms]
        others = torch.full_like(task, IMPOSSIBLE)
        return ActionLabels(
            self._head, others.scatter(-1, task.argmax(-1, keepdim=True), 0.0), None
        )

    def _best_arms(self, observations: Array) -> Array:
        arms: Array = np.argmax(observations[:, -self.num_arms :], axis=1)
        return arms + self.first_arm
