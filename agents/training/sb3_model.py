"""What Stable-Baselines3's callbacks ask of a model, so that they run unchanged on learners."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from metarl.vector.env import TaskVectorEnv


class SB3Model:
    """The part of a learner that looks like an algorithm of SB3.

    Attributes:
        num_timesteps: How many steps were taken: what callbacks and the logger count.
    """

    num_timesteps: int
    _logger: Logger | None = None
    _has_custom_logger = False
    _callback: BaseCallback
    _env: TaskVectorEnv | None = None

    @property
    def logger(self) -> Logger:
        """The logger; there is one once ``learn`` or ``set_logger`` was called."""
        if self._logger is None:
            raise RuntimeError("there is no logger yet: call learn() or set_logger() first")
        return self._logger

    def set_logger(self, logger: Logger) -> None:
        """Use this SB3 logger instead of the one ``learn`` would make."""
        self._logger = logger
        self._has_custom_logger = True

    def dump_logs(self) -> None:
        """Write what was recorded since the last iteration; some callbacks ask for it."""
        self.logger.dump(self.num_timesteps)

    def get_env(self) -> TaskVectorEnv | None:
        """Return the training environment; there is one once an online learner has begun."""
        return self._env

    def get_vec_normalize_env(self) -> None:
        """Return None: normalisation is part of the agent, not of the environment."""
        return

    def _start_callback(self, callback: BaseCallback, total_timesteps: int) -> None:
        """Call back at the start of training, with the names that callbacks read."""
        self._callback = callback
        callback.init_callback(self)  # type: ignore[arg-type]
        callback.on_training_start({"self": self, "total_timesteps": total_timesteps}, {})

    def _continue_after_step(
        self, rewards: Sequence[float] | NDArray[Any], dones: Sequence[bool] | NDArray[Any]
    ) -> bool:
        """Call back after a step; return whether training continues."""
        infos: list[dict[str, Any]] = [{} for _ in rewards]
        self._callback.update_locals({"rewards": rewards, "dones": dones, "infos": infos})
        return self._callback.on_step()
