"""A check of a family of tasks: it finds what is most often wrong with one."""

import copy
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from metarl.errors import check_at_least
from metarl.seeding import stream, stream_seed
from metarl.tasks import TaskDistribution, Tasks
from metarl.vector import Array, TaskVectorEnv

NUM_TASKS = 8
NUM_DRAWS = 64


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Attributes:
        check: What was checked.
        passed: Whether it holds; None if it could not be checked.
        message: What was seen; where it failed, what was expected and the way out.
    """

    check: str
    passed: bool | None
    message: str


@dataclass(frozen=True)
class TaskCheck:
    """What :func:`check_tasks` found. Printed, it is a table.

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
    raise_on_failure: bool = True,
) -> TaskCheck:
    """Check a family of tasks by running it: random actions, a few tasks, a few hundred steps.

    It checks that

    - the environment accepts the tasks of every split, and keeps to its spaces;
    - observations and rewards are finite;
    - the same seed gives the same tasks, and no split holds tasks of another, or says so;
    - the same seed and actions give the same trajectory;
    - the observation does not tell the task: after the same ``reset(seed)`` it is the same in
      every task, and no entry of it is a parameter;
    - each parameter changes the trajectory;
    - the task survives ``reset`` and autoreset, and a new task replaces it wholly;
    - a batch equals single environments, step by step.

    Args:
        tasks: The family.
        num_steps: The length of each run. Raise it if a parameter shows its effect only rarely,
            as where the reward is sparse.
        seed: The seed of tasks, actions and environments.
        raise_on_failure: Whether to raise if a check fails.

    Returns:
        What each check found.

    Raises:
        ValueError: If a check failed, with every failure in a sentence; or if ``num_steps`` is
            below 2.
    """
    check_at_least(2, num_steps=num_steps)
    report = TaskCheck(tasks.name, tuple(_Laboratory(tasks, num_steps, seed).results()))
    if raise_on_failure and not report.passed:
        failures = "".join(f"\n- {f.check}: {f.message}" for f in report.failures)
        raise ValueError(
            f"{tasks.name} fails {len(report.failures)} of {len(report.results)} checks:{failures}"
        )
    return report


class _NotCheckedError(Exception):
    """A check that says nothing about this family."""


@dataclass(frozen=True)
class _Run:
    """A run of several tasks side by side.

    Attributes:
        start: The first observations, of shape (num_tasks, ...).
        outcomes: What each step led to, by name: arrays of shape (num_steps, num_tasks, ...).
        episode: The number of the episode of each step, of shape (num_steps, num_tasks).
    """

    start: Array
    outcomes: dict[str, Array]
    episode: NDArray[np.int64]

    def lane(self, lane: int, steps: NDArray[np.bool_]) -> "_Run":
        """Return the part of one task in some of the steps."""
        outcomes = {name: rows[steps][:, [lane]] for name, rows in self.outcomes.items()}
        return _Run(self.start[[lane]], outcomes, self.episode[steps][:, [lane]])

    def differs(self, other: "_Run", tolerance: float = 0.0) -> NDArray[np.bool_]:
        """Tell for each step and task whether its outcome differs, of shape (steps, tasks)."""
        differences = np.zeros(self.episode.shape, dtype=np.bool_)
        for name, mine in self.outcomes.items():
            theirs = other.outcomes[name]
            if tolerance:
                close = np.isclose(mine * 1.0, theirs * 1.0, rtol=tolerance, atol=tolerance)
            else:
                close = mine == theirs
            differences |= ~close.reshape(*differences.shape, -1).all(axis=2)
        return differences

    def check_same(self, other: "_Run", message: str, tolerance: float = 0.0) -> None:
        """Raise at the first difference.

        Raises:
            ValueError: With the message, and where the difference is.
        """
        if not np.allclose(self.start * 1.0, other.start * 1.0, rtol=tolerance, atol=tolerance):
            raise ValueError(f"{message} (they differ in the first observation)")
        differences = self.differs(other, tolerance)
        if differences.any():
            step, lane = np.argwhere(differences)[0]
            names = [
                name
                for name, mine in self.outcomes.items()
                if np.any(mine[step, lane] != other.outcomes[name][step, lane])
            ]
            raise ValueError(f"{message} (they differ in step {step + 1}: {', '.join(names)})")

    def same_episode(self, other: "_Run", lane: int, number: int) -> bool:
        """Tell whether an episode of a task is the same as far as both runs go."""
        mine, theirs = (run.episode[:, lane] == number for run in (self, other))
        length = min(mine.sum(), theirs.sum())
        return all(
            np.array_equal(
                self.outcomes[name][mine, lane][:length],
                other.outcomes[name][theirs, lane][:length],
            )
            for name in ("observation", "reward", "terminated")
        )


