"""Graphs of trained agents as ONNX files."""

import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from metarl._version import __version__
from metarl.agents.common.graph import PolicyGraph
from metarl.errors import InvalidValueError, MissingPackageError
from metarl.files import as_path, atomic_write

OPSET = 17
"""The version of ONNX's operators, which all runtimes of the last years have."""


def write_onnx(path: str | Path, graph: PolicyGraph, about: Mapping[str, Any]) -> None:
    """Write a graph as an ONNX file, with a JSON description under the key ``metarl``.

    Args:
        path: The file, which must end in ``.onnx``.
        graph: The graph.
        about: What the description says of the agent.

    Raises:
        ImportError: If ``onnx`` is not installed.
        ValueError: If the file has another ending.
    """
    path = as_path(path)
    if path.suffix != ".onnx":
        raise InvalidValueError(f"expected a file that ends in .onnx, got {str(path)!r}")
    try:
        import onnx
    except ImportError:
        raise MissingPackageError(
            "ONNX files need the package onnx: pip install 'metarl-suite[export]'"
        ) from None
    inputs, file = graph.inputs, io.BytesIO()
    grows = {name: {0: "slots"} for name, _, grows in inputs if grows}
    # Zero slots would be a constant in the trace.
    examples = [each.start[None][0] if not each.grows else _one_slot(each.start) for each in inputs]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # this exporter is the old one, and it warns of constants
        torch.onnx.export(
            graph.to("cpu").eval(),
            tuple(examples),
            file,  # type: ignore[arg-type]  # this exporter takes it
            input_names=[each.name for each in inputs],
            output_names=graph.outputs,
            dynamic_axes={**grows, **{f"next_{name}": axes for name, axes in grows.items()}},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_model_from_string(file.getvalue())
    description = {
        "metarl": __version__,
        **about,
        "inputs": {
            name: {"shape": list(start.shape), "dtype": str(start.dtype).removeprefix("torch.")}
            for name, start, _ in inputs
        },
        "outputs": graph.outputs,
        "state": [each.name for each in graph.state],
    }
    onnx.helper.set_model_props(model, {"metarl": json.dumps(description)})
    atomic_write(path, model.SerializeToString())


def _one_slot(start: torch.Tensor) -> torch.Tensor:
    return start.new_zeros(1, *start.shape[1:])
