"""Actions that use tools on things, such as potions on stones: where an observation shows both."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from metarl.errors import InvalidValueError


@dataclass(frozen=True)
class ToolUse:
    """What the actions of a family are about.

    Each action uses one of the tools that an observation shows on one of the things that it shows.
    Things are described by some numbers each, tools by one: their kind. What a kind of tool does is
    the same for all tools of that kind, and may depend on the task. A network that knows this
    learns it once, not for each thing, each tool and each action
    (``policy_kwargs={"tool_use": ...}``).

    Attributes:
        things: The entries of an observation that describe each thing.
        looks: For each of these entries the values that it takes. A thing with none of them is
            absent, and actions on it are impossible.
        tools: The entry of an observation that shows the kind of each tool.
        kinds: The values that it takes. A tool with none of them is absent.
        actions: For each action its thing and its tool; -1 is none.

    Raises:
        ValueError: If the parts do not fit together.
    """

    things: tuple[tuple[int, ...], ...]
    looks: tuple[tuple[float, ...], ...]
    tools: tuple[int, ...]
    kinds: tuple[float, ...]
    actions: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if any(len(thing) != len(self.looks) for thing in self.things):
            raise InvalidValueError(
                f"each thing must have {len(self.looks)} entries, one for each of the looks, got "
                f"{self.things!r}"
            )
        for thing, tool in self.actions:
            if not (-1 <= thing < len(self.things) and -1 <= tool < len(self.tools)):
                raise InvalidValueError(
                    f"an action names a thing below {len(self.things)} and a tool below "
                    f"{len(self.tools)}, or -1 for none, got {(thing, tool)}"
                )

    def check_fits(self, observation_size: int, num_actions: int) -> None:
        """Raise unless observations have all entries, and there are as many actions.

        Raises:
            ValueError: If they do not fit.
        """
        last = max(*self.tools, *(entry for thing in self.things for entry in thing))
        if last >= observation_size or len(self.actions) != num_actions:
            raise InvalidValueError(
                f"tool use describes {len(self.actions)} actions and observations of at least "
                f"{last + 1} numbers, got {num_actions} actions and {observation_size} numbers"
            )

    def to_json(self) -> dict[str, Any]:
        """Return it as entries of a saved file."""
        return asdict(self)

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> "ToolUse":
        """Return what :meth:`to_json` gave.

        Raises:
            ValueError: If it is damaged.
        """

        def frozen(value: Any) -> Any:
            return tuple(map(frozen, value)) if isinstance(value, list | tuple) else value

        try:
            return cls(**{part.name: frozen(entries[part.name]) for part in fields(cls)})
        except (KeyError, TypeError):
            raise InvalidValueError("tools must be the parts of a ToolUse") from None