class _Laboratory:
    """The family under test, and the runs that its checks share."""

    def __init__(self, family: TaskDistribution, num_steps: int, seed: int):
        self.family = family
        self.num_steps = num_steps
        self.seed = seed
        self.draws = {
            split: family.sample(split, NUM_DRAWS, stream(seed, "tasks")) for split in family.splits
        }
        self.tasks = self.draws["train"][:NUM_TASKS]
        # For each parameter another value for each task, or None where there is none.
        self.others = {name: self._other(name) for name in family.parameters}
        with self.make(1) as env:
            self.observation_space = env.single_observation_space
            space = copy.deepcopy(env.single_action_space)
        space.seed(stream_seed(seed, "actions") % 2**32)
        samples = [space.sample() for _ in range(num_steps * NUM_TASKS)]
        self.actions = np.array(samples).reshape(num_steps, NUM_TASKS, *space.shape)  # type: ignore[misc]

    def _other(self, name: str) -> Array | None:
        own = self.tasks.columns[name]
        pool = np.concatenate([draws.columns[name] for draws in self.draws.values()])
        differs = (own[:, None] != pool).reshape(NUM_TASKS, len(pool), -1).any(axis=2)
        return pool[differs.argmax(axis=1)] if differs.any(axis=1).all() else None

    @cached_property
    def other_tasks(self) -> Tasks:
        """Tasks that differ from ``self.tasks`` in every parameter that has another value."""
        columns = {
            name: self.tasks.columns[name] if other is None else other
            for name, other in self.others.items()
        }
        return Tasks(self.family.name, columns)

    def results(self) -> Iterator[CheckResult]:
        """Run all checks. Where an essential one fails, the rest would mean nothing."""
        essential: dict[str, Callable[[], str]] = {
            "tasks fit the environment": self.fit,
            "finite numbers": self.finite,
            "spaces": self.spaces,
            "determinism": self.determinism,
        }
        others: dict[str, Callable[[], str]] = {
            "same seed, same tasks": self.same_tasks,
            "splits are disjoint": self.disjoint,
            "task not in the observation": self.hidden,
            **{f"{name} matters": partial(self.matters, name) for name in self.others},
            "task survives reset": self.survives,
            "new task replaces the old": self.replaces,
            "batched equals single": self.batched,
        }
        blocked: str | None = None
        for check, run in (essential | others).items():
            try:
                if blocked:
                    raise _NotCheckedError(f"not checked, mend first: {blocked}")
                yield CheckResult(check, True, run())
            except _NotCheckedError as reason:
                yield CheckResult(check, None, str(reason))
            except ValueError as failure:
                yield CheckResult(check, False, str(failure))
                if check in essential:
                    blocked = check

    # Runs.

    def make(self, num_envs: int = NUM_TASKS, short: bool = False) -> "closing[TaskVectorEnv]":
        """Build environments, with episodes cut ``short`` so that a run sees some ends."""
        env = self.family.make_vec(num_envs)
        if short:
            env.horizon = min(env.horizon, max(1, self.num_steps // 8))
        return closing(env)

    def run(
        self,
        env: TaskVectorEnv,
        tasks: Tasks | None = None,
        *,
        first: int = 0,
        active: NDArray[np.bool_] | None = None,
    ) -> _Run:
        """Run random actions that depend only on the task's number, the episode and its step.

        Args:
            env: The environments.
            tasks: Their tasks; None leaves those they have.
            first: Which number the first of the tasks has: it shifts seeds and actions.
            active: Which to step, of shape (num_steps, num_envs).
        """
        if tasks is not None:
            env.set_tasks(tasks)
        start, _ = env.reset(seed=stream_seed(self.seed, "envs") + first)
        lanes = np.arange(env.num_envs)
        elapsed, episode = np.zeros((2, env.num_envs), dtype=np.int64)
        steps = []
        for mask in np.ones((self.num_steps, env.num_envs), bool) if active is None else active:
            if not mask.any():
                continue
            actions = self.actions[(elapsed + episode) % self.num_steps, lanes + first]
            following, rewards, terminated, truncated, info = env.step(actions, mask)
            last = info.get("final_obs", following)
            steps.append((last, rewards, terminated, truncated, following, episode.copy()))
            ended = terminated | truncated
            elapsed = np.where(ended, 0, elapsed + mask)
            episode = episode + ended
        *columns, episodes = (np.array(column) for column in zip(*steps))
        names = ("observation", "reward", "terminated", "truncated", "observation after the step")
        return _Run(np.array(start), dict(zip(names, columns)), episodes)

    @cached_property
    def base(self) -> _Run:
        """The run that others are compared to."""
        with self.make() as env:
            return self.run(env, self.tasks)

    @cached_property
    def short_base(self) -> _Run:
        """The same with short episodes."""
        with self.make(short=True) as env:
            return self.run(env, self.tasks)

    # Checks: each returns what it saw, or raises a ValueError that says what is wrong.

    def fit(self) -> str:
        with self.make() as env:
            for split, draws in self.draws.items():
                try:
                    env.set_tasks(draws[:NUM_TASKS])
                except ValueError as error:
                    raise ValueError(
                        f"the environment refuses tasks of the split {split!r}: {error}"
                    ) from error
        return f"tasks of {', '.join(self.draws)} are accepted"

    def finite(self) -> str:
        for split, draws in self.draws.items():
            with self.make() as env:
                run = self.base if split == "train" else self.run(env, draws[:NUM_TASKS])
            starts = np.isfinite(run.start).all()
            if not (starts and np.isfinite(run.outcomes["observation after the step"]).all()):
                raise ValueError(f"reset returned an observation that is not finite, in {split!r}")
        return f"in {self.num_steps} steps of {NUM_TASKS} tasks of each split"

    def spaces(self) -> str:
        space = self.observation_space
        rows = self.base.outcomes["observation"]
        for observation in (*self.base.start, *rows.reshape(-1, *rows.shape[2:])):
            if not space.contains(observation):
                raise ValueError(
                    f"the observation {observation} ({observation.dtype}) is not in the "
                    f"observation space {space}; widen the space or mend the observation"
                )
        for name, kind in (("reward", "f"), ("terminated", "b"), ("truncated", "b")):
            rows = self.base.outcomes[name]
            if rows.shape != (self.num_steps, NUM_TASKS) or rows.dtype.kind != kind:
                raise ValueError(
                    f"{name} has shape {rows.shape[1:]} and type {rows.dtype} in a batch of "
                    f"{NUM_TASKS}; expected ({NUM_TASKS},) and {'float' if kind == 'f' else 'bool'}"
                )
        return f"observations in {space}"

    def determinism(self) -> str:
        with self.make() as env:
            self.run(env, self.tasks).check_same(
                self.base,
                "the same seed, tasks and actions gave two trajectories; draw random numbers only "
                "from self.np_random, which super().reset(seed=seed) seeds",
            )
        return "the same seed and actions give the same trajectory, bit for bit"

    def same_tasks(self) -> str:
        for split, draws in self.draws.items():
            if self.family.sample(split, NUM_DRAWS, stream(self.seed, "tasks")) != draws:
                raise ValueError(
                    f"sample({split!r}) gave other tasks for the same seed; "
                    "a Parameter must draw only from the generator it is given"
                )
        return f"{NUM_DRAWS} tasks of each split, drawn twice"

    def disjoint(self) -> str:
        seen = set(self.draws["train"])
        notes = []
        for split, draws in self.draws.items():
            note = self.family.overlap(split)
            if split == "train":
                continue
            if note:
                notes.append(note)
            elif not seen.isdisjoint(draws):
                raise ValueError(
                    f"{next(task for task in draws if task in seen)} is in 'train' and in "
                    f"{split!r}; splits must not share tasks: give them laws that do not overlap"
                )
        return "; ".join(dict.fromkeys(notes)) or f"{NUM_DRAWS} tasks of each have none in common"

    def hidden(self) -> str:
        if all(other is None for other in self.others.values()):
            raise _NotCheckedError("not checked: there is one task only")
        with self.make() as env:
            start = self.run(env, self.other_tasks).start
        entries = np.flatnonzero((start != self.base.start).reshape(NUM_TASKS, -1).any(axis=0))
        if len(entries):
            raise ValueError(
                f"after the same reset(seed), another task gave another first observation "
                f"({_entries(entries)}): the task leaks into it; leave it out (told() is the view "
                "of an oracle), and draw the first state independently of the task"
            )
        rows = self.base.outcomes["observation"].reshape(self.num_steps, NUM_TASKS, -1)
        for name, law in self.family.parameters.items():
            column = self.tasks.columns[name]
            features = [law.encode(column)]
            if column.dtype.kind in "biuf":
                features.append(column.reshape(NUM_TASKS, -1).astype(np.float32))
            for feature in np.concatenate(features, axis=1).T:
                if np.ptp(feature) == 0.0:
                    continue
                # The first step rules out nearly all entries.
                entries = np.flatnonzero(np.isclose(rows[0], feature[:, None]).all(axis=0))
                told = np.isclose(rows[:, :, entries], feature[:, None]).all(axis=(0, 1))
                if told.any():
                    raise ValueError(
                        f"the observation contains {name} ({_entries(entries[told])}): the task "
                        "leaks into it; leave it out (told() is the view of an oracle)"
                    )
        return "the first observation is the same in every task, and no entry is a parameter"

    def matters(self, name: str) -> str:
        other = self.others[name]
        if other is None:
            raise _NotCheckedError("not checked: it has one value only")
        with self.make() as env:
            run = self.run(env, Tasks(self.family.name, {**self.tasks.columns, name: other}))
        changed = int(run.differs(self.base).any(axis=0).sum())
        if changed == 0:
            raise ValueError(
                f"another {name} gave the same observations and rewards in {self.num_steps} steps "
                f"of {NUM_TASKS} tasks: nothing reads it, or reset sets it back; if its effect is "
                "only rare (a sparse reward), raise num_steps"
            )
        return f"another value changed {changed} of {NUM_TASKS} trajectories"

    def survives(self) -> str:
        with self.make(short=True) as env:
            other = self.run(env, self.other_tasks)
            episodes = min(int(run.episode.max()) + 1 for run in (other, self.short_base))
            changed = [
                any(not other.same_episode(self.short_base, lane, k) for lane in range(NUM_TASKS))
                for k in range(episodes)
            ]
            if not any(changed):
                raise _NotCheckedError("not checked: the task changes nothing to begin with")
            advice = "keep the task in the environment until set_task changes it"
            if changed[0] and episodes > 1 and not any(changed[1:]):
                raise ValueError(
                    "the task changes the first episode and none after an automatic reset: "
                    f"it is lost at reset; {advice}"
                )
            again = self.run(env)
            if not again.differs(other).any():
                return f"after {episodes} episodes, reset(seed) gives the same trajectory again"
            afresh = self.run(env, self.other_tasks)
        if not afresh.differs(other).any():
            raise ValueError(
                "after some episodes, reset(seed) gave another trajectory than at first, until the "
                f"task was set again: it is lost at reset; {advice}"
            )
        again.check_same(
            other,
            "after some episodes, reset(seed) gave another trajectory than at first: something of "
            "the episodes before stays behind; reset must set back all state but the task",
        )
        raise AssertionError("unreachable")

    def replaces(self) -> str:
        with self.make(short=True) as env:
            self.run(env, self.other_tasks)
            self.run(env, self.tasks).check_same(
                self.short_base,
                "after another task, a task gave another trajectory than in new environments: "
                "something of the old task stays behind; set absolute values, never relative to "
                "those of the task before",
            )
        return "a task set after another one gives the same trajectory as in new environments"

    def batched(self) -> str:
        rng = np.random.default_rng(stream(self.seed, "active"))
        active = rng.random((self.num_steps, NUM_TASKS)) < 0.8
        active[:, 0] |= ~active.any(axis=1)
        with self.make(short=True) as env:
            batch = self.run(env, self.tasks, active=active)
        for i in range(NUM_TASKS):
            with self.make(1, short=True) as env:
                single = self.run(env, self.tasks[i : i + 1], first=i, active=active[:, i : i + 1])
            single.check_same(
                batch.lane(i, active[:, i]),
                f"sub-environment {i} of a batch and a single environment with its task and seed "
                "gave two trajectories; sub-environments must share no state and no random stream",
                tolerance=1e-6,  # a batched matrix product may round differently
            )
        return f"{NUM_TASKS} environments, stepped in a batch (not all at once) and alone"


def _entries(entries: NDArray[np.intp]) -> str:
    shown = ", ".join(str(entry) for entry in entries[:5])
    return f"entry {shown}{', ...' if len(entries) > 5 else ''}"
