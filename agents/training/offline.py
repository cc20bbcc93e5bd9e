"""Learners from stored data: gradient steps on batches, and no environment until they act."""

import functools
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from metarl.agents.training.callbacks import MaybeCallback
from metarl.agents.training.config import Config, Count
from metarl.agents.training.learner import Learner
from metarl.data import Histories
from metarl.errors import InvalidValueError, check_at_least
from metarl.seeding import stream
from metarl.spaces import difference

SelfOffline = TypeVar("SelfOffline", bound="OfflineLearner[Any]")
Batch = TypeVar("Batch")
BatchOut = TypeVar("BatchOut", covariant=True)


class Data(Protocol[BatchOut]):
    """What an offline learner learns from: examples by number, read as batches."""

    def __len__(self) -> int:
        """Return the number of examples."""

    def batch(self, indices: NDArray[np.int64]) -> BatchOut:
        """Return the examples of these numbers, as ``update`` takes them."""


@dataclass(frozen=True)
class OfflineConfig(Config):
    """The hyperparameters of every offline learner."""

    batch_size: Count = 256
    """Examples in each gradient step."""


class OfflineLearner(Learner, Generic[Batch]):
    """A learner whose steps are gradient steps on batches of stored data.

    An agent implements ``build``, ``update`` and ``adaptation``, and where whole histories are not
    its examples, ``examples``. Its family is what it acts in once it has learned, and gives the
    spaces.

    Batch i depends on the seed, i, the batch size and the number of examples alone: training that
    is resumed with the same data ends in the same bits. Every example comes once in each pass over
    the data; a pass may end, and the next begin, inside a batch.
    """

    unit = "gradient steps"
    steps_per_iteration: ClassVar[int] = 100
    """Gradient steps between two entries of the log, checks of finite numbers, and states that a
    step that fails is rolled back to."""
    config: OfflineConfig

    @abstractmethod
    def update(self, batch: Batch) -> None:
        """Make one gradient step, and record to ``self.logger`` (``record_mean``)."""

    def examples(self, histories: Histories) -> Data[Batch]:
        """Return histories as the examples that ``update`` takes batches of.

        Here an example is a whole history, and a batch is a :class:`metarl.data.Batch`.
        """
        # A learner whose batches are of another kind has examples of its own.
        return cast("Data[Batch]", histories.windows(histories.info["num_episodes"]))

    def prepare(self, data: Data[Batch] | Histories) -> Data[Batch]:
        """Return what ``learn`` learns from: the examples of histories, or other data as they are.

        Raises:
            ValueError: If histories have other spaces than the family, or there is no example.
        """
        if isinstance(data, Histories):
            for name in ("observation_space", "action_space"):
                if differs := difference(data.info[name], getattr(self, name)):
                    raise InvalidValueError(
                        f"the histories were recorded in {data.info['family']!r}, whose {name} is "
                        f"not that of {self.tasks.label}: {differs}; record them where the agent "
                        "is to act"
                    )
            examples = self.examples(data)
        else:
            examples = data
        if not len(examples):
            raise InvalidValueError("data must hold at least one example, got none")
        return examples

    @property
    def num_gradient_steps(self) -> int:
        """How many gradient steps were made; the same as ``num_timesteps``."""
        return self.num_timesteps

    @property
    def _moment(self) -> int:
        return self.num_timesteps

    def learn(
        self: SelfOffline,
        data: Data[Batch] | Histories,
        total_gradient_steps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfOffline:
        """Train on stored data.

        Args:
            data: The examples; or histories, whose ``examples`` it learns from.
            total_gradient_steps: How many gradient steps to make.
            callback: SB3 callbacks; a step is a gradient step, a rollout is an iteration.
            log_interval: How many iterations, of ``steps_per_iteration``, there are between two
                entries of the log.
            tb_log_name: The run's name in TensorBoard; the agent's name if None.
            reset_num_timesteps: Whether to count gradient steps from zero again.
            progress_bar: Show a progress bar with speed and time left.

        Returns:
            The agent.

        Raises:
            TypeError: If a number is no integer.
            ValueError: If one is below 1, there are no data, or histories have other spaces.
        """
        check_at_least(1, total_gradient_steps=total_gradient_steps, log_interval=log_interval)
        self._data = self.prepare(data)
        self._train(
            total_gradient_steps,
            callback,
            log_interval,
            tb_log_name,
            reset_num_timesteps,
            progress_bar,
        )
        return self

    def _run_iteration(self) -> bool:
        left = self._total_timesteps - self.num_timesteps
        for _ in range(min(self.steps_per_iteration, left)):
            indices = batch_indices(
                self.seed, len(self._data), self.config.batch_size, self.num_timesteps
            )
            self.update(self._data.batch(indices))
            self.num_timesteps += 1
            if not self._continue_after_step([], []):
                return False
        self._callback.on_rollout_end()
        return True


def batch_indices(seed: int, num_examples: int, batch_size: int, step: int) -> NDArray[np.int64]:
    """Return which examples a gradient step takes, of shape (batch_size,).

    The passes over the data, each in an order of its own, are cut into batches.

    Args:
        seed: The seed of the orders.
        num_examples: How many examples there are.
        batch_size: How many a batch has.
        step: The number of the batch.
    """
    first = step * batch_size
    passes = range(first // num_examples, (first + batch_size - 1) // num_examples + 1)
    orders = np.concatenate([_order(seed, num_examples, number) for number in passes])
    return orders[first % num_examples :][:batch_size]


@functools.lru_cache(maxsize=2)
def _order(seed: int, num_examples: int, number: int) -> NDArray[np.int64]:
    """Return the order of the examples in one pass over the data."""
    return np.random.default_rng(stream(seed, "data", number)).permutation(num_examples)
