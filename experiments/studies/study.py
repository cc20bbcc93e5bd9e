"""Studies as data: trainings, the tasks of evaluation, and the question."""

import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from metarl import Report, TaskDistribution
from metarl.agents.presets import find_preset
from metarl.splits import Columns
from metarl.tasks import Tasks
from metarl.views import View, slug


class Records(Protocol):
    """The interface of :class:`metarl.experiments.studies.quantities.Quantities`."""

    def __getitem__(self, name: str) -> Sequence[float]:
        """Return a quantity, a number for each seed, as ``EVALUATION/GROUP/LEARNER/WHAT``."""

    def reports(self, path: str) -> list[Report]:
        """Return the reports of ``EVALUATION/GROUP/LEARNER``, one for each seed."""

    def record(self, path: str) -> Report:
        """Return the report in a file of the folder of results."""

    def json(self, path: str) -> Any:
        """Return the content of a JSON file of the folder of results."""


@dataclass(frozen=True, eq=False)
class Recording:
    """Histories that a training learns from, recorded before it with its seed.

    Attributes:
        agent: What acts: an agent that needs no training, by its name on the command line, or one
            that is trained. An oracle is given the task.
        num_tasks: How many tasks, each with a history.
        num_episodes: The episodes of each; None takes the family's.
        noise: The share of random actions in the first and in the last tenth of the episodes.
        labels: An oracle whose choices are recorded as the best actions, likewise.
    """

    agent: "str | Training | Learner"
    num_tasks: int
    num_episodes: int | None = None
    noise: tuple[float, float] = (0.0, 0.0)
    labels: "str | Training | Learner | None" = None

    @property
    def trainings(self) -> "list[Training]":
        """The trainings that it needs, once it is that of a seed."""
        return [each for each in (self.agent, self.labels) if isinstance(each, Training)]

    def of_seed(self, seed: int, study: "Study") -> "Recording":
        """Return the same recording with the trainings of a seed in the place of learners."""

        def trained(what: "str | Training | Learner | None") -> Any:
            return what.training(seed, study) if isinstance(what, Learner) else what

        return replace(self, agent=trained(self.agent), labels=trained(self.labels))


@dataclass(frozen=True)
class Training:
    """One training: the agent, the family, the length and the seed.

    Attributes:
        agent: The agent's name on the command line.
        family: The family's name.
        seed: The seed.
        total_timesteps: Env steps; gradient steps with ``data``.
        variant: What tells it from the preset's training, for its name.
        hyperparameters: Those other than the preset's.
        start: A training whose agent it starts from, instead of random parameters.
        teacher: A training whose agent it imitates, or the name of a reference.
        view: The options of :func:`metarl.envs.make` (:mod:`metarl.views`).
        data: The histories that it learns from, of a learner from stored data.
    """

    agent: str
    family: str
    seed: int
    total_timesteps: int
    variant: str = ""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    start: "Training | None" = None
    teacher: "Training | str | None" = None
    view: View = field(default_factory=dict)
    data: Recording | None = None

    @property
    def name(self) -> str:
        """The name of its record, and of its agent."""
        family = slug(self.family, self.view)
        parts = (self.agent, family, self.variant, f"seed{self.seed}")
        return "-".join(part for part in parts if part)


@dataclass(frozen=True, eq=False)
class Learner:
    """One line of a study's figures: an agent and its training.

    Attributes:
        label: Its name in tables and figures; labels that are equal up to a comma share a colour.
        agent: The agent to evaluate, by its name on the command line; also one that needs no
            training, such as ``random``.
        family: The family it trains on; None if it does not train.
        trained_as: The agent that is trained, where that is another: what fine-tuning starts from
            is the multi-task policy.
        total_timesteps: Env steps of training (gradient steps with ``data``); None takes the
            study's.
        hyperparameters: Hyperparameters of training that differ from the preset.
        adaptation: Hyperparameters that are set for the evaluation.
        episodes: Adaptation episodes of the evaluation; None takes those of the study's.
        start: A learner whose agent the training starts from.
        teacher: A learner of the oracle view, whose agent the training imitates, or the name of a
            reference.
        variant: A word for the names of its records, if hyperparameters differ from the preset.
        view: The options of :func:`metarl.envs.make` with which it trains, as ``{"oracle": True}``;
            with ``num_train_tasks``, each seed draws its own.
        data: The histories that it learns from, of a learner from stored data.
    """

    label: str
    agent: str
    family: str | None = None
    trained_as: str | None = None
    total_timesteps: int | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    adaptation: Mapping[str, Any] = field(default_factory=dict)
    episodes: int | None = None
    start: "Learner | None" = None
    teacher: "Learner | str | None" = None
    variant: str = ""
    view: View = field(default_factory=dict)
    data: Recording | None = None

    def without_memory(self) -> "Learner":
        """Return the control of an agent with a memory: the same trainer, network and preset."""
        assert self.family is not None
        policy = dict(find_preset(self.agent, self.family).hyperparameters.get("policy_kwargs", {}))
        policy.pop("memory_kwargs", None)
        return replace(
            self,
            label=f"{self.label.partition(',')[0]}, without memory",
            hyperparameters={**self.hyperparameters, "policy_kwargs": {**policy, "memory": "none"}},
            variant="-".join(part for part in (self.variant, "no-memory") if part),
        )

    def training(self, seed: int, study: "Study") -> Training | None:
        """Return its training with a seed, or None if there is none."""
        if self.family is None:
            return None
        agent = self.trained_as or self.agent
        usual = find_preset(agent, self.family).total_timesteps
        steps = self.total_timesteps or study.total_timesteps or usual
        assert steps is not None
        draw = {"train_tasks_seed": seed} if seed and "num_train_tasks" in self.view else {}
        length = f"{steps / 1e6:g}M" if self.data is None else f"{steps}-gradient-steps"
        if steps == usual:
            length = ""
        return Training(
            agent,
            self.family,
            seed,
            max(1, round(steps * study.budget)),
            "-".join(part for part in (self.variant, length) if part),
            self.hyperparameters,
            None if self.start is None else self.start.training(seed, study),
            self.teacher.training(seed, study)
            if isinstance(self.teacher, Learner)
            else self.teacher,
            {**self.view, **draw},
            None if self.data is None else self.data.of_seed(seed, study),
        )

    def slug(self, seed: int) -> str:
        """Return the file name of its evaluation's record."""
        words = "".join(c if c.isalnum() else "-" for c in self.label.replace("²", "2").lower())
        return f"{'-'.join(part for part in words.split('-') if part)}-seed{seed}"


