"""All memories by name; :func:`register_memory` adds one."""

from metarl.agents.common.memory.contract import Memory
from metarl.agents.common.memory.episodic import Episodic
from metarl.agents.common.memory.linear import Linear
from metarl.agents.common.memory.none import NoMemory
from metarl.agents.common.memory.recurrent import GRU, LSTM
from metarl.agents.common.memory.transformer import Transformer
from metarl.errors import InvalidTypeError, InvalidValueError

MEMORIES: dict[str, type[Memory]] = {
    "gru": GRU,
    "lstm": LSTM,
    "episodic": Episodic,
    "transformer": Transformer,
    "linear": Linear,
    "none": NoMemory,
}
"""The memories, by the names that ``policy_kwargs={"memory": NAME}`` takes."""


def register_memory(name: str, memory_class: type[Memory]) -> None:
    """Add a memory, so that ``policy_kwargs={"memory": name}`` builds it.

    Call it in the module that defines the memory. A process knows the memory once it has imported
    that module, as it does for a family that the same module defines.

    Args:
        name: The name.
        memory_class: The class.

    Raises:
        TypeError: If it is no subclass of :class:`Memory`.
        ValueError: If another class has that name.
    """
    if not (isinstance(memory_class, type) and issubclass(memory_class, Memory)):
        raise InvalidTypeError(
            f"memory {name!r} must be a subclass of metarl.agents.Memory, got {memory_class!r}"
        )
    known = MEMORIES.get(name, memory_class)
    # A module that is imported again, or a cell of a notebook that is run again, replaces its own.
    if (known.__module__, known.__qualname__) != (
        memory_class.__module__,
        memory_class.__qualname__,
    ):
        raise InvalidValueError(
            f"memory {name!r} is {known.__module__}.{known.__qualname__} already; "
            f"register {memory_class.__qualname__} by another name"
        )
    MEMORIES[name] = memory_class
