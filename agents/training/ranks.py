"""The processes that train one agent together, each on its share of the trials or tasks.

``torchrun`` starts them, ``torch.distributed`` sums what they found: they are its default group.
All hold the same parameters and make the same updates; lanes, tasks and random numbers are those of
one process that does it all, in whatever process they are.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.distributed.rendezvous import rendezvous

from metarl.agents.common.trust_region import flatten, unflatten
from metarl.errors import InvalidValueError, RankError
from metarl.evaluation.adaptation import Rollout

TIMEOUT = timedelta(minutes=30)
"""The time that a process waits for the others."""


class Ranks:
    """One of the processes that train an agent together, and its communication with the others.

    Every method is called by all of them, in the same order. A process that is alone
    (:data:`ALONE`) gets back what it gave, to the bit.

    Args:
        rank: The number of this process.
        size: How many there are.
        local_rank: The number of this process on its machine.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0):
        self.rank = rank
        self.size = size
        self.local_rank = local_rank

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, the first, which alone writes and prints."""
        return self.rank == 0

    def shard(self, total: int, what: str) -> slice:
        """Return which of ``total`` things are this process's: equal parts, in rank order.

        Args:
            total: How many there are.
            what: What to call them in the error.

        Raises:
            ValueError: If they cannot be divided equally.
        """
        count, left = divmod(total, self.size)
        if left:
            raise InvalidValueError(
                f"{what} must be a multiple of the number of processes, {self.size}, so that "
                f"each has as many; got {total}"
            )
        return slice(self.rank * count, (self.rank + 1) * count)

    def device(self, device: torch.device | str) -> torch.device | str:
        """Return the device of this process: of several GPUs each process has its own."""
        wanted = str(device).partition(":")[0]
        if self.size == 1 or wanted == "cpu" or not torch.cuda.is_available():
            return device
        return f"cuda:{self.local_rank % torch.cuda.device_count()}"

    def total(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """Return the sums over all processes of tensors of one type, sent in one message."""
        if self.size == 1:
            return list(tensors)
        flat = flatten(tensors).detach()
        with _answering():
            dist.all_reduce(flat)
        return unflatten(flat, tensors)

    def mean(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """Return the means over all processes, which have equal shares."""
        if self.size == 1:
            return list(tensors)
        return [tensor / self.size for tensor in self.total(*tensors)]

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values of all processes, in rank order along the first dimension."""
        if self.size == 1:
            return values
        values = values.detach().contiguous()
        parts = [torch.empty_like(values) for _ in range(self.size)]
        with _answering():
            dist.all_gather(parts, values)
        return torch.cat(parts)

    def gather_array(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the arrays of all processes, in rank order along the first axis."""
        if self.size == 1:
            return values
        gathered = self.gather(torch.from_numpy(np.array(values, order="C").view(np.uint8)))
        return gathered.numpy().view(values.dtype)

    def all_reduce_status(self, outcome: int, steps: int) -> tuple[int, int]:
        """Return the largest outcome and the sum of the steps of all processes."""
        outcomes, taken = self.gather(torch.tensor([[outcome, steps]])).T
        return int(outcomes.max()), int(taken.sum())

    def gather_rollout(self, rollout: Rollout) -> Rollout:
        """Return the results of the environments of all processes."""
        gather, successes = self.gather_array, rollout.successes
        # All send the same messages: one process's environments may not report success.
        known = gather(np.array([successes is not None]))
        if successes is None:
            successes = np.zeros(rollout.returns.shape, dtype=np.bool_)
        return Rollout(
            gather(rollout.returns),
            gather(rollout.lengths),
            rollout.complete,
            gather(successes) if known.any() else None,
        )

    def broadcast(self, data: bytes) -> bytes:
        """Return the data of the main process; the others may give anything."""
        if self.size == 1:
            return data
        length = torch.tensor([len(data)])
        with _answering():
            dist.broadcast(length, 0)
            text = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else None
            if not self.is_main or text is None:
                text = torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(text, 0)
        return text.numpy().tobytes()


ALONE = Ranks()
"""A process that trains by itself."""


def current_ranks() -> Ranks:
    """Return the processes of ``torch.distributed``'s default group; alone where there is none."""
    if not (dist.is_available() and dist.is_initialized()):
        return ALONE
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    return Ranks(dist.get_rank(), dist.get_world_size(), local_rank)


@contextmanager
def init_distributed() -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` has started with this one; without it, be alone.

    Agents that are made inside are trained by all of them together, if they are ``divisible``.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    rank = int(os.environ["RANK"])
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    with _answering():
        store = next(rendezvous("env://"))[0]
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            # A restarted process must not find the addresses of those that are gone.
            store=dist.PrefixStore(f"attempt {attempt}", store),  # type: ignore[attr-defined]
            rank=rank,
            world_size=size,
            timeout=TIMEOUT,
        )
    try:
        yield current_ranks()
    finally:
        dist.destroy_process_group()
        # The group's thread ends a moment later; a process that exits before it does aborts, once
        # in fifteen times (PyTorch 2.13).
        time.sleep(0.3)


@contextmanager
def _answering() -> Iterator[None]:
    """Raise a clear error if another process is gone."""
    try:
        yield
    except RuntimeError as error:
        raise RankError(
            "another of the processes that train together has ended, or does not answer"
        ) from error
