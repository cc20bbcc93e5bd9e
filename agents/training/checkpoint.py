"""Checkpoints: tensors in safetensors, everything else as JSON in its header, one atomic file.

Loading one parses numbers and text and never runs code. A checksum over both detects damaged files.
"""

import copy
import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from metarl.entries import parse_json
from metarl.errors import InvalidValueError
from metarl.files import as_path, atomic_write

Modules = Mapping[str, torch.nn.Module]
Optimizers = Mapping[str, torch.optim.Optimizer]
Tensors = Mapping[str, torch.Tensor]

SUFFIX = ".safetensors"
FORMAT = 3
"""Counts changes of the format. Files of format 2, which have no checksum, are read too."""

_KEY = "metarl"


def save_checkpoint(path: str | Path, tensors: Tensors, state: Mapping[str, Any]) -> None:
    """Write tensors and a JSON-able state as one file, atomically.

    Args:
        path: The file to write.
        tensors: Named tensors.
        state: Everything else.
    """
    # Copies, as one tensor may go by two names, which safetensors refuses.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    state = {"format": FORMAT, **state}
    text = json.dumps({"sha256": checksum(plain, state), **state})
    atomic_write(path, save(plain, metadata={_KEY: text}))


def load_checkpoint(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a file written by :func:`save_checkpoint`.

    Returns:
        The tensors, on the CPU, and the state.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, not a checkpoint of metarl, or of another format.
    """
    path = as_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {str(path)!r}")
    data = path.read_bytes()
    try:
        tensors = load(data)
        (header_size,) = struct.unpack("<Q", data[:8])
        state = parse_json(parse_json(data[8 : 8 + header_size])["__metadata__"][_KEY])
    except (SafetensorError, struct.error, ValueError, KeyError, TypeError) as error:
        raise InvalidValueError(
            f"{str(path)!r} is not a metarl checkpoint, or it is damaged "
            f"({type(error).__name__}: {error})"
        ) from None
    if not isinstance(state, dict):
        raise InvalidValueError(
            f"{str(path)!r} is not a metarl checkpoint: its state is not a JSON object"
        )
    saved = state.pop("sha256", None)
    if state.get("format") not in (2, FORMAT):
        raise InvalidValueError(
            f"{str(path)!r} has format {state.get('format')!r} and this version of metarl reads "
            f"format {FORMAT}; it was written by metarl {state.get('metarl', 'unknown')}: "
            "install that version to use it"
        )
    if (saved, state["format"]) != (None, 2) and saved != checksum(tensors, state):
        raise InvalidValueError(
            f"{str(path)!r} is damaged: its content does not match its checksum; use a copy of it, "
            "or train again"
        )
    return tensors, state


def checksum(tensors: Tensors, state: Mapping[str, Any]) -> str:
    """Return a checksum of tensors on the CPU and a JSON-able state."""
    digest = hashlib.sha256(json.dumps(state).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def with_suffix(path: str | Path) -> Path:
    """Append ``.safetensors`` unless the name ends so."""
    path = as_path(path)
    if not path.name:
        raise InvalidValueError(f"expected the name of a file, got the folder {str(path)!r}")
    if path.suffix == ".zip":  # what SB3's callbacks call a checkpoint
        path = path.with_suffix("")
    return path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)


def gather_tensors(modules: Modules, optimizers: Optimizers) -> dict[str, torch.Tensor]:
    """Return all parameters, buffers and optimiser slots, named ``module.name``."""
    tensors = _module_tensors(modules)
    for name, optimizer in optimizers.items():
        tensors |= _slot_tensors(name, optimizer)
    return tensors


def check_tensors(
    path: str, tensors: Tensors, modules: Modules, optimizers: Optimizers
) -> Callable[[], None]:
    """Check tensors, before anything is changed.

    Args:
        path: Where they come from, for the messages.
        tensors: The tensors by name.
        modules: What to fill.
        optimizers: What to fill, of any class whose state is tensors.

    Returns:
        A function that puts the tensors back where :func:`gather_tensors` found them.

    Raises:
        ValueError: If a tensor is missing or unknown, has another shape or type, or is not finite.
    """
    expected = _module_tensors(modules)
    slots = {name: _slots_after_a_step(name, each) for name, each in optimizers.items()}
    for own in slots.values():
        # A parameter that had no gradient yet has no slots; one that has some must have all.
        for of_parameter in own.values():
            if not of_parameter.keys().isdisjoint(tensors):
                expected |= of_parameter
    for name, like in expected.items():
        if name not in tensors:
            raise InvalidValueError(f"{path} lacks the tensor {name!r}")
        got = tensors[name]
        if got.shape != like.shape or got.dtype != like.dtype:
            raise InvalidValueError(
                f"{path}: the tensor {name!r} has shape {tuple(got.shape)} of {got.dtype}, "
                f"expected {tuple(like.shape)} of {like.dtype}"
            )
        if not torch.isfinite(got).all():
            raise InvalidValueError(f"{path}: the tensor {name!r} is not finite")
    unknown = sorted(tensors.keys() - expected.keys())
    if unknown:
        raise InvalidValueError(f"{path} holds the tensor {unknown[0]!r}, unknown to this agent")

    def restore() -> None:
        for module_name, module in modules.items():
            names = module.state_dict().keys()
            module.load_state_dict({name: tensors[f"{module_name}.{name}"] for name in names})
        for name, optimizer in optimizers.items():
            state = {
                index: {slot.rpartition(".")[2]: tensors[slot] for slot in of_parameter}
                for index, of_parameter in slots[name].items()
                if of_parameter.keys() <= expected.keys()
            }
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})

    return restore


def _module_tensors(modules: Modules) -> dict[str, torch.Tensor]:
    return {
        f"{module_name}.{name}": tensor
        for module_name, module in modules.items()
        for name, tensor in module.state_dict().items()
    }


def _slot_tensors(optimizer_name: str, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{optimizer_name}.{index}.{slot}": value
        for index, slots in optimizer.state_dict()["state"].items()
        for slot, value in slots.items()
    }


def _slots_after_a_step(
    optimizer_name: str, optimizer: torch.optim.Optimizer
) -> dict[int, dict[str, torch.Tensor]]:
    """Return what the slots of each parameter look like, once it had a gradient."""
    twin = copy.deepcopy(optimizer)
    parameters = [parameter for group in twin.param_groups for parameter in group["params"]]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    twin.step()
    tensors = _slot_tensors(optimizer_name, twin)
    return {
        index: {n: t for n, t in tensors.items() if n.startswith(f"{optimizer_name}.{index}.")}
        for index in range(len(parameters))
    }
