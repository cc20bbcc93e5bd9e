"""Distributions over whole tasks: finite sets, their division, what two splits have in common."""

import tracemalloc

import numpy as np
import pytest

from metarl import Choice, Independent, TaskDistribution, TaskSampler, TaskSet, Uniform, check_tasks
from metarl.splits import num_shared

GRID = {"size": Choice((1, 2, 3)), "color": Choice(("red", "blue")), "wind": Choice((0.5, -0.5))}


def rows(distribution):
    """The tasks of a set as a set of tuples: the slow and obvious way."""
    columns = [np.asarray(column).tolist() for _, column in sorted(distribution.columns.items())]
    return {tuple(tuple(v) if isinstance(v, list) else v for v in row) for row in zip(*columns)}


def test_a_product_holds_every_combination_once():
    every = TaskSet.product(GRID)
    assert len(every) == every.num_tasks == Independent(GRID).num_tasks == 12
    assert len(rows(every)) == 12
    with pytest.raises(ValueError, match="'speed' has a continuum of values"):
        TaskSet.product({"speed": Uniform(0.0, 1.0)})


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.8])
def test_the_two_parts_of_a_set_share_nothing_and_miss_nothing(fraction):
    every = TaskSet.product(GRID)
    first, second = every.split(fraction, seed=3)
    assert len(first) == round(12 * fraction)
    assert rows(first) | rows(second) == rows(every)
    assert rows(first).isdisjoint(rows(second))
    assert num_shared(first, second) == 0
    assert rows(every.split(fraction, seed=3)[0]) == rows(first)
    assert rows(every.split(0.5, seed=4)[0]) != rows(every.split(0.5, seed=5)[0])


def test_where_keeps_what_meets_the_condition():
    big = TaskSet.product(GRID).where(lambda task: task["size"] > 1)
    assert {row[1] for row in rows(big)} == {2, 3}
    assert len(big) == 8
    with pytest.raises(ValueError, match="none of the 12 tasks"):
        TaskSet.product(GRID).where(lambda task: task["size"] > 3)
    with pytest.raises(ValueError, match=r"booleans of shape \(12,\), got int64"):
        TaskSet.product(GRID).where(lambda task: task["size"])


def test_a_set_is_drawn_from_without_repetition_until_all_had_their_turn():
    every = TaskSet.product(GRID)
    drawn = every.sample(np.random.default_rng(0), 30)
    tasks = list(zip(*(column.tolist() for column in drawn.values())))
    assert len(set(tasks[:12])) == len(set(tasks[12:24])) == 12
    assert tasks[:12] != tasks[12:24]
    # The first tasks do not depend on how many are drawn.
    few = every.sample(np.random.default_rng(0), 5)
    assert list(zip(*(column.tolist() for column in few.values()))) == tasks[:5]


def test_weighted_tasks_are_drawn_as_often_as_their_weights_say():
    every = TaskSet.product({"size": Choice(tuple(range(4)))}).weighted(np.array([1, 2, 3, 4]))
    drawn = every.sample(np.random.default_rng(0), 40_000)["size"]
    np.testing.assert_allclose(np.bincount(drawn) / 40_000, [0.1, 0.2, 0.3, 0.4], atol=0.01)
    large = every.where(lambda task: task["size"] > 1)
    drawn = large.sample(np.random.default_rng(0), 40_000)["size"]
    np.testing.assert_allclose(np.bincount(drawn)[2:] / 40_000, [3 / 7, 4 / 7], atol=0.01)
    with pytest.raises(ValueError, match=r"4 numbers, one for each task, got the shape \(3,\)"):
        every.weighted(np.ones(3))
    with pytest.raises(ValueError, match="positive and finite, got 0"):
        every.weighted(np.array([1, 2, 0, 1]))


@pytest.mark.parametrize("trial", range(20))
def test_common_tasks_are_counted_as_the_slow_way_does(trial):
    rng = np.random.default_rng(trial)

    def some():
        columns = {
            "name": rng.choice(["a", "b", "ab", ""], 30),
            "rule": rng.integers(-1, 2, (30, 2)),
            "speed": rng.choice([-0.0, 0.0, 0.5], 30),
        }
        keep = np.unique(
            [f"{c}{r}{abs(s)}" for c, r, s in zip(*columns.values())], return_index=True
        )
        return TaskSet({name: column[keep[1]] for name, column in columns.items()})

    one, other = some(), some()
    expected = len(rows(one) & rows(other))
    assert num_shared(one, other) == num_shared(other, one) == expected


def test_common_tasks_of_sets_and_independent_parameters():
    every = TaskSet.product(GRID)
    part = Independent({**GRID, "size": Choice((2, 9))})
    assert num_shared(every, part) == num_shared(part, every) == 4
    assert num_shared(part, Independent(GRID)) == 4
    continuum = Independent({**GRID, "wind": Uniform(-1.0, 1.0)})
    assert num_shared(every, continuum) == num_shared(continuum, continuum) == 0


