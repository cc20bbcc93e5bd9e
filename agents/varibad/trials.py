"""The trials that VariBAD's task model learns from: recorded with their outcomes, and stored."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import pad

from metarl.agents.common.acting import TrialBuffer
from metarl.agents.common.trials import Trials
from metarl.errors import InvalidValueError
from metarl.evaluation.adaptation import Transition
from metarl.trial import TrialInput


class OutcomeBuffer(TrialBuffer):
    """A buffer that also keeps what each step led to.

    The rows alone lack it at the end of an episode, where the next one shows the first observation
    of another.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._outcomes: list[torch.Tensor] = []

    def observe(self, transition: Transition) -> None:
        super().observe(transition)
        rows, _ = self._policy.trial_input.follow(
            transition.next_observations,
            transition.actions,
            transition.rewards,
            transition.episode_end,
        )
        self._outcomes.append(torch.from_numpy(rows))

    def outcomes(self) -> torch.Tensor:
        """Return next observation, action, reward and episode end of each step, as rows.

        Of shape (time, num_trials, row_size).
        """
        return torch.stack(self._outcomes).to(self._policy.device)


class TrialStore:
    """The latest trials, up to a number of them.

    A step is stored as its observation and its outcome. Together with the outcome before, they make
    the input row.

    Args:
        capacity: How many trials are kept.
        trial_input: Makes the rows.
        device: Where to keep them.
    """

    def __init__(self, capacity: int, trial_input: TrialInput, device: torch.device):
        self._capacity = capacity
        self._num_observed = trial_input.observation.stop
        size = self._num_observed + trial_input.size
        self._steps = torch.zeros(0, 0, size, device=device)  # (trials, time, size)
        self._lengths = torch.zeros(0, dtype=torch.int64, device=device)

    def clear(self) -> None:
        """Drop all trials."""
        self._steps, self._lengths = self._steps[:0], self._lengths[:0]

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, trials: Trials, outcomes: torch.Tensor) -> None:
        """Store trials with their outcomes, and drop the oldest beyond the capacity."""
        steps = torch.cat([trials.rows[..., : self._num_observed], outcomes], dim=-1)
        steps = torch.where(trials.mask[..., None] > 0, steps, 0.0).transpose(0, 1)
        longest = max(self._steps.shape[1], steps.shape[1])
        both = [pad(part, (0, 0, 0, longest - part.shape[1])) for part in (self._steps, steps)]
        self._steps = torch.cat(both)[-self._capacity :]
        self._lengths = torch.cat([self._lengths, trials.mask.sum(0).long()])[-self._capacity :]

    def sample(
        self, num_trials: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw trials with replacement.

        Returns:
            Input rows and outcomes, of shape (time, num_trials, row_size), and a mask of shape
            (time, num_trials), 1 where a step is real.
        """
        device = self._steps.device
        chosen = torch.randint(len(self), (num_trials,), generator=generator, device=device)
        lengths = self._lengths[chosen]
        steps = self._steps[chosen, : int(lengths.max())].transpose(0, 1)  # (time, n, size)
        observations, outcomes = steps.tensor_split([self._num_observed], dim=-1)
        last = torch.cat([torch.zeros_like(outcomes[:1]), outcomes[:-1]])
        rows = torch.cat([observations, last[..., self._num_observed :]], dim=-1)
        mask = torch.arange(len(steps), device=device)[:, None] < lengths
        return rows, outcomes, mask.float()

    def state(self) -> dict[str, torch.Tensor]:
        """Return all that is stored."""
        return {"steps": self._steps, "lengths": self._lengths}

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over what :meth:`state` gave.

        Raises:
            ValueError: If it does not fit; nothing is changed then.
        """
        if tensors.keys() != {"steps", "lengths"}:
            raise InvalidValueError(f"stored trials are 'steps' and 'lengths', got {[*tensors]}")
        steps, lengths = (tensors[name].to(self._steps.device) for name in ("steps", "lengths"))
        size = self._steps.shape[2]
        fits = (
            (steps.dtype, lengths.dtype) == (self._steps.dtype, self._lengths.dtype)
            and (steps.ndim, lengths.ndim) == (3, 1)
            and (len(steps), steps.shape[2]) == (len(lengths), size)
            and bool(((lengths >= 1) & (lengths <= steps.shape[1])).all())
        )
        if not fits:
            raise InvalidValueError(
                f"stored trials must have the shape (trials, time, {size}) and as many lengths, "
                f"got {tuple(steps.shape)} and {tuple(lengths.shape)}"
            )
        self._steps, self._lengths = steps[-self._capacity :], lengths[-self._capacity :]
