"""SB3 draws from global random streams; here they are seeded for a while, and put back."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def global_streams(seed: int) -> Iterator[None]:
    """Seed PyTorch's and NumPy's global streams; afterwards they are as they were.

    Args:
        seed: An integer of at least 0.
    """
    numpy_state, torch_state = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)
