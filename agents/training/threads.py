"""Pieces of a batch, side by side in threads.

The operations of small networks are too short for PyTorch to spread each over several cores. So
a batch is cut into pieces, each of which one thread takes through the network and back alone:
PyTorch lets go of the interpreter's lock inside its operations.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def parallel_map(function: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
    """Apply a function to every piece, in as many threads as PyTorch uses.

    Args:
        function: What to do. It runs with gradients enabled, whatever the caller's mode.
        pieces: The pieces.

    Returns:
        The results in the order of the pieces.
    """
    threads = min(torch.get_num_threads(), len(pieces))
    if threads > 1:
        return list(_pool(torch.get_num_threads()).map(function, pieces))
    with torch.enable_grad():
        return [function(piece) for piece in pieces]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Limit PyTorch to one thread inside a ``with`` block.

    Its idle threads spin for some milliseconds before they sleep, and would take the cores from a
    simulator whose turn it is.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


@functools.cache
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,))
