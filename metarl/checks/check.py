"""A check of a family of tasks, for the most common mistakes."""

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from metarl.batches import take
from metarl.checks.probe import NUM_DRAWS, NUM_TASKS, Probe
from metarl.distribution import TaskDistribution
from metarl.errors import (
    InvalidTypeError,
    InvalidValueError,
    check_at_least,
    check_at_most,
    check_names,
)
from metarl.seeding import stream
from metarl.splits import num_shared
from metarl.tasks import Tasks
from metarl.vector.env import Array
from metarl.vector.workers import without_workers

_MAX_REWARD = 1e6


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        check: The name of the check.
        passed: Whether it passed; None if it could not be run.
        message: What the check found; if it failed, also what was expected and how to fix it.
    """

    check: str
    passed: bool | None
    message: str


@dataclass(frozen=True)
class TaskCheck:
    """The result of :func:`check_tasks`. Printed, it is a table.

    Attributes:
        family: The name of the family.
        results: One for each check.
    """

    family: str
    results: tuple[CheckResult, ...]

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        """The checks that failed."""
        return tuple(result for result in self.results if result.passed is False)

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failures

    def __str__(self) -> str:
        marks = {True: "pass", False: "FAIL", None: "-"}
        width = max(len(result.check) for result in self.results)
        lines = [f"check of {self.family}"]
        for result in self.results:
            head = f"  {marks[result.passed]:<4}  {result.check:<{width}}  "
            lines += textwrap.wrap(
                result.message, 100, initial_indent=head, subsequent_indent=" " * len(head)
            )
        return "\n".join(lines)


def check_tasks(
    tasks: TaskDistribution,
    *,
    num_steps: int = 200,
    seed: int = 0,
    skip: Sequence[str] = (),
    raise_on_failure: bool = True,
) -> TaskCheck:
    """Check a family of tasks by running it: random actions, a few tasks, a few hundred steps.

    It checks that

    - the environment accepts the tasks of every split, and stays within its spaces;
    - observations and rewards are finite;
    - the same seed gives the same tasks, and no split shares tasks with another, unless declared;
    - the same seed and actions give the same trajectory;
    - rewards are not too large to learn from;
    - the observation does not reveal the task: after the same ``reset(seed)`` it is the same in
      every task, and no entry of it follows a parameter, except parameters declared ``visible``;
    - each parameter changes the trajectory;
    - the task survives ``reset`` and autoreset, and a new task replaces it completely;
    - a batch equals single environments, step by step.

    It opens one batch of eight environments at a time. All run in this process, even for a family
    with workers.

    Args:
        tasks: The family.
        num_steps: The length of each run. Raise it if a parameter has an effect only rarely, for
            example with a sparse reward.
        seed: The seed of tasks, actions and environments.
        skip: Names of checks to skip, as shown in the report, such as ``"goal matters"`` if the
            effect of a parameter is too rare for random actions.
        raise_on_failure: Whether to raise if a check fails.

    Returns:
        The result of each check.

    Raises:
        ValueError: If a check failed, with a sentence for every failure; or if ``num_steps`` is
            below 2.
    """
    if not isinstance(tasks, TaskDistribution):
        raise InvalidTypeError(f"tasks must be a TaskDistribution, got {tasks!r}")
    check_at_least(2, num_steps=num_steps)
    check_at_most(10**6, num_steps=num_steps)
    # Many small batches, one after the other: workers would take longer to start than to step.
    probe = Probe(without_workers(tasks), num_steps, seed)
    report = TaskCheck(tasks.name, tuple(_results(probe, skip)))
    if raise_on_failure and not report.passed:
        failures = "".join(f"\n- {f.check}: {f.message}" for f in report.failures)
        raise InvalidValueError(
            f"{tasks.name} fails {len(report.failures)} of {len(report.results)} checks:{failures}"
        )
    return report


class _NotCheckedError(Exception):
    """A check that does not apply to this family."""


def _results(probe: Probe, skip: Sequence[str]) -> Iterator[CheckResult]:
    """Run all checks."""
    # If a check marked True fails, the ones after it would fail for the same reason.
    checks: list[tuple[str, Callable[[Probe], str], bool]] = [
        ("tasks fit the environment", _fit, True),
        ("finite numbers", _finite, True),
        ("spaces", _spaces, True),
        ("size of rewards", _rewards, False),
        ("determinism", _determinism, True),
        ("same seed, same tasks", _same_tasks, False),
        ("splits are disjoint", _disjoint, False),
        ("task not in the observation", _hidden, False),
        *((f"{name} matters", partial(_matters, name=name), False) for name in probe.others),
        ("task survives reset", _survives, True),
        ("new task replaces the old", _replaces, False),
        ("batched equals single", _batched, False),
    ]
    check_names(skip, [check for check, *_ in checks], "check")
    blocked: str | None = None
    for check, run, essential in checks:
        try:
            if check in skip:
                raise _NotCheckedError("skipped, as requested")
            if blocked:
                raise _NotCheckedError(f"not checked, fix first: {blocked}")
            yield CheckResult(check, True, run(probe))
        except _NotCheckedError as reason:
            yield CheckResult(check, None, str(reason))
        except ValueError as failure:
            yield CheckResult(check, False, str(failure))
            blocked = check if essential else None


# The checks: each returns what it found, or raises a ValueError with what is wrong.


def _fit(probe: Probe) -> str:
    with probe.make() as env:
        for split, draws in probe.draws.items():
            try:
                env.set_tasks(draws[:NUM_TASKS])
                env.reset(seed=0)  # a custom environment is given its task here
            except ValueError as error:
                raise ValueError(
                    f"the environment refuses tasks of the split {split!r}: {error}"
                ) from error
    return f"tasks of {', '.join(probe.draws)} are accepted"


def _finite(probe: Probe) -> str:
    for split, draws in probe.draws.items():
        run = probe.base if split == "train" else probe.fresh_run(draws[:NUM_TASKS])
        starts = np.isfinite(run.start).all()
        if not (starts and np.isfinite(run.outcomes["observation after the step"]).all()):
            raise ValueError(f"reset returned an observation that is not finite, in {split!r}")
    return f"in {probe.num_steps} steps of {NUM_TASKS} tasks of each split"


def _spaces(probe: Probe) -> str:
    space = probe.observation_space
    for observations in probe.base.seen:
        for lane in range(NUM_TASKS):
            observation = take(observations, lane)
            if not space.contains(observation):
                dtype = getattr(observation, "dtype", type(observation).__name__)
                raise ValueError(
                    f"the observation {observation} ({dtype}) is not in the "
                    f"observation space {space}; widen the space or correct the observation"
                )
    for name, kind in (("reward", "f"), ("terminated", "b"), ("truncated", "b")):
        rows = probe.base.outcomes[name]
        if rows.shape != (probe.num_steps, NUM_TASKS) or rows.dtype.kind != kind:
            raise ValueError(
                f"{name} has shape {rows.shape[1:]} and type {rows.dtype} in a batch of "
                f"{NUM_TASKS}; expected ({NUM_TASKS},) and {'float' if kind == 'f' else 'bool'}"
            )
    return f"observations in {space}"


def _rewards(probe: Probe) -> str:
    largest = float(np.abs(probe.base.outcomes["reward"]).max())
    if largest > _MAX_REWARD:
        raise ValueError(
            f"there are rewards of {largest:.3g}: training on numbers this large loses precision "
            f"or overflows; scale them to below {_MAX_REWARD:g}"
        )
    return f"at most {largest:.3g} in absolute value"


def _determinism(probe: Probe) -> str:
    probe.fresh_run(probe.tasks).check_same(
        probe.base,
        "the same seed, tasks and actions gave two trajectories; draw random numbers only "
        "from self.np_random, which super().reset(seed=seed) seeds",
    )
    return "the same seed and actions give the same trajectory, bit for bit"


def _same_tasks(probe: Probe) -> str:
    for split, draws in probe.draws.items():
        if probe.family.sample(split, NUM_DRAWS, stream(probe.seed, "tasks")) != draws:
            raise ValueError(
                f"sample({split!r}) gave other tasks for the same seed; "
                "a Parameter must draw only from the generator it is given"
            )
    return f"{NUM_DRAWS} tasks of each split, drawn twice"


def _disjoint(probe: Probe) -> str:
    family, notes = probe.family, []
    for split, draws in probe.draws.items():
        if split == "train":
            continue
        # Validation may use training tasks, but never those that are reported.
        other = "held_out" if split == "validation" else "train"
        shared = num_shared(family.sampler(split), family.sampler(other))
        seen = set(probe.draws[other])
        if shared and not family.shares_tasks:
            raise ValueError(
                f"{shared:,} of the {family.num_tasks(split):,} tasks of {split!r} are tasks of "
                f"{other!r} too, so they are not unseen; divide a TaskSet with split(0.8, seed=0), "
                "or declare shares_tasks=True if that is meant"
            )
        if not shared and not seen.isdisjoint(draws):  # an own distribution that is no continuum
            raise ValueError(
                f"{next(task for task in draws if task in seen)} is in {other!r} and in "
                f"{split!r}; splits must not share tasks: give them separate distributions"
            )
        notes.append(family.overlap(split))
    return "; ".join(dict.fromkeys(filter(None, notes))) or "no split shares a task with train"


def _hidden(probe: Probe) -> str:
    visible = probe.family.visible
    if all(other is None for other in probe.others.values()):
        raise _NotCheckedError("not checked: there is one task only")
    if set(probe.others) <= set(visible):
        raise _NotCheckedError("not checked: every parameter is declared visible")
    start = probe.fresh_run(probe.tasks_alike).start
    entries = np.flatnonzero((start != probe.base.start).any(axis=0))
    if len(entries):
        raise ValueError(
            f"after the same reset(seed), another task gave another first observation "
            f"({probe.entries(entries)}): the task leaks into it; leave it out (tasks.oracle() "
            "shows it), and draw the first state independently of the task; if it is meant to "
            "be seen, as a map is, name the parameter in the family's visible="
        )
    rows = probe.base.outcomes["observation"]
    for name, distribution in probe.family.parameters.items():
        if name in visible:
            continue
        column = probe.tasks.columns[name]
        features = [distribution.encode(column)]
        if column.dtype.kind in "biuf":
            features.append(column.reshape(NUM_TASKS, -1).astype(np.float32))
        for feature in np.concatenate(features, axis=1).T:
            if np.ptp(feature) == 0.0:
                continue
            shown = _follows(rows, feature)
            if shown.any():
                raise ValueError(
                    f"the observation contains {name}, or what grows or falls with it "
                    f"({probe.entries(np.flatnonzero(shown))}): the task leaks into it; leave it "
                    "out (tasks.oracle() shows it), or name the parameter in the family's "
                    "visible= if it is meant to be seen"
                )
    return "the first observation is the same in every task, and no entry follows a parameter"


def _follows(rows: Array, feature: Array) -> NDArray[np.bool_]:
    """Return which entries of observations are a monotone function of a feature of the task.

    Args:
        rows: Observations, of shape (num_steps, num_tasks, size).
        feature: Of shape (num_tasks,), with two values at least.
    """
    order = np.argsort(feature, kind="stable")
    grows = np.diff(feature[order]) > 0.0
    # Between tasks of equal features nothing may differ, between others all in one direction.
    changes = np.diff(rows[:, order].astype(np.float64), axis=1)
    same = np.isclose(changes[:, ~grows], 0.0).all(axis=(0, 1))
    rises, falls = ((sign * changes[:, grows] > 1e-12).all(axis=(0, 1)) for sign in (1.0, -1.0))
    return np.asarray(same & (rises | falls))


def _matters(probe: Probe, name: str) -> str:
    other = probe.others[name]
    if other is None:
        raise _NotCheckedError("not checked: it has one value only")
    run = probe.fresh_run(Tasks(probe.family.name, {**probe.tasks.columns, name: other}))
    changed = int(run.differs(probe.base).any(axis=0).sum())
    if changed == 0:
        raise ValueError(
            f"another {name} gave the same observations and rewards in {probe.num_steps} steps "
            f"of {NUM_TASKS} tasks: nothing reads it, or reset restores it; if it has an effect "
            "only rarely (a sparse reward), raise num_steps"
        )
    return f"another value changed {changed} of {NUM_TASKS} trajectories"


def _survives(probe: Probe) -> str:
    base = probe.short_base
    with probe.make(short=True) as env:
        other = probe.run(env, probe.other_tasks)
        episodes = min(int(run.episode.max()) + 1 for run in (other, base))
        changed = [
            any(not other.same_episode(base, lane, k) for lane in range(NUM_TASKS))
            for k in range(episodes)
        ]
        if not any(changed):
            raise _NotCheckedError(
                f"not checked: in episodes cut to {env.horizon} steps the task changes nothing; "
                "if it shows only later, raise num_steps"
            )
        advice = "keep the task in the environment until set_task changes it"
        if changed[0] and episodes > 1 and not any(changed[1:]):
            raise ValueError(
                "the task changes the first episode and none after an automatic reset: "
                f"it is lost at reset; {advice}"
            )
        again = probe.run(env)
        if not again.differs(other).any():
            return f"after {episodes} episodes, reset(seed) gives the same trajectory again"
        afresh = probe.run(env, probe.other_tasks)
    if not afresh.differs(other).any():
        raise ValueError(
            "after some episodes, reset(seed) gave another trajectory than at first, until the "
            f"task was set again: it is lost at reset; {advice}"
        )
    raise ValueError(
        again.explain(
            other,
            "after some episodes, reset(seed) gave another trajectory than at first: something of "
            "the episodes before stays behind; reset must set back all state but the task",
        )
    )


def _replaces(probe: Probe) -> str:
    base = probe.short_base  # before others are made: one batch at a time
    with probe.make(short=True) as env:
        probe.run(env, probe.other_tasks)
        probe.run(env, probe.tasks).check_same(
            base,
            "after another task, a task gave another trajectory than in new environments: "
            "something of the old task stays behind; set absolute values, never relative to "
            "those of the task before",
        )
    return "a task set after another one gives the same trajectory as in new environments"


def _batched(probe: Probe) -> str:
    rng = np.random.default_rng(stream(probe.seed, "active"))
    active = rng.random((probe.num_steps, NUM_TASKS)) < 0.8
    active[:, 0] |= ~active.any(axis=1)
    with probe.make(short=True) as env:
        batch = probe.run(env, probe.tasks, active=active)
    for i in range(NUM_TASKS):
        with probe.make(1, short=True) as env:
            single = probe.run(env, probe.tasks[i : i + 1], first=i, active=active[:, i : i + 1])
        single.check_same(
            batch.lane(i, active[:, i]),
            f"sub-environment {i} of a batch and a single environment with its task and seed "
            "gave two trajectories; sub-environments must share no state and no random stream",
            tolerance=1e-6,  # a batched matrix product may round differently
        )
    return f"{NUM_TASKS} environments, stepped in a batch (not all at once) and alone"