def test_sets_are_refused_where_they_are_wrong():
    with pytest.raises(ValueError, match="2 of 4 are repetitions"):
        TaskSet({"size": [1, 2, 1, 1]})
    with pytest.raises(ValueError, match="columns of one length"):
        TaskSet({"size": [1, 2], "color": ["red"]})
    with pytest.raises(ValueError, match="at least one task"):
        TaskSet({"size": []})
    with pytest.raises(ValueError, match="both sets need at least one task"):
        TaskSet({"size": [1, 2]}).split(0.1, seed=0)
    with pytest.raises(ValueError, match="have the same parameters"):
        TaskSet.from_tasks([{"size": 1}, {"sise": 2}])
    with pytest.raises(ValueError, match=r"split 'train' has the parameters \['size'\]"):
        TaskDistribution("x", GRID, None, splits={"train": TaskSet({"size": [1]})})
    with pytest.raises(TypeError, match="must be a TaskSampler or a mapping"):
        TaskDistribution("x", GRID, None, splits={"train": 3})


def test_values_of_different_kinds_do_not_become_each_other():
    for values in ([1, "a"], [1.5, True]):
        with pytest.raises(ValueError, match="values of one kind"):
            Choice(values)


class Paired(TaskSampler):
    """Length and gravity that belong together: a joint distribution."""

    def sample(self, rng, num_tasks):
        length = rng.uniform(0.5, 1.0, num_tasks)
        return {"length": length, "gravity": 10.0 * length}


def test_a_joint_distribution_is_drawn_as_a_whole_and_checked():
    import gymnasium

    from metarl.envs import from_gymnasium

    def make_env(length, gravity):
        env = gymnasium.make("CartPole-v1")
        env.unwrapped.length, env.unwrapped.gravity = length, gravity
        return env

    parameters = {"length": Uniform(0.5, 1.0), "gravity": Uniform(5.0, 10.0)}
    family = from_gymnasium(
        make_env, parameters, splits={"train": Paired(), "held_out": Paired()}, horizon=50
    )
    for split in ("train", "held_out"):
        tasks = family.sample(split, 50, seed=0)
        np.testing.assert_allclose(tasks.columns["gravity"], 10 * tasks.columns["length"])
    assert family.overlap("held_out") is None
    assert check_tasks(family).passed


def test_a_million_tasks_take_little_memory():
    tracemalloc.start()
    every = TaskSet.product({name: Choice(range(100)) for name in "abc"})
    train, held_out = every.split(0.8, seed=0)
    family = TaskDistribution(
        "million",
        {name: Choice(range(100)) for name in "abc"},
        None,
        splits={"train": train, "held_out": held_out},
    )
    assert len(family.sample("held_out", 40, seed=0)) == 40
    assert family.overlap("held_out") is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6


def test_a_family_can_be_trained_on_another_split():
    splits = {"fast": {"speed": Uniform(1.0, 2.0)}}
    tasks = TaskDistribution("family", {"speed": Uniform(0.0, 1.0)}, lambda n: None, splits)
    specialist = tasks.trained_on("fast")
    assert (specialist.name, specialist.view) == ("family", {"train_split": "fast"})
    assert specialist.sample("train", 100, 0).columns["speed"].min() >= 1.0
    assert specialist.overlap("fast") is None  # of a continuum both draw other tasks
    train, evaluated = (specialist.sample(split, 100, 0) for split in ("train", "fast"))
    assert not set(train.columns["speed"]) & set(evaluated.columns["speed"])
    # All else is the family's: what is evaluated, and how tasks are encoded.
    held_out = specialist.sample("held_out", 10, 0).columns["speed"]
    np.testing.assert_array_equal(held_out, tasks.sample("held_out", 10, 0).columns["speed"])
    np.testing.assert_array_equal(specialist.encode(evaluated), tasks.encode(evaluated))
    with pytest.raises(ValueError, match="unknown split of 'family': 'slow'"):
        tasks.trained_on("slow")


def test_a_family_can_be_limited_to_a_few_training_tasks():
    tasks = TaskDistribution("family", {"speed": Uniform(0.0, 1.0)}, env_factory=lambda n: None)
    few, more = tasks.limited(3), tasks.limited(5)
    assert (few.name, few.view) == ("family", {"num_train_tasks": 3})
    drawn = set(few.sample("train", 100, seed=7).columns["speed"].tolist())
    assert len(drawn) == few.num_tasks("train") == 3
    assert drawn < set(more.sampler("train").columns["speed"].tolist())
    assert few.overlap("held_out") is None
    held_out = few.sample("held_out", 10, 0).columns["speed"]
    np.testing.assert_array_equal(held_out, tasks.sample("held_out", 10, 0).columns["speed"])
    others = set(tasks.limited(3, seed=1).sampler("train").columns["speed"].tolist())
    assert len(others) == 3
    assert not others & drawn
    finite = TaskDistribution("finite", GRID, env_factory=lambda n: None)
    assert rows(finite.limited(12).sampler("train")) == rows(TaskSet.product(GRID))
    with pytest.raises(ValueError, match="num_train_tasks must be at most 12, got 13"):
        finite.limited(13)
    with pytest.raises(ValueError, match="num_train_tasks must be at least 1, got 0"):
        tasks.limited(0)


