"""Saving and loading agents: everything that training continues from, in one file."""

import copy
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar

import torch
from gymnasium import spaces

from metarl._version import __version__
from metarl.agents.training.checkpoint import (
    check_tensors,
    gather_tensors,
    load_checkpoint,
    save_checkpoint,
    with_suffix,
)
from metarl.agents.training.config import Config
from metarl.agents.training.interface import TaskInterface
from metarl.distribution import TaskDistribution
from metarl.entries import OBJECT, check_entries
from metarl.errors import InvalidTypeError, InvalidValueError, found_in
from metarl.evaluation.report import versions
from metarl.seeding import check_seed
from metarl.spaces import difference

SelfAgent = TypeVar("SelfAgent", bound="SavedAgent")
State: TypeAlias = tuple[dict[str, torch.Tensor], dict[str, Any]]
"""Tensors by name, and JSON-able data."""


def check_device(device: object) -> None:
    """Raise unless it is a device to compute on; without any GPU, the first may be named.

    Raises:
        TypeError: If it is neither a string nor a torch device.
        ValueError: If there is no such device.
    """
    expected = f"device must be 'auto', 'cpu', 'cuda' or a torch device of these, got {device!r}"
    if not isinstance(device, (str, torch.device)):
        raise InvalidTypeError(expected)
    try:
        given = torch.device("cpu" if device == "auto" else device)
    except RuntimeError:
        raise InvalidValueError(expected) from None
    count = {"cpu": 1, "cuda": max(1, torch.cuda.device_count())}.get(given.type, 0)
    if (given.index or 0) >= count:
        raise InvalidValueError(expected)


