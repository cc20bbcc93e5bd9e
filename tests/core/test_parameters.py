"""The distributions of unbounded numbers and of probabilities."""

import math

import numpy as np
import pytest

from metarl import Choice, Dirichlet, LogUniform, Normal, Uniform
from metarl.parameters import Table


def test_normal():
    distribution = Normal(1.0, 2.0, (3, 2))
    values = distribution.sample(np.random.default_rng(0), 20_000)
    assert values.shape == (20_000, 3, 2)
    assert np.abs(values.mean(axis=0) - 1.0).max() < 5 * 2 / math.sqrt(20_000)
    assert np.abs(values.std(axis=0) - 2.0).max() < 5 * 2 / math.sqrt(40_000)
    assert distribution.contains(values).all()
    assert distribution.default == [[1.0, 1.0]] * 3
    assert Normal(-4.0).default == -4.0
    assert distribution.num_values is None


def test_dirichlet():
    distribution = Dirichlet((2, 4), concentration=0.5)
    values = distribution.sample(np.random.default_rng(0), 20_000)
    assert values.shape == (20_000, 2, 4)
    assert distribution.contains(values).all()
    # The variance over k outcomes is (k - 1) / (k^2 (k concentration + 1)).
    variance = 3 / (16 * 3.0)
    assert np.abs(values.mean(axis=0) - 0.25).max() < 5 * math.sqrt(variance / 20_000)
    assert values.var(axis=0) == pytest.approx(np.full((2, 4), variance), rel=0.05)
    assert distribution.default == [[0.25] * 4] * 2


def test_what_is_not_allowed():
    normal = Normal(shape=(2,))
    assert normal.contains(np.array([[0.0, 1e9], [math.nan, 0.0], [0.0, math.inf]])).tolist() == [
        True,
        False,
        False,
    ]
    dirichlet = Dirichlet((2, 2))
    rows = [[[0.5, 0.5], [1.0, 0.0]], [[0.5, 0.4], [1.0, 0.0]], [[0.5, 0.5], [1.5, -0.5]]]
    assert dirichlet.contains(np.array(rows)).tolist() == [True, False, False]


@pytest.mark.parametrize("distribution", [Normal(1.0, 3.0, (4, 2)), Dirichlet((5, 3)), Normal()])
def test_features_say_everything(distribution):
    values = distribution.sample(np.random.default_rng(0), 5000)
    features = distribution.encode(values)
    assert features.dtype == np.float32
    assert features.shape == (5000, math.prod(distribution.shape))
    assert np.abs(features).max() <= 1.0
    assert np.ptp(features) > 1.5
    np.testing.assert_allclose(distribution.decode(features), values, atol=3e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normal(std=0.0), r"a finite std > 0, got mean=0\.0, std=0\.0"),
        (lambda: Normal(math.inf), "finite mean"),
        (lambda: Dirichlet(()), r"last axis has the outcomes, got \(\)"),
        (lambda: Dirichlet((2, 0)), "last axis has the outcomes"),
        (lambda: Dirichlet((2,), 0.0), r"concentration > 0, got 0\.0"),
    ],
)
def test_bad_distributions(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "parameter",
    [
        Uniform(-2.0, 5.0, (2,)),
        LogUniform(0.1, 10.0),
        Normal(1.0, 2.0, (3,)),
        Dirichlet((2, 3)),
        Choice(("left", "right")),
        Choice((3, 5, 8)),
        Table((("a", "b"), ("c", "b"), ("b", "a")), "rows"),
    ],
    ids=lambda parameter: type(parameter).__name__,
)
def test_features_are_turned_back_into_values(parameter):
    values = parameter.sample(np.random.default_rng(0), 50)
    features = parameter.encode(values)
    decoded = parameter.decode(features)
    assert decoded.shape == values.shape
    if values.dtype.kind == "f":
        np.testing.assert_allclose(decoded, values, rtol=1e-4, atol=1e-4)
    else:
        assert (decoded == values).all()
    # A prediction need not be the features of any value: the closest is taken.
    beyond = parameter.decode(100.0 * features)
    if isinstance(parameter, Uniform):
        assert parameter.contains(beyond).all()
    elif values.dtype.kind != "f":
        assert (beyond == values).all()
