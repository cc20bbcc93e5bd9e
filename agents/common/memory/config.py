"""The part of ``policy_kwargs`` that chooses a memory."""

from dataclasses import dataclass
from typing import Any

from metarl.agents.common.memory.registry import MEMORIES
from metarl.agents.training.config import Config, Width
from metarl.errors import check_names


@dataclass(frozen=True)
class MemoryConfig(Config):
    """Which memory a network has; the ``policy_kwargs`` of agents are derived from it."""

    hidden_size: Width = 128
    """The number of units of the memory."""
    memory: str = "gru"
    """The memory: ``gru``, ``lstm``, ``linear`` (a linear recurrence, cheaper than a GRU on long
    trials), ``episodic`` (a GRU that also recalls earlier steps by their look), ``transformer``,
    ``none`` (a control that sees the present observation alone), or one that
    :func:`metarl.agents.register_memory` has added."""
    memory_kwargs: dict[str, Any] | None = None
    """The memory's own options; those of ``episodic`` are
    :class:`metarl.agents.common.memory.episodic.EpisodicConfig`, those of ``linear``
    :class:`metarl.agents.common.memory.linear.LinearConfig`, those of ``transformer``
    :class:`metarl.agents.common.memory.transformer.TransformerConfig`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names([self.memory], MEMORIES, "memory")
        self.memory_config()  # raises if there is no such option

    def memory_config(self) -> Config:
        """Return the memory's own options."""
        options = MEMORIES[self.memory].config_class
        return options.build(self.memory_kwargs or {}, f"memory_kwargs name of {self.memory!r}:")

    @classmethod
    def nested(cls) -> dict[str, type[Config]]:
        return {
            f"memory_kwargs of {name}": memory.config_class
            for name, memory in MEMORIES.items()
            if memory.config_class.names()
        }
