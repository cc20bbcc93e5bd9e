"""The scripts that measure growth and cost, at toy size: no time is asserted."""

import json

import numpy as np
import pytest

from metarl.experiments.benchmarks import growth as benchmark_growth
from metarl.experiments.benchmarks import histories as benchmark_histories
from metarl.experiments.benchmarks.cost_model import Cost, _all_reduce, _fit, _largest_share


@pytest.mark.slow
def test_growth_is_measured_and_drawn(tmp_path, capsys):
    benchmark_growth.main(
        lanes=(64,),
        cases=("maml navigation-2d", "evaluate rl2 bandit-100x5"),
        results=tmp_path / "growth.json",
        figure=tmp_path / "growth.png",
    )
    points = json.loads((tmp_path / "growth.json").read_text())["points"]
    (trained,), (evaluated,) = points.values()
    assert trained["lanes"] == 60  # whole tasks, of 20 environments each
    parts = [trained[part] for part in benchmark_growth.PARTS]
    assert 0 < sum(parts) <= trained["seconds"]
    assert evaluated["env_steps"] == 64 * 100
    assert (tmp_path / "growth.png").stat().st_size > 10_000
    assert "evaluate rl2 bandit-100x5" in capsys.readouterr().out


def test_all_steps_of_histories_are_written_and_read(tmp_path, capsys):
    benchmark_histories.write_and_read(6_000, tmp_path / "data")
    shown = capsys.readouterr().out
    assert "6,000 steps, 0.0 GiB, 3 histories" in shown
    assert shown.count("the most memory in each tenth, in MiB:") == 2


COST = Cost(
    case="rl2 toy",
    lanes=100,
    horizon=10.0,
    episodes=5,
    gradient_steps=4,
    minibatch=100,
    most=100,
    num_parameters=250_000,
    simulating=(1e-3, 1e-5),
    acting=(2e-3, 2e-5),
    learning=(5e-3, 1e-4),
)


def test_the_model_adds_up():
    # 10 steps of 1 + 1 and 2 + 2 ms, and 4 gradient steps of 5 + 10 ms for each of the 10.
    assert COST.seconds(1, 1e-3, 1e9, False) == pytest.approx(0.06 + 0.6)
    # Two processes: the parts that grow with lanes are halved; 4 messages of a megabyte, of two
    # latencies and one transfer each; 4,000 bytes of returns; 12 small messages.
    own = 10 * (1.5e-3 + 3e-3 + 4 * 10e-3)
    messages = 4 * (2e-3 + 1e-3) + (2e-3 + 4e-6) + 12 * 2e-3
    assert COST.seconds(2, 1e-3, 1e9, False) == pytest.approx(own + messages)
    assert COST.rate(2, 1e-3, 1e9, True) == pytest.approx(
        2000 / (0.66 + 4 * 3e-3 + 2e-3 + 8e-6 + 24e-3)
    )


def test_sums_over_more_processes_take_more_latencies_and_at_most_two_transfers():
    assert _all_reduce(1e6, 1, 1e-3, 1e9) == 0.0
    assert _all_reduce(1e6, 1024, 1e-3, 1e9) == pytest.approx(20e-3 + 2e-3, rel=1e-3)


def test_who_has_most_of_a_minibatch():
    assert _largest_share(8, 8, 4) == 2.0
    # Of 16 lanes drawn out of 128, shared by two: half, and 0.8 of a deviation of 1.87 above it.
    assert _largest_share(128, 16, 2) == pytest.approx(8 + 0.8 * 1.87, abs=0.2)


def test_constants_are_fitted():
    sizes = np.array([8, 16, 32, 64])
    assert _fit(list(zip(sizes, 3e-4 + 2e-6 * sizes))) == pytest.approx((3e-4, 2e-6))
