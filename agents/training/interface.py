"""The interface between an agent and its family: all that a network is built for, as data."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from gymnasium import spaces

from metarl.distribution import TaskDistribution
from metarl.entries import COUNT, OBJECT, STRING, check_entries, optional
from metarl.errors import InvalidValueError
from metarl.spaces import from_json, to_json
from metarl.tools import ToolUse
from metarl.views import VIEW


@dataclass(frozen=True)
class TaskInterface:
    """What an agent knows of its family. Saved files hold it, so they are enough to act.

    Attributes:
        name: The family's name.
        view: Which view of the family it is.
        simulator: The package that simulates, if results depend on its version.
        observation_space: The space of one observation.
        action_space: The space of one action.
        horizon: The most steps of an episode.
        episodes_per_trial: How many episodes of one task a learner gets by default.
        features: Of each parameter, how many features of an encoded task it has, and the size of
            its one-hot blocks, or None for numbers.
        tools: Which tools its actions use on which things, where they do.
    """

    name: str
    view: Mapping[str, Any]
    simulator: str
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    horizon: int
    episodes_per_trial: int
    features: Mapping[str, tuple[int, int | None]]
    tools: ToolUse | None = None

    @property
    def task_size(self) -> int:
        """The length of an encoded task."""
        return sum(size for size, _ in self.features.values())

    @classmethod
    def of(cls, tasks: TaskDistribution) -> "TaskInterface":
        """Return the interface of a family."""
        with closing(tasks.make_vec(1)) as env:
            return cls(
                tasks.name,
                tasks.view,
                tasks.simulator,
                env.single_observation_space,
                env.single_action_space,
                env.horizon,
                tasks.episodes_per_trial,
                {
                    name: (size, tasks.parameters[name].one_hot_size)
                    for name, size in tasks.feature_sizes.items()
                },
                tasks.tools,
            )

    def to_json(self) -> dict[str, Any]:
        """Return it as entries of a saved file."""
        return {
            "tasks": self.name,
            **({"view": dict(self.view)} if self.view else {}),
            **({"simulator": self.simulator} if self.simulator else {}),
            "observation_space": to_json(self.observation_space),
            "action_space": to_json(self.action_space),
            "horizon": self.horizon,
            "episodes_per_trial": self.episodes_per_trial,
            "task_features": {name: list(sizes) for name, sizes in self.features.items()},
            **({"tools": self.tools.to_json()} if self.tools else {}),
        }

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> "TaskInterface":
        """Return what :meth:`to_json` gave.

        Raises:
            ValueError: If an entry is missing or damaged.
        """
        rules = {
            "tasks": STRING,
            "view": optional(VIEW),
            "simulator": optional(STRING),
            "observation_space": OBJECT,
            "action_space": OBJECT,
            "horizon": COUNT,
            "episodes_per_trial": COUNT,
            "task_features": OBJECT,
            "tools": optional(OBJECT),
        }
        check_entries(entries, rules)
        try:
            features = {name: (int(n), k) for name, (n, k) in entries["task_features"].items()}
        except (TypeError, ValueError):
            raise InvalidValueError("task_features must be pairs of sizes") from None
        return cls(
            entries["tasks"],
            entries.get("view") or {},
            entries.get("simulator") or "",
            from_json(entries["observation_space"]),
            from_json(entries["action_space"]),
            entries["horizon"],
            entries["episodes_per_trial"],
            features,
            ToolUse.from_json(entries["tools"]) if entries.get("tools") else None,
        )
