"""The finite-horizon Gittins index of a Bernoulli arm."""

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def posterior_mean(successes: Array, failures: Array) -> NDArray[np.float64]:
    """Return the mean of a Bernoulli arm given its outcomes, under the prior Beta(1, 1)."""
    mean: NDArray[np.float64] = (successes + 1) / (successes + failures + 2)
    return mean


def table_place(elapsed: int | Array, pulls: Array, successes: Array) -> Array:
    """Return where :func:`gittins_table` holds an arm, by the combinatorial number system.

    Args:
        elapsed: The pulls of all arms so far.
        pulls: The pulls of this arm, at most ``elapsed``.
        successes: The successes among them.

    Returns:
        Indices of the broadcast shape of the arguments.
    """
    places: Array = elapsed * (elapsed + 1) * (elapsed + 2) // 6 + pulls * (pulls + 1) // 2
    return places + successes


@functools.lru_cache(maxsize=1)
def gittins_table(num_pulls: int, num_charges: int = 200) -> NDArray[np.float32]:
    """Compute the finite-horizon Gittins indices of a Bernoulli arm with a Beta(1, 1) prior.

    With s successes and f failures seen and h pulls left, let each further pull cost a charge
    lambda, and let one retire at any time. The value of the arm is::

        V_h(s, f) = max(0, G_h(s, f)),  V_0 = 0
        G_h(s, f) = p - lambda + p V_{h-1}(s + 1, f) + (1 - p) V_{h-1}(s, f + 1)
        p = (s + 1) / (s + f + 2)

    and the index is the charge at which pulling and retiring are equally good: G_h(s, f) = 0. All
    charges of a grid are computed at once; G is convex and falls with slope -1 or steeper, so
    interpolating its root errs by little, and always upward.

    Source: Gittins (1979), in the calibrated form of Whittle (1980); for the finite horizon
    Nino-Mora (2011), "Computing a classic index for finite-horizon bandits".

    Args:
        num_pulls: n, the pulls of all arms together.
        num_charges: The size of the grid. Time grows with it, and with the cube of n.

    Returns:
        The indices of all states with s + f <= n - h, at :func:`table_place` with
        ``elapsed = n - h``: a flat array of n (n + 1) (n + 2) / 6 numbers.
    """
    n = num_pulls
    # Even steps of arcsin(sqrt(lambda)): the posterior of an arm has about the same width
    # everywhere on this scale, so certain arms near 0 and 1 are distinguished as well as others.
    charges = np.sin(np.linspace(0.0, math.pi / 2, num_charges)) ** 2
    table = np.empty(n * (n + 1) * (n + 2) // 6, dtype=np.float32)
    # values[s] has the shape (n + 1 - s, num_charges): row f is V(s, f). Rows are updated in
    # place, for successes in ascending order, as V_h(s, .) needs V_{h-1}(s + 1, .) and itself.
    values = [np.zeros((n + 1 - s, num_charges)) for s in range(n + 1)]
    buffer = np.empty((n, num_charges))
    for elapsed in reversed(range(n)):  # h = n - elapsed pulls are left
        for s in range(elapsed + 1):
            count = elapsed + 1 - s
            failures = np.arange(count)
            successes = np.full(count, s)
            after_failure = values[s][1 : count + 1]
            # G = p (1 + V(s + 1, f) - V(s, f + 1)) + V(s, f + 1) - lambda
            gain = np.subtract(values[s + 1][:count], after_failure, out=buffer[:count])
            gain += 1.0
            gain *= posterior_mean(successes, failures)[:, None]
            gain += after_failure
            gain -= charges
            # G > 0 at the first charge, 0, and G = p - 1 < 0 at the last, 1.
            above = np.argmax(gain <= 0.0, axis=1)
            high, low = gain[failures, above - 1], gain[failures, above]
            step = charges[above] - charges[above - 1]
            places = table_place(elapsed, successes + failures, successes)
            table[places] = charges[above - 1] + step * high / (high - low)
            np.maximum(gain, 0.0, out=values[s][:count])
    return table
