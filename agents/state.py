"""The tensors of modules and optimisers under one set of names, for checkpoints."""

from collections.abc import Mapping

import torch

Modules = Mapping[str, torch.nn.Module]
Optimizers = Mapping[str, torch.optim.Adam]

_ADAM_SLOTS = {"step", "exp_avg", "exp_avg_sq"}


def gather_tensors(modules: Modules, optimizers: Optimizers) -> dict[str, torch.Tensor]:
    """Return all parameters, buffers and optimiser moments, named ``module.name``."""
    tensors = _module_tensors(modules)
    for optimizer_name, optimizer in optimizers.items():
        for index, slots in optimizer.state_dict()["state"].items():
            for slot, value in slots.items():
                tensors[f"{optimizer_name}.{index}.{slot}"] = value
    return tensors


def restore_tensors(
    path: str, tensors: Mapping[str, torch.Tensor], modules: Modules, optimizers: Optimizers
) -> None:
    """Put tensors back where :func:`gather_tensors` found them.

    All is checked before anything is changed.

    Args:
        path: Where they come from, for the messages.
        tensors: The tensors by name.
        modules: What to fill.
        optimizers: What to fill.

    Raises:
        ValueError: If a tensor is missing or unknown, or has another shape or type.
    """
    expected = _module_tensors(modules)
    for name in optimizers:
        expected |= _expected_slots(name, optimizers[name], tensors)
    for name, like in expected.items():
        if name not in tensors:
            raise ValueError(f"{path} lacks the tensor {name!r}")
        got = tensors[name]
        if got.shape != like.shape or got.dtype != like.dtype:
            raise ValueError(
                f"{path}: the tensor {name!r} has shape {tuple(got.shape)} of {got.dtype}, "
                f"expected {tuple(like.shape)} of {like.dtype}"
            )
    unknown = sorted(tensors.keys() - expected.keys())
    if unknown:
        raise ValueError(f"{path} holds the tensor {unknown[0]!r}, which this agent has not")
    for module_name, module in modules.items():
        names = module.state_dict().keys()
        module.load_state_dict({name: tensors[f"{module_name}.{name}"] for name in names})
    for optimizer_name, optimizer in optimizers.items():
        state: dict[int, dict[str, torch.Tensor]] = {}
        for index in range(len(_parameters(optimizer))):
            prefix = f"{optimizer_name}.{index}."
            if f"{prefix}step" in tensors:
                state[index] = {slot: tensors[prefix + slot] for slot in sorted(_ADAM_SLOTS)}
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _module_tensors(modules: Modules) -> dict[str, torch.Tensor]:
    return {
        f"{module_name}.{name}": tensor
        for module_name, module in modules.items()
        for name, tensor in module.state_dict().items()
    }


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _expected_slots(
    optimizer_name: str, optimizer: torch.optim.Adam, tensors: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return what the moments must look like; a parameter without a gradient yet has none."""
    expected: dict[str, torch.Tensor] = {}
    for index, parameter in enumerate(_parameters(optimizer)):
        prefix = f"{optimizer_name}.{index}."
        if any(prefix + slot in tensors for slot in _ADAM_SLOTS):
            expected[prefix + "step"] = torch.zeros(())
            expected[prefix + "exp_avg"] = expected[prefix + "exp_avg_sq"] = parameter.detach()
    return expected