class SavedAgent(ABC):
    """The state of an agent that is saved, and how it is written and read.

    An agent that keeps more between iterations than modules, optimisers and counters, a buffer of
    trajectories for example, overrides ``extra_state`` and ``restore_extra_state``.

    Attributes:
        config: The hyperparameters, of the class ``config_class``.
        interface: What it knows of the family it was made for.
        seed: The seed of everything.
        iteration: How many iterations are complete.
        num_timesteps: How many env steps were taken; of an offline learner, gradient steps.
        modules: What is learned and measured, by names of the agent's own; filled by ``build``.
        optimizers: Of their parameters, likewise.
    """

    config_class: ClassVar[type[Config]]
    policy_config_class: ClassVar[type[Config] | None] = None
    """The allowed ``policy_kwargs``; None if SB3's policy validates them."""
    config: Config
    interface: TaskInterface
    seed: int
    iteration: int
    num_timesteps: int
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    _saved_timesteps: int
    modules: dict[str, torch.nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    _complete_state: State | None
    """While an iteration runs, the state before it; what it has changed so far is not saved."""
    _good_state: State | None
    """The state before the last update, which a training that has diverged returns to."""

    @abstractmethod
    def __init__(
        self,
        tasks: TaskDistribution | TaskInterface,
        *,
        seed: int | None = None,
        device: torch.device | str = "auto",
        verbose: int = 0,
        tensorboard_log: str | None = None,
        **hyperparameters: Any,
    ):
        """Make an untrained agent."""

    def extra_state(self) -> State:
        """Return what the state holds besides modules and optimisers; it must not be changed."""
        return {}, {}

    def restore_extra_state(
        self, tensors: Mapping[str, torch.Tensor], data: Mapping[str, Any]
    ) -> None:
        """Take over what :meth:`extra_state` gave.

        Raises:
            ValueError: If it does not fit; nothing is changed then.
        """
        for name in (*tensors, *data):
            raise InvalidValueError(f"it holds {name!r}, unknown to this agent")

    def training_only(self) -> tuple[str, ...]:
        """Return the parts of the state that acting does not need: the optimisers.

        ``extra`` is one of them where all tensors of ``extra_state`` are for training alone;
        ``restore_extra_state`` must then also take none.
        """
        return tuple(self.optimizers)

    def save(
        self,
        path: str | Path,
        *,
        with_optimizers: bool = True,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        """Write parameters, optimiser state and counters as of the last completed iteration.

        Args:
            path: The file; ``.safetensors`` is appended unless it ends so.
            with_optimizers: Whether the optimisers' state, two thirds of the file, and all else of
                ``training_only`` is written: what training needs to continue with the same bits,
                and evaluation does not.
            notes: JSON-able remarks on the agent, which the file holds besides.
        """
        tensors, data = self._complete_state or self._state()
        if not with_optimizers:
            tensors = self._without_training(tensors)
        state = {
            "metarl": __version__,
            "agent": type(self).__name__,
            "hyperparameters": self.hyperparameters,
            "seed": self.seed,
            "versions": versions(),
            **self.interface.to_json(),
            **data,
            **({"notes": dict(notes)} if notes else {}),
        }
        save_checkpoint(with_suffix(path), tensors, state)

    def _state(self) -> State:
        """Return all that training continues from: tensors by name, and JSON-able data.

        It is what ``save`` writes, what a failed iteration returns to, and what processes that
        train together start from.
        """
        more_tensors, extra = self.extra_state()
        tensors = gather_tensors(self.modules, self.optimizers)
        tensors |= {f"extra.{name}": tensor for name, tensor in more_tensors.items()}
        return tensors, {
            "iteration": self.iteration,
            "num_timesteps": self._saved_timesteps,
            "extra": extra,
        }

    def _restore_state(
        self, source: str, tensors: Mapping[str, torch.Tensor], data: Mapping[str, Any]
    ) -> None:
        """Take over what :meth:`_state` gave.

        Args:
            source: Where it comes from, for the messages.
            tensors: The tensors by name.
            data: The rest; other entries are left alone.

        Raises:
            ValueError: If it does not fit or is not finite; the agent is then as it was.
        """
        counters = [data.get("iteration"), data.get("num_timesteps")]
        if not all(type(counter) is int and counter >= 0 for counter in counters):
            raise InvalidValueError(f"{source} has damaged counters: {counters}")
        own = {name: t for name, t in tensors.items() if not name.startswith("extra.")}
        extra = {n.removeprefix("extra."): t.clone() for n, t in tensors.items() if n not in own}
        restore = check_tensors(source, own, self.modules, self.optimizers)
        with found_in(source):
            check_entries({"extra": {}, **data}, {"extra": OBJECT})
            for name, tensor in extra.items():
                if not torch.isfinite(tensor).all():
                    raise InvalidValueError(f"the tensor {name!r} is not finite")
            self.restore_extra_state(extra, copy.deepcopy(data.get("extra", {})))
        restore()
        self.iteration = int(data["iteration"])
        self.num_timesteps = self._saved_timesteps = int(data["num_timesteps"])

    @classmethod
    def load(
        cls: type[SelfAgent],
        path: str | Path,
        tasks: TaskDistribution | None = None,
        *,
        device: torch.device | str = "auto",
        verbose: int = 0,
        tensorboard_log: str | None = None,
        **hyperparameters: Any,
    ) -> SelfAgent:
        """Read an agent. Nothing in the file is executed.

        Args:
            path: What was given to ``save``.
            tasks: The family, with the spaces the agent was trained on. Without it the agent acts
                in any environment with these spaces, and cannot be trained.
            device: Where to put the parameters.
            verbose: As in the constructor.
            tensorboard_log: As in the constructor.
            hyperparameters: Values that replace the saved ones.

        Returns:
            The agent, ready to be evaluated or trained further.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged, holds another kind of agent, or does not fit.
        """
        path, tensors, state = cls._read(path)
        with found_in(f"{str(path)!r} has damaged hyperparameters"):
            check_entries(state, {"hyperparameters": OBJECT})
            config = cls.config_class.build({**state["hyperparameters"], **hyperparameters})
            check_seed(state.get("seed"))
        interface = None
        if tasks is None:
            with found_in(f"{str(path)!r} does not say what agents are made for; pass tasks"):
                interface = TaskInterface.from_json(state)
        check_device(device)
        with found_in(repr(str(path))):  # what only the agent can check, such as its policy_kwargs
            agent = cls(
                interface or tasks,  # type: ignore[arg-type]  # the constructor checks it
                **config.to_json(),
                seed=state["seed"],
                device=device,
                verbose=verbose,
                tensorboard_log=tensorboard_log,
            )
        agent._restore(path, tensors, state)
        agent._warn_of_other_simulator(path, state)
        return agent

    def restore(self, path: str | Path) -> dict[str, tuple[Any, Any]]:
        """Take over the parameters, optimiser state and counters of a saved agent.

        Seed, hyperparameters and tasks stay this agent's own.

        Args:
            path: What was given to ``save``.

        Returns:
            For ``seed``, ``tasks``, ``view`` and each hyperparameter in which the saved agent
            differs, its value and this agent's.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged or does not fit; the agent is then as it was.
        """
        path, tensors, state = self._read(path)
        self._restore(path, tensors, state)
        self._warn_of_other_simulator(path, state)
        saved = {name: state.get(name) for name in ("seed", "tasks")}
        saved["view"] = state.get("view", {})
        interface = self.interface
        own = {"seed": self.seed, "tasks": interface.name, "view": dict(interface.view)}
        hyperparameters = state.get("hyperparameters")
        if isinstance(hyperparameters, dict):
            # Hyperparameters added since it was saved have today's default.
            defaults, present = json.loads(  # tuples as lists
                json.dumps([self.config_class().to_json(), self.hyperparameters])
            )
            saved |= defaults | hyperparameters
            own |= present
        return {
            name: (saved.get(name), own.get(name))
            for name in dict.fromkeys((*own, *saved))
            if saved.get(name) != own.get(name)
        }

    def start_from(self, path: str | Path) -> None:
        """Start from the parameters of a saved agent instead of random ones.

        Counters stay at zero, and what is ``training_only`` is not taken over.

        Args:
            path: What was given to ``save``.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged or does not fit; the agent is then as it was.
        """
        path, tensors, state = self._read(path)
        learned = self._without_training(tensors)
        self._restore(path, learned, {**state, "iteration": 0, "num_timesteps": 0})

    def _without_training(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        parts = tuple(f"{part}." for part in self.training_only())
        return {name: tensor for name, tensor in tensors.items() if not name.startswith(parts)}

    @classmethod
    def _read(cls, path: str | Path) -> tuple[Path, dict[str, torch.Tensor], dict[str, Any]]:
        path = with_suffix(path)
        tensors, state = load_checkpoint(path)
        if state.get("agent") not in cls.reads():
            raise InvalidValueError(
                f"{str(path)!r} holds an agent of kind {state.get('agent')!r}, not {cls.__name__!r}"
            )
        return path, tensors, state

    @classmethod
    def reads(cls) -> tuple[str, ...]:
        """Return the kinds of agents that this one can continue from."""
        return (cls.__name__,)

    def _warn_of_other_simulator(self, path: Path, state: Mapping[str, Any]) -> None:
        """Warn if the agent was trained with another version of the simulator."""
        name, saved = self.interface.simulator, state.get("versions")
        if not name or not isinstance(saved, dict) or name not in saved:
            return  # early files lack it
        present = versions().get(name)
        if saved[name] != present:
            warnings.warn(
                f"{str(path)!r} was trained on {name} {saved[name]}, this is {name} {present}: "
                "returns may differ",
                stacklevel=3,
            )

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """All hyperparameters by name."""
        return self.config.to_json()

    @classmethod
    def hyperparameter_names(cls) -> list[str]:
        """Return the names of the keyword arguments that define the agent."""
        return cls.config_class.names()

    def _restore(
        self, path: Path, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]
    ) -> None:
        for space in ("observation_space", "action_space"):
            if differs := difference(state.get(space), getattr(self, space)):
                raise InvalidValueError(
                    f"{str(path)!r} was trained with another {space} than that of "
                    f"{self.interface.name!r}: {differs}"
                )
        self._restore_state(repr(str(path)), tensors, state)
        self._good_state = None  # the earlier state belongs to another training
