"""A family of tasks, declared as data: the tasks to train on and to evaluate on."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.errors import (
    InvalidTypeError,
    InvalidValueError,
    check_at_least,
    check_at_most,
    check_names,
    check_types,
)
from metarl.parameters import DISTRIBUTION, Parameter
from metarl.seeding import Seed, check_seed, stream
from metarl.splits import Independent, TaskSampler, TaskSet, num_shared
from metarl.tasks import Tasks
from metarl.tools import ToolUse
from metarl.vector.changing import (
    NEXT,
    ChangingTasks,
    ChangingVectorEnv,
    changing_parameters,
)
from metarl.vector.env import TaskVectorEnv
from metarl.vector.oracle import OracleVectorEnv
from metarl.views import View, label

MAX_TASKS = 10**7
"""The most tasks drawn at once. Larger values are almost certainly typos and would fill memory."""
MAX_ENVS = 10**6
"""How many sub-environments a batch may have."""
MAX_EPISODES = 10**6
"""How many episodes a trial may have."""
_MAX_ROUNDS = 64
"""How often :meth:`TaskDistribution.limited` draws; all of 10**7 tasks take about 20 rounds."""


@dataclass(frozen=True)
class TaskDistribution:
    """A family of tasks: its parameters, splits, environments and baselines.

    Every family has the splits ``train``, ``held_out`` (reported) and ``validation`` (for selecting
    agents and hyperparameters). By default ``train`` and ``held_out`` draw each parameter
    independently from its distribution in ``parameters``, and ``validation`` draws from the
    distribution of ``train``, all with separate random streams. That is enough for a continuum, in
    which no task is drawn twice. Divide finitely many tasks::

        every = TaskSet.product({"size": Choice(range(20)), "color": Choice(("red", "blue"))})
        seen, held_out = every.split(0.8, seed=0)
        train, validation = seen.split(0.8, seed=0)
        TaskDistribution(
            ..., splits={"train": train, "held_out": held_out, "validation": validation}
        )

    Without the second division the tasks of ``validation`` are those of ``train``, as in all finite
    families that come with metarl: they leave all tasks but the held-out ones to training.

    Attributes:
        name: The family's name.
        parameters: The distribution of each parameter.
        env_factory: Builds the batched environment: ``env_factory(num_envs, **options)``.
        splits: For each split a :class:`~metarl.splits.TaskSampler`, or the parameters whose
            distribution differs from ``parameters``. You may omit ``train``, ``held_out`` and
            ``validation``.
        shares_tasks: Declares that training and evaluation use the same tasks on purpose, as in
            the literature on families of very few tasks. Every report notes it.
        episodes_per_trial: How many episodes of one task a learner gets by default.
        statistic: How a report summarises returns over tasks: ``"iqm"``, or ``"mean"`` where
            single returns are binary and the interquartile mean would be degenerate.
        references: The names of the family's baselines, as :func:`metarl.agents.reference`
            accepts them.
        description: One line for ``metarl list``.
        varying_factor: What differs between tasks, in a word; ``metarl list`` groups by it.
        visible: The parameters that observations may show, as a map does. All others are hidden:
            :func:`metarl.check_tasks` looks for leaks.
        simulator: The package that simulates, if results depend on its version.
        view: Which view of the family it is: the options of :meth:`trained_on`, :meth:`limited`,
            :meth:`oracle` and :meth:`changing`, empty for the family itself (:mod:`metarl.views`).
        still: The family whose tasks change within a trial, where this one is its
            :meth:`changing` view.
        tools: Which tools its actions use on which things, where they do, for networks that make
            use of it.
        built_in: Whether it comes with metarl, so that presets find it by its name.

    Raises:
        TypeError: If ``splits`` is no mapping, or ``episodes_per_trial`` no integer.
        ValueError: If a split names an unknown parameter or lacks one.
    """

    name: str
    parameters: Mapping[str, Parameter]
    env_factory: Callable[..., TaskVectorEnv]
    splits: Mapping[str, TaskSampler | Mapping[str, Parameter]] = field(default_factory=dict)
    shares_tasks: bool = False
    episodes_per_trial: int = 1
    statistic: str = "iqm"
    references: tuple[str, ...] = ()
    description: str = ""
    varying_factor: str = "parameters"
    visible: tuple[str, ...] = ()
    simulator: str = ""
    view: View = field(default_factory=dict)
    built_in: bool = False
    still: "TaskDistribution | None" = None
    tools: ToolUse | None = None

    def __post_init__(self) -> None:
        check_types(str, "a string", name=self.name)
        check_types(Mapping, "a mapping from names to distributions", parameters=self.parameters)
        check_types(Parameter, DISTRIBUTION, **{str(n): p for n, p in self.parameters.items()})
        check_names(self.visible, self.parameters, "visible parameter")
        check_names([self.statistic], ["iqm", "mean"], "statistic")
        check_at_least(1, episodes_per_trial=self.episodes_per_trial)
        check_at_most(MAX_EPISODES, episodes_per_trial=self.episodes_per_trial)
        if not self.parameters:
            raise InvalidValueError("a family needs at least one parameter, got none")
        if not isinstance(self.splits, Mapping):
            raise InvalidTypeError(
                f"splits must map each name to its distribution, got {self.splits!r}; for example "
                "{'train': ..., 'held_out': ...}"
            )
        given: dict[str, TaskSampler | Mapping[str, Parameter]] = {"train": {}, "held_out": {}}
        distributions = {
            split: self._sampler(split, distribution)
            for split, distribution in {**given, **self.splits}.items()
        }
        distributions.setdefault("validation", distributions["train"])
        object.__setattr__(self, "splits", distributions)  # frozen after this

    def _sampler(
        self, split: str, distribution: TaskSampler | Mapping[str, Parameter]
    ) -> TaskSampler:
        if isinstance(distribution, TaskSampler):
            columns = getattr(
                distribution, "columns", getattr(distribution, "parameters", self.parameters)
            )
            if columns.keys() != self.parameters.keys():
                raise InvalidValueError(
                    f"split {split!r} has the parameters {sorted(columns)}, "
                    f"{self.name!r} has {sorted(self.parameters)}"
                )
            return distribution
        if not isinstance(distribution, Mapping):
            raise InvalidTypeError(
                f"split {split!r} must be a TaskSampler or a mapping of parameters, "
                f"got {distribution!r}"
            )
        check_names(distribution, self.parameters, f"parameter in split {split!r}:")
        return Independent({**self.parameters, **distribution})

    @property
    def label(self) -> str:
        """What tables call it: the name, with the view in brackets."""
        return label(self.name, self.view)

    def sampler(self, split: str) -> TaskSampler:
        """Return the distribution of a split.

        Raises:
            ValueError: If there is no such split.
        """
        check_names([split], self.splits, f"split of {self.name!r}:")
        distribution = self.splits[split]
        assert isinstance(distribution, TaskSampler)
        return distribution

    def num_tasks(self, split: str) -> int | None:
        """Return how many different tasks a split has, or None if they form a continuum."""
        return self.sampler(split).num_tasks

    def overlap(self, split: str) -> str | None:
        """Describe how the tasks of a split relate to those of ``train``, unless they are unseen.

        Returns:
            None if the split shares no task with ``train``, nor ``validation`` with ``held_out``;
            else one sentence for the report.
        """
        if split == "train":
            return "these are training tasks"
        distribution = self.sampler(split)
        count, shared = distribution.num_tasks, num_shared(distribution, self.sampler("train"))
        reported = num_shared(distribution, self.sampler("held_out"))
        if split == "validation" and reported:
            return (
                f"{reported:,} of the {count:,} tasks of validation are tasks of held_out: agents "
                "are selected on reported tasks"
            )
        if not shared or count is None:
            return None
        if count == 1:
            return f"{self.name} has a single task: it was seen in training"
        if self.shares_tasks and shared == count:
            return f"{self.name} is evaluated on its {count:,} training tasks"
        return (
            f"{shared:,} of the {count:,} tasks of {split} are tasks of train: "
            "some may have been seen in training"
        )

    def sample(self, split: str, num_tasks: int, seed: Seed) -> Tasks:
        """Draw tasks.

        Args:
            split: The name of the split.
            num_tasks: How many tasks.
            seed: The seed; the same seed gives the same tasks, and other splits give other tasks.

        Raises:
            TypeError: If ``num_tasks`` is no integer.
            ValueError: If there is no such split, or ``num_tasks`` is below 1 or above
                ``MAX_TASKS``.
        """
        distribution = self.sampler(split)
        check_at_least(1, num_tasks=num_tasks)
        check_at_most(MAX_TASKS, num_tasks=num_tasks)
        check_seed(seed)
        # The split names the stream, so in a continuum no two splits ever draw the same task.
        rng = np.random.default_rng(stream(seed, "tasks", split))
        return Tasks(self.name, distribution.sample(rng, num_tasks))

    def encode(self, tasks: Tasks) -> NDArray[np.float32]:
        """Return tasks as features of shape (num_tasks, num_features), in [-1, 1] on ``train``."""
        distributions = self.parameters
        return np.concatenate(
            [distributions[name].encode(tasks.columns[name]) for name in distributions], axis=1
        )

    def decode(self, features: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the parameters of encoded tasks, or of predictions of them, by column.

        Args:
            features: Of shape (num_tasks, num_features).

        Returns:
            For each parameter the closest values that there are, of shape (num_tasks, *shape);
            parameters that cannot tell (:meth:`Parameter.decode`) are left out.
        """
        ends = np.cumsum([*self.feature_sizes.values()])
        parts = zip(self.parameters.items(), np.split(features, ends[:-1], axis=1))
        decoded = {name: parameter.decode(part) for (name, parameter), part in parts}
        return {name: values for name, values in decoded.items() if values is not None}

    @property
    def task_size(self) -> int:
        """The length of an encoded task."""
        return sum(self.feature_sizes.values())

    @property
    def feature_sizes(self) -> dict[str, int]:
        """How many features of an encoded task each parameter has, in their order."""
        return {
            name: parameter.encode(np.asarray(parameter.default)[None]).shape[1]
            for name, parameter in self.parameters.items()
        }

    def make_vec(self, num_envs: int, **options: Any) -> TaskVectorEnv:
        """Build a batch of environments. Every sub-environment starts with the default task.

        Args:
            num_envs: The number of sub-environments.
            options: Passed to the environment, for example ``render_mode``.

        Raises:
            TypeError: If ``num_envs`` is no integer.
            ValueError: If ``num_envs`` is below 1 or above ``MAX_ENVS``.
        """
        check_at_least(1, num_envs=num_envs)
        check_at_most(MAX_ENVS, num_envs=num_envs)
        return self.env_factory(num_envs, **options)

    def limited(self, num_train_tasks: int, seed: int = 0) -> "TaskDistribution":
        """Return the same family with so many training tasks only, drawn from ``train``.

        Args:
            num_train_tasks: How many, all different. Of two numbers of tasks, the larger has the
                tasks of the smaller, where tasks have one parameter.
            seed: The seed of the draw.

        Raises:
            TypeError: If ``num_train_tasks`` or ``seed`` is no integer.
            ValueError: If ``num_train_tasks`` is below 1 or above ``MAX_TASKS``, ``seed`` is
                negative, or ``train`` has fewer different tasks.
        """
        check_at_least(0, train_tasks_seed=seed)
        check_at_least(1, num_train_tasks=num_train_tasks)
        check_at_most(MAX_TASKS, num_train_tasks=num_train_tasks)
        distribution, count = self.sampler("train"), self.num_tasks("train")
        if count is not None:
            check_at_most(count, num_train_tasks=num_train_tasks)
        # A TaskSet repeats no task, nor does a continuum. Of other finite families so many draws
        # give nearly all tasks, and the same few whatever num_train_tasks is.
        draws = num_train_tasks
        if count is not None and not isinstance(distribution, TaskSet) and 20 * count <= MAX_TASKS:
            draws = 20 * count
        rng = np.random.default_rng(stream(seed, "tasks", "train"))
        columns = distribution.sample(rng, draws)
        for _ in range(_MAX_ROUNDS):
            drawn = Tasks(self.name, columns)
            _, first = np.unique(drawn.group_ids(), return_index=True)
            chosen = drawn[np.sort(first)[:num_train_tasks]]
            if len(chosen) == num_train_tasks:
                break
            more = distribution.sample(rng, draws)
            columns = {n: np.concatenate([col, more[n]]) for n, col in chosen.columns.items()}
        else:
            raise InvalidValueError(
                f"num_train_tasks={num_train_tasks:,}, but train of {self.name!r} gave only "
                f"{len(chosen):,} different tasks in {_MAX_ROUNDS * draws:,} draws; ask for fewer"
            )
        splits = {**self.splits, "train": TaskSet(chosen.columns)}
        is_default = splits["validation"] is distribution
        if is_default and isinstance(distribution, TaskSet) and num_train_tasks < len(distribution):
            splits["validation"] = distribution.without(chosen.columns)  # what training leaves
        drawn_by = {"train_tasks_seed": seed} if seed else {}
        view = {**self.view, "num_train_tasks": num_train_tasks, **drawn_by}
        return replace(self, splits=splits, view=view)

    def trained_on(self, split: str) -> "TaskDistribution":
        """Return the same family with another split as training tasks: for a specialist.

        A specialist's return on its own split is the upper reference for agents not trained on it.

        Args:
            split: The name of the split.

        Raises:
            ValueError: If there is no such split.
        """
        distribution = self.sampler(split)
        if split == "train":
            return self
        kept = {name: option for name, option in self.view.items() if "train_tasks" not in name}
        return replace(
            self,
            splits={**self.splits, "train": distribution, "validation": distribution},
            view={**kept, "train_split": split},
        )

    def oracle(self) -> "TaskDistribution":
        """Return the same family with the task appended to the observation: the oracle's view."""
        if self.view.get("oracle"):
            return self
        # No closure: worker processes get factories by pickle.
        factory: Callable[..., TaskVectorEnv] = functools.partial(_make_oracle, self)
        if self.still is not None:  # what it sees is the task of the moment
            factory = functools.partial(_make_changing, self.still.oracle())
        return replace(
            self,
            env_factory=factory,
            references=(),
            view={**self.view, "oracle": True},
        )

    def changing(
        self, pairs: Callable[[TaskSampler], TaskSampler] = ChangingTasks
    ) -> "TaskDistribution":
        """Return the same family with tasks that each become another one within the trial.

        A task has the parameters of both, and ``change_at``, the share of the trial after which it
        changes; see :class:`metarl.vector.changing.ChangingVectorEnv`. Observations do not show it.

        Args:
            pairs: Makes the distribution of such tasks of one of single tasks.
        """
        if self.still is not None:
            return self
        return replace(
            self,
            parameters=changing_parameters(self.parameters),
            splits={name: pairs(self.sampler(name)) for name in self.splits},
            env_factory=functools.partial(_make_changing, self),
            visible=(*self.visible, *(NEXT + name for name in self.visible)),
            references=(),
            view={**self.view, "changing": True},
            still=self,
        )


def _make_changing(tasks: TaskDistribution, num_envs: int, **options: Any) -> ChangingVectorEnv:
    return ChangingVectorEnv(tasks.make_vec(num_envs, **options), tasks.episodes_per_trial)


def _make_oracle(tasks: TaskDistribution, num_envs: int, **options: Any) -> OracleVectorEnv:
    return OracleVectorEnv(tasks.make_vec(num_envs, **options), tasks.encode)
