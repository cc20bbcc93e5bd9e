"""What distillation from histories shares: gradient steps, validation on other tasks, stopping."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.distributions import Distribution

from metarl.agents.common.normalization import Normalizer, RunningMoments
from metarl.agents.training.config import Count, Positive, Range
from metarl.agents.training.offline import Data, OfflineConfig, OfflineLearner
from metarl.agents.training.saving import State
from metarl.batches import map_leaves
from metarl.data import Batch, Histories, Windows
from metarl.entries import NUMBER, check_entries, integer, optional
from metarl.errors import InvalidValueError
from metarl.seeding import stream_seed
from metarl.spaces import Values, split, vector_size

VALIDATION_BATCHES = 4
"""The most batches that a validation reads."""
MOMENT_EXAMPLES = 1_000
"""The most windows that observations are normalised by."""


@dataclass(frozen=True)
class DistillationConfig(OfflineConfig):
    """The hyperparameters of AD and DPT alike."""

    batch_size: Count = 64
    """Windows in each gradient step."""
    num_episodes: Count | None = None
    """Episodes of a window of a history; None takes the family's trials."""
    every: Count = 1
    """Take every so many episodes only, so that a short window spans more progress."""
    learning_rate: Positive = 1e-3
    """Adam's step size, after the warm-up."""
    warmup_steps: Annotated[int, Range(0, most=10**6)] = 100
    """Gradient steps over which the step size rises from zero."""
    anneal: bool = True
    """Whether the step size falls to zero, along a cosine."""
    max_grad_norm: Positive = 1.0
    """The gradient's norm is clipped to this."""
    validation_share: Annotated[float, Range(0, 0.5)] = 0.1
    """The share of the tasks, rounded down, whose histories are held back from training, for the
    validation loss; 0 trains on all."""
    patience: Count | None = None
    """Stop when the validation loss has not fallen for so many iterations, of 100 gradient steps
    each, and return to the parameters with the lowest; None trains to the end."""
    policy_kwargs: dict[str, Any] | None = None
    """Arguments of the network."""