@dataclass(frozen=True, eq=False)
class EvalSpec:
    """An evaluation: some learners, and the tasks on which all of them are evaluated.

    Attributes:
        name: What it is called, and the report's split.
        family: The family; oracles see its tasks.
        learners: The learners.
        values: A grid: for each of these parameters its values, each with ``num_tasks`` tasks.
        split: The split that tasks, or the parameters that are not in the grid, are drawn from.
        num_tasks: How many tasks; with ``values``, how many for each of them.
        num_episodes: Adaptation episodes of each task.
        seed: The seed of everything.
        groups: The groups of tasks that tables and figures show separately: for each name a
            function from the tasks' columns to a mask. Empty: all tasks together.
        episodes_per_adaptation: How many episodes an agent sees before each adaptation, if all
            learners have that option, as MAML does; None takes each agent's.
        statistic: ``"iqm"`` or ``"mean"``, over tasks; None takes the family's.
        published: Curves of a paper to compare with the learners': for each label the return after
            0, 1, 2, ... adaptations.
    """

    name: str
    family: str
    learners: Sequence[Learner]
    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    split: str = "held_out"
    num_tasks: int = 100
    num_episodes: int = 2
    seed: int = 2
    groups: Mapping[str, Callable[[Columns], NDArray[np.bool_]]] = field(default_factory=dict)
    episodes_per_adaptation: int | None = None
    statistic: str | None = None
    published: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def total_tasks(self) -> int:
        """How many tasks there are."""
        return self.num_tasks * math.prod(map(len, self.values.values()))

    def overlap(self, family: TaskDistribution) -> str | None:
        """Return what must be said of its tasks where agents have trained on them."""
        return None if self.values else family.overlap(self.split)

    def part(self, report: Report, group: str) -> Report:
        """Return the report of a group of tasks; without groups that is all."""
        if not self.groups:
            return report
        return report.select(self.groups[group](report.tasks.columns))

    def tasks(self, family: TaskDistribution) -> Tasks:
        """Return the tasks."""
        grid = np.meshgrid(*self.values.values(), indexing="ij") if self.values else []
        drawn = family.sample(self.split, self.total_tasks, self.seed)
        columns = dict(drawn.columns)
        for parameter, values in zip(self.values, grid):
            columns[parameter] = np.repeat(values.ravel(), self.num_tasks)
        return Tasks(drawn.family, columns)


@dataclass(frozen=True, eq=False)
class Study:
    """A question, and the evaluations of learners that answer it.

    Attributes:
        name: Its name on the command line.
        question: The question, in one sentence.
        evaluations: The evaluations: different ones may have different learners and families.
        seeds: The seeds of training.
        total_timesteps: Env steps of each training; None takes each preset's.
        answer: The answer from the results: paragraphs, with names in backquotes. The first goes
            above the figures, the others below them. Its numbers are fields, which are filled in
            from the records (:mod:`metarl.experiments.studies.quantities`).
        caveats: The limitations of the results, a sentence each, likewise.
        quantities: Further quantities for these texts: for each name a function that returns a
            number for each seed.
        claims: What these texts claim without a number, and whether the records bear it out.
        title: The title of its page; empty takes the name.
        axis: The quantity in which learners differ, if it is a number with which their labels
            begin; it is the axis of another figure.
        budget: A factor on all env steps of training, for a rehearsal.
        source: What leads to it on the command line, as ``find_study`` takes it: its name, or
            ``module:attribute``.
    """

    name: str
    question: str
    evaluations: Sequence[EvalSpec]
    seeds: Sequence[int] = (0, 1)
    total_timesteps: int | None = None
    answer: str = ""
    caveats: Sequence[str] = ()
    quantities: Mapping[str, Callable[[Records], Iterable[float]]] = field(default_factory=dict)
    claims: Mapping[str, Callable[[Records], bool]] = field(default_factory=dict)
    title: str = ""
    axis: str = ""
    budget: float = 1.0
    source: str = ""

    @property
    def command(self) -> str:
        """The command that runs it."""
        return f"metarl study {shlex.quote(self.source or self.name)}"

    def scaled(self, budget: float) -> "Study":
        """Return the same study with another factor on the env steps of training."""
        return replace(self, budget=budget)
