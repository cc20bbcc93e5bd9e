"""Checkpoints: tensors in safetensors, everything else as JSON in its header, one atomic file.

Loading one parses numbers and text and never runs code.
"""

import json
import os
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

_KEY = "metarl"


def atomic_write(path: str | Path, data: bytes | str) -> None:
    """Write a file so that a reader or a crash at any moment finds the old one or the new one.

    Args:
        path: Where to write. Missing parent folders are made.
        data: The content; text is written as UTF-8.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def save_checkpoint(
    path: str | Path, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]
) -> None:
    """Write tensors and a JSON-able state as one file, atomically.

    Args:
        path: The file to write.
        tensors: Named tensors.
        state: Everything else.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    atomic_write(path, save(plain, metadata={_KEY: json.dumps(state)}))


def load_checkpoint(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what :func:`save_checkpoint` wrote.

    Returns:
        The tensors, on the CPU, and the state.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is truncated, or not a checkpoint of metarl.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {str(path)!r}")
    data = path.read_bytes()
    try:
        tensors = load(data)
        (header_size,) = struct.unpack("<Q", data[:8])
        state = json.loads(json.loads(data[8 : 8 + header_size])["__metadata__"][_KEY])
    except (SafetensorError, struct.error, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{str(path)!r} is not a metarl checkpoint, or it is damaged "
            f"({type(error).__name__}: {error})"
        ) from None
    if not isinstance(state, dict):
        raise ValueError(f"{str(path)!r} is not a metarl checkpoint: its state is no JSON object")
    return tensors, state