class Distillation(OfflineLearner[Batch]):
    """A learner that predicts actions in histories.

    An agent implements ``build_network`` and ``loss``.
    """

    config: DistillationConfig
    network: nn.Module
    optimizer: torch.optim.Optimizer

    def build(self) -> None:
        self.num_episodes = self.config.num_episodes or self.interface.episodes_per_trial
        generator = torch.Generator().manual_seed(stream_seed(self.seed, "network"))
        with torch.random.fork_rng(devices=[]):
            # Layers draw weights before ours replace them; those of an added memory may stay.
            torch.default_generator.manual_seed(generator.initial_seed())
            self.network = self.build_network(generator).to(self.device)
        size = vector_size(self.observation_space)
        self.observation_moments = RunningMoments(size).to(self.device)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=self.config.learning_rate, fused=True
        )
        self.modules = {"network": self.network, "observation_moments": self.observation_moments}
        self.optimizers = {"optimizer": self.optimizer}
        self._validation: Windows | None = None
        self._best: dict[str, torch.Tensor] = {}
        self._lowest, self._waited = math.inf, 0

    @abstractmethod
    def build_network(self, generator: torch.Generator) -> nn.Module:
        """Return the network, with weights from the generator."""

    @abstractmethod
    def loss(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss of a batch, and measures of it for the log."""

    # Data.

    def prepare(self, data: Data[Batch] | Histories) -> Data[Batch]:
        self._validation = None  # data that are no histories have no tasks to hold back
        return super().prepare(data)

    def examples(self, histories: Histories) -> Windows:
        config = self.config
        ids, held_back = histories.split(config.validation_share, self.seed)
        if len(held_back):
            self._validation = histories.windows(self.num_episodes, config.every, held_back)
        elif config.patience is not None:
            raise InvalidValueError(
                f"patience={config.patience} needs a validation loss, and "
                f"validation_share={config.validation_share:g} of these tasks is less than one "
                "task: raise it"
            )
        return histories.windows(self.num_episodes, config.every, ids)

    def normalizer_of(self, size: int) -> Normalizer:
        """Return what normalises the observations with which rows of a length begin."""
        normalizer, moments = Normalizer(size, self.device), self.observation_moments
        columns = slice(0, len(moments.mean))
        normalizer.set(columns, moments.mean.float(), moments.std())
        return normalizer

    # Gradient steps.

    def update(self, batch: Batch) -> None:
        rate = self.config.learning_rate * self._schedule()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss, measured = self.loss(batch, self.generator_for("contexts"))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        self.logger.record("train/learning_rate", rate)
        for name, value in {"loss": loss, "gradient_norm": norm, **measured}.items():
            self.logger.record_mean(f"train/{name}", value.item())

    def _schedule(self) -> float:
        """Return the factor of the step size in the present gradient step."""
        config, step = self.config, self.num_timesteps
        factor = min((step + 1) / (config.warmup_steps + 1), 1.0)
        if config.anneal:
            factor *= 0.5 * (1.0 + math.cos(math.pi * step / self._total_timesteps))
        return factor

    def _run_iteration(self) -> bool:
        if self.num_timesteps == 0:
            self._best, self._lowest, self._waited = {}, math.inf, 0
            self._measure_observations()
        if not super()._run_iteration():
            return False
        if self._validation is not None:
            self._validate(self._validation)
        return True

    def _measure_observations(self) -> None:
        """Normalise observations by those of the data that are learned from."""
        number = min(len(self._data), MOMENT_EXAMPLES)
        batch = self._data.batch(np.linspace(0, len(self._data) - 1, number).astype(np.int64))
        rows, _ = split(self.observation_space, real_steps(batch.observations, batch.mask))
        moments = RunningMoments(rows.shape[1]).to(self.device)
        moments.update(torch.as_tensor(rows, device=self.device))
        self.observation_moments.load_state_dict(moments.state_dict())

    # Validation.

    @property
    def has_converged(self) -> bool:
        patience = self.config.patience
        return self.num_timesteps > 0 and patience is not None and self._waited >= patience

    @torch.no_grad()
    def _validate(self, windows: Windows) -> None:
        """Record the loss on tasks that training has not seen; keep the best parameters."""
        number = min(len(windows), VALIDATION_BATCHES * self.config.batch_size)
        indices = np.linspace(0, len(windows) - 1, number).astype(np.int64)
        generator = torch.Generator(self.device).manual_seed(stream_seed(self.seed, "validation"))
        total = 0.0
        for part in np.array_split(indices, -(-number // self.config.batch_size)):
            loss, measured = self.loss(windows.batch(part), generator)
            total += loss.item() * len(part) / number
            for name, value in {"loss": loss, **measured}.items():
                self.logger.record_mean(f"validation/{name}", value.item())
        if self.config.patience is None:
            return
        self._waited += 1
        if total < self._lowest:
            self._lowest, self._waited = total, 0
            self._best = {n: t.clone() for n, t in self.network.state_dict().items()}
        if self.num_timesteps >= self._total_timesteps or self.has_converged:
            self._return_to_best()

    def _return_to_best(self) -> None:
        self.network.load_state_dict(self._best)
        self._best = {}
        if not self.has_converged:  # training that goes on looks for a new best
            self._lowest, self._waited = math.inf, 0

    def extra_state(self) -> State:
        if self.config.patience is None:
            return {}, {}
        lowest = None if math.isinf(self._lowest) else self._lowest
        tensors = {f"best.{name}": tensor for name, tensor in self._best.items()}
        return tensors, {"lowest": lowest, "waited": self._waited}

    def restore_extra_state(
        self, tensors: Mapping[str, torch.Tensor], data: Mapping[str, Any]
    ) -> None:
        if self.config.patience is None:
            super().restore_extra_state(tensors, data)
            return
        check_entries(data, {"lowest": optional(NUMBER), "waited": integer(0)})
        best = {name.removeprefix("best."): tensor for name, tensor in tensors.items()}
        own = {name: tensor.shape for name, tensor in self.network.state_dict().items()}
        if best and {name: tensor.shape for name, tensor in best.items()} != own:
            raise InvalidValueError("its best parameters are not those of the network")
        self._best = {name: tensor.to(self.device) for name, tensor in best.items()}
        self._waited = data["waited"]
        self._lowest = math.inf if data["lowest"] is None else data["lowest"]


def real_steps(values: Values, mask: NDArray[np.bool_]) -> Values:
    """Return the steps of a batch that are no padding, of shape (number, ...)."""
    return map_leaves(lambda part: part[mask], values)


def prediction_loss(
    distribution: Distribution, actions: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the negative log-likelihood of actions, and the share predicted as most likely.

    Args:
        distribution: The distribution of each action.
        actions: The actions, of shape (number,), or (number, size) where each has several parts.
    """
    loss = -distribution.log_prob(actions).mean()
    if actions.is_floating_point():  # of a continuum, none is predicted exactly
        return loss, {}
    right = (distribution.mode == actions).reshape(len(actions), -1).all(-1)
    return loss, {"accuracy": right.float().mean()}