def test_limited_tasks_of_a_large_finite_family_are_all_different():
    digits = {f"digit{i}": Choice(range(10)) for i in range(9)}  # 10**9 tasks
    tasks = TaskDistribution("digits", digits, env_factory=lambda n: None)
    few = tasks.limited(1000)
    assert few.num_tasks("train") == len(rows(few.sampler("train"))) == 1000
    assert rows(few.sampler("train")) == rows(tasks.limited(1000).sampler("train"))


def test_limited_draws_in_rounds_until_all_tasks_are_there(monkeypatch):
    monkeypatch.setattr("metarl.distribution.MAX_TASKS", 1000)  # too few for 20 draws of each
    tasks = TaskDistribution("family", {"x": Choice(range(600))}, env_factory=lambda n: None)
    assert set(tasks.limited(600).sampler("train").columns["x"].tolist()) == set(range(600))


def test_limited_tasks_of_a_set_are_those_of_its_first_round():
    distribution = TaskSet({"x": np.arange(600_000)})
    tasks = TaskDistribution(
        "set",
        {"x": Uniform(0, 600_000)},
        lambda n: None,
        splits={"train": distribution, "held_out": distribution},
    )
    first = tasks.sample("train", 5, 0).columns["x"]
    np.testing.assert_array_equal(tasks.limited(5).sampler("train").columns["x"], first)


def test_limited_says_how_many_tasks_a_distribution_gave_where_there_are_too_few():
    class ThreeSpeeds(TaskSampler):
        def sample(self, rng, num_tasks):
            return {"speed": rng.integers(3, size=num_tasks) / 3}

    distributions = {"train": ThreeSpeeds()}
    tasks = TaskDistribution(
        "three", {"speed": Uniform(0, 1)}, lambda n: None, splits=distributions
    )
    with pytest.raises(
        ValueError, match="num_train_tasks=4, but train of 'three' gave only 3 different"
    ):
        tasks.limited(4)


def test_every_family_has_tasks_for_validation():
    def continuum(**splits):
        return TaskDistribution("speeds", {"speed": Uniform(0.0, 1.0)}, None, splits)

    family = continuum(fast={"speed": Uniform(1.0, 2.0)})
    assert list(family.splits) == ["train", "held_out", "fast", "validation"]
    assert family.overlap("validation") is None
    drawn = {split: set(family.sample(split, 100, seed=0)) for split in family.splits}
    assert len(set.union(*drawn.values())) == 400
    assert all(task["speed"] <= 1.0 for task in drawn["validation"])
    # A specialist is selected on the tasks that it trains on; one of few tasks on new ones.
    fast = family.trained_on("fast").sample("validation", 100, seed=0)
    assert all(task["speed"] >= 1.0 for task in fast)
    few = family.limited(3)
    assert few.sampler("validation") is family.sampler("train")
    assert few.oracle().sampler("validation") is family.sampler("train")


def test_a_finite_family_takes_what_training_leaves_for_validation():
    train, held_out = TaskSet.product(GRID).split(0.75, seed=0)
    splits = {"train": train, "held_out": held_out}
    family = TaskDistribution("grid", GRID, None, splits)
    assert family.num_tasks("train") == family.num_tasks("validation") == 9
    assert family.overlap("validation") == (
        "9 of the 9 tasks of validation are tasks of train: some may have been seen in training"
    )
    few = family.limited(4)
    left = rows(few.sampler("validation"))
    assert left == rows(train) - rows(few.sampler("train"))
    assert len(left) == 5
    assert few.overlap("validation") is None
    assert family.limited(9).overlap("validation") is not None
    own, validation = train.split(0.5, seed=1)
    declared = TaskDistribution(
        "grid", GRID, None, {**splits, "train": own, "validation": validation}
    )
    assert declared.overlap("validation") is None
    assert declared.limited(2).sampler("validation") is validation


def test_a_family_without_unreported_tasks_says_what_agents_are_selected_on():
    every = TaskSet.product(GRID)
    splits = {"train": every, "held_out": every}
    family = TaskDistribution("grid", GRID, None, splits, shares_tasks=True)
    assert family.overlap("validation") == (
        "12 of the 12 tasks of validation are tasks of held_out: agents are selected on "
        "reported tasks"
    )
    assert family.overlap("held_out") == "grid is evaluated on its 12 training tasks"
