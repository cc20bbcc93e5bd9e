"""Many finite-horizon tabular MDPs at once: posteriors and planning."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Values = NDArray[np.float64]


class Posterior:
    """The posterior of some MDPs after some steps in them.

    The prior of each distribution over next states is Dirichlet(1, ..., 1), that of each mean
    reward N(prior_mean, 1), and rewards have noise of variance 1. With a prior mean of 1 this is
    the distribution of the tasks of Duan et al. (2016), section 3.2.

    Attributes:
        visits: How often each next state was seen, of shape (n, states, actions, states).
        reward_sums: The sums of the rewards, of shape (n, states, actions).
        prior_mean: The prior mean reward of untried actions.
    """

    def __init__(self, visits: Array, reward_sums: Array, prior_mean: float):
        self.visits = visits
        self.reward_sums = reward_sums
        self.prior_mean = prior_mean

    def __getitem__(self, rows: Array) -> "Posterior":
        return Posterior(self.visits[rows], self.reward_sums[rows], self.prior_mean)

    def update(
        self, rows: Array, states: Array, actions: Array, rewards: Array, following: Array
    ) -> None:
        """Add one step in each of the MDPs ``rows``, which are all different."""
        self.visits[rows, states, actions, following] += 1
        self.reward_sums[rows, states, actions] += rewards

    @property
    def num_visits(self) -> Values:
        """How often each action was taken in each state, of shape (n, states, actions)."""
        counts: Values = self.visits.sum(axis=-1)
        return counts

    def mean_transitions(self) -> Values:
        """Return the mean of the transitions, of shape (n, states, actions, states)."""
        weights = self.visits + 1.0
        mean: Values = weights / weights.sum(axis=-1, keepdims=True)
        return mean

    def mean_rewards(self) -> Values:
        """Return the mean of the mean rewards, of shape (n, states, actions)."""
        mean: Values = (self.reward_sums + self.prior_mean) / (self.num_visits + 1.0)
        return mean

    def sample(self, rng: np.random.Generator) -> tuple[Values, Values]:
        """Draw transitions and mean rewards."""
        transitions = rng.standard_gamma(self.visits + 1.0)  # normalised, they are Dirichlet
        transitions /= transitions.sum(axis=-1, keepdims=True)
        noise = rng.standard_normal(self.reward_sums.shape)
        return transitions, self.mean_rewards() + noise / np.sqrt(self.num_visits + 1.0)


def value_iteration(transitions: Array, rewards: Array, horizon: int) -> Values:
    """Compute the optimal action values of finite-horizon MDPs, backward from the last step.

    ::

        Q_t(s, a) = R(s, a) + sum over s' of P(s' | s, a) max over a' of Q_t+1(s', a')

    Args:
        transitions: The probabilities of the next state, of shape (n, states, actions, states).
        rewards: The mean rewards, of shape (n, states, actions).
        horizon: The steps of an episode.

    Returns:
        The action values at every step, of shape (n, horizon, states, actions).
    """
    n, num_states, num_actions = rewards.shape
    flat = transitions.reshape(n, num_states * num_actions, num_states)
    action_values = np.empty((n, horizon, num_states, num_actions))
    action_values[:, -1] = rewards
    for step in reversed(range(horizon - 1)):
        values = action_values[:, step + 1].max(axis=-1)
        following = (flat @ values[:, :, None]).reshape(rewards.shape)
        action_values[:, step] = rewards + following
    return action_values


def optimistic_value_iteration(
    transitions: Array, rewards: Array, radius: Array, horizon: int
) -> Values:
    """Compute the optimal action values of the best MDPs whose transitions lie in L1 balls.

    The best transitions put ``radius / 2`` more on the state of the highest value, and take it from
    the states of the lowest values.

    Source: extended value iteration of Jaksch, Ortner and Auer (2010), section 3.1, with a finite
    horizon.

    Args:
        transitions: The centres of the balls, of shape (n, states, actions, states).
        rewards: The mean rewards, of shape (n, states, actions), optimistic already.
        radius: The L1 radius around each distribution, of shape (n, states, actions).
        horizon: The steps of an episode.

    Returns:
        The action values at every step, of shape (n, horizon, states, actions).
    """
    n, num_states, num_actions = rewards.shape
    flat = transitions.reshape(n, num_states * num_actions, num_states)
    more = 0.5 * radius.reshape(n, num_states * num_actions, 1)
    action_values = np.empty((n, horizon, num_states, num_actions))
    action_values[:, -1] = rewards
    for step in reversed(range(horizon - 1)):
        values = action_values[:, step + 1].max(axis=-1)
        # With states in the order of their values, best first, and P_i the chance of one of the
        # first i: sum_i p_i v_i = v_last + sum_i P_i (v_i - v_i+1). The optimist adds to every P_i,
        # as far as 1.
        order = np.argsort(-values, axis=-1)
        ranked = np.take_along_axis(values, order, axis=-1)
        rank = np.argsort(order, axis=-1)
        among_first = rank[:, :, None] <= np.arange(num_states - 1)
        chances = flat @ among_first.astype(np.float64)
        chances += more
        np.minimum(chances, 1.0, out=chances)
        drops = ranked[:, :-1] - ranked[:, 1:]
        following = ranked[:, -1:, None] + chances @ drops[:, :, None]
        action_values[:, step] = rewards + following.reshape(rewards.shape)
    return action_values
