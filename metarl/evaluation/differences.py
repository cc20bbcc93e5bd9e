"""Which agent is better, by how much, and how sure that is: differences paired by task."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metarl.errors import InvalidValueError
from metarl.evaluation.comparison import check_comparable, describe_evaluation
from metarl.evaluation.curves import Groups, episode_groups, grouped
from metarl.evaluation.report import Report
from metarl.evaluation.statistics import (
    FEWEST_TASKS,
    STATISTIC_NAMES,
    Estimates,
    TaskBootstrap,
)
from metarl.evaluation.tables import Table, as_text, range_of_episodes


@dataclass(frozen=True)
class Difference(Estimates):
    """One agent minus another, for each range of episodes and for all episodes together.

    Attributes:
        value: The difference of the two agents' statistics, of shape (num_groups + 1,): the last
            entry is of the mean over all episodes that both had.
        low, high: Its 95% interval, paired by task.
        agent, other: The agents' names.
        groups: Ranges (start, stop) of episode indices.
        of_agent, of_other: The statistics of the two, of the shape of ``value``.
        improvement: The probability of improvement: how often a training of ``agent`` earns more
            than one of ``other`` in the same task, ties counted as one half.
    """

    agent: str
    other: str
    groups: Groups
    of_agent: NDArray[np.float64]
    of_other: NDArray[np.float64]
    improvement: Estimates

    @property
    def ahead_from(self) -> int | None:
        """The episode, counted from 1, from which on the interval lies above zero; or None."""
        return self._from(self.low > 0)

    @property
    def behind_from(self) -> int | None:
        """The episode, counted from 1, from which on the interval lies below zero; or None."""
        return self._from(self.high < 0)

    def _from(self, holds: NDArray[np.bool_]) -> int | None:
        lasting = np.logical_and.accumulate(holds[:-1][::-1])[::-1]
        return self.groups[int(lasting.argmax())][0] + 1 if lasting.any() else None

    def table(self) -> Table:
        """Return the difference as a table: a row for each range of episodes, and one for all."""
        names = [*map(range_of_episodes, self.groups), "all"]
        columns = ("episode", self.agent, self.other, "difference", "probability of improvement")
        return Table(
            columns,
            tuple(
                (
                    name,
                    float(self.of_agent[index]),
                    float(self.of_other[index]),
                    self[index],
                    self.improvement[index],
                )
                for index, name in enumerate(names)
            ),
        )

    def conclusion(self) -> str:
        """Return whether the agent is ahead, in a sentence."""
        names = f"{self.agent} is {{}} {self.other} from episode {{}} on."
        if self.ahead_from is not None:
            return names.format("ahead of", self.ahead_from)
        if self.behind_from is not None:
            return names.format("behind", self.behind_from)
        if math.isnan(self.low[0]):
            return f"Fewer than {FEWEST_TASKS} tasks do not show who is ahead."
        return "Neither is ahead at the end: the interval of the last difference holds zero."


@dataclass(frozen=True)
class Comparison:
    """The first agent against each other one, on the same tasks.

    Attributes:
        title: What the agents were evaluated on.
        measure: What is compared, and what the intervals are over.
        differences: The first agent minus each of the others.
        notes: Sentences the reader must know, among them unequal budgets.
    """

    title: str
    measure: str
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        """Return the tables of all differences, what they say, and the notes."""
        lines = [self.title, f" {self.measure}"]
        for difference in self.differences:
            lines += [f"{difference.agent} minus {difference.other}"]
            lines += [as_text(difference.table()), f" {difference.conclusion()}"]
        return "\n".join([*lines, *(f" note: {note}" for note in self.notes)])


def compare(reports: Sequence[Report], env_steps: Mapping[str, int] | None = None) -> Comparison:
    """Compare agents task by task: the first against each of the others.

    All meet the same tasks, starts and random streams, so what tasks differ in cancels in the
    difference. Reports of one ``agent`` name are seeds of one agent: with several seeds the
    intervals are over seeds and tasks, from a bootstrap that resamples both.

    Args:
        reports: The reports, those of the same tasks, split and evaluation seed.
        env_steps: The env steps of training of agents, by name, as far as known; the comparison
            says where they differ.

    Raises:
        ValueError: If the reports are of fewer than two agents, or not of the same tasks.
    """
    check_comparable(reports)
    agents: dict[str, list[Report]] = {}
    for report in reports:
        agents.setdefault(report.agent, []).append(report)
    if len(agents) < 2:
        raise InvalidValueError(
            f"expected reports of at least two agents, got {len(reports)} of {reports[0].agent!r}; "
            "reports whose agent= is the same are seeds of one agent"
        )
    first = reports[0]
    own, *others = agents
    several = max(map(len, agents.values())) > 1
    over = "seeds and tasks" if several else "tasks"
    return Comparison(
        title=describe_evaluation(first),
        measure=f"{STATISTIC_NAMES[first.statistic]} over tasks, 95% intervals over {over}, "
        "paired by task",
        differences=tuple(
            _difference(own, agents[own], other, agents[other], first.bootstrap) for other in others
        ),
        notes=tuple(_notes(agents, env_steps or {})),
    )


def _difference(
    agent: str,
    reports: Sequence[Report],
    other: str,
    other_reports: Sequence[Report],
    bootstrap: TaskBootstrap,
) -> Difference:
    everything = [*reports, *other_reports]
    common = min(report.num_episodes for report in everything)
    together = math.lcm(*(report.episodes_per_adaptation for report in everything))
    # Ranges that no agent's rounds cross; where none fits, all episodes are one range.
    groups = [
        (start, min(stop, common))
        for start, stop in episode_groups(-(-common // together) * together, together, 12)
    ]
    ranges = [*groups, (0, common)]
    # (num_seeds, num_tasks, num_groups + 1) of either agent
    ours, theirs = (
        np.stack([grouped(report.returns, ranges) for report in found])
        for found in (reports, other_reports)
    )
    statistic = reports[0].statistic
    sample, other_sample = (bootstrap.sample(values, statistic) for values in (ours, theirs))
    found = bootstrap.estimate(sample, -other_sample)
    return Difference(
        found.value,
        found.low,
        found.high,
        agent,
        other,
        groups,
        sample.value.mean(axis=0),
        other_sample.value.mean(axis=0),
        _improvement(ours, theirs, bootstrap),
    )


def _improvement(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], bootstrap: TaskBootstrap
) -> Estimates:
    """Return the probability of improvement, over all pairs of seeds of two agents."""
    won = np.mean([(ours > each) + 0.5 * (ours == each) for each in theirs], axis=0)
    by_other = np.mean([(each > theirs) + 0.5 * (each == theirs) for each in ours], axis=0)
    samples = [bootstrap.sample(won, "mean")]
    if len(ours) > 1 or len(theirs) > 1:
        # To first order what seeds of the two do adds up (Hoeffding 1948).
        both = bootstrap.sample(won.mean(axis=0, keepdims=True), "mean")
        samples += [bootstrap.sample(by_other, "mean"), -both]
    found = bootstrap.estimate(*samples)
    return Estimates(found.value, np.maximum(found.low, 0.0), np.minimum(found.high, 1.0))


def _notes(agents: Mapping[str, Sequence[Report]], env_steps: Mapping[str, int]) -> list[str]:
    """Return in what the agents' budgets differ, and what limits the comparison."""
    notes = list(dict.fromkeys(note for found in agents.values() for note in found[0].all_notes()))
    known = {name: f"{env_steps[name]:,}" for name in agents if name in env_steps}
    adapted = {name: f"{found[0].episodes_per_adaptation:,}" for name, found in agents.items()}
    episodes = {name: f"{found[0].num_episodes:,}" for name, found in agents.items()}
    for what, of in (
        ("env steps of training", known),
        ("episodes before an agent adapts", adapted),
        ("episodes in a task (those that both had are compared)", episodes),
    ):
        if len(set(of.values())) > 1:
            listed = ", ".join(f"{name} {number}" for name, number in of.items())
            notes.append(f"unequal budgets, {what}: {listed}")
    numbers = {name: len(found) for name, found in agents.items()}
    if alone := [name for name, number in numbers.items() if number == 1]:
        notes.append(
            f"one seed of {', '.join(alone)}: how much trainings differ is not in the interval"
        )
    if 2 in numbers.values():
        notes.append("intervals over two seeds are wide: more seeds narrow them most")
    return notes
