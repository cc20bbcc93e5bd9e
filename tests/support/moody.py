"""An environment with moods, apart: worker processes import no more than they need."""

import os
import time

import gymnasium
import numpy as np
from gymnasium import spaces

MOODS = (
    *("calm", "raises", "dies", "exits", "hangs", "nan", "odd", "another type"),
    *("raises at reset", "dies at reset", "raises at the task", "dies at the task"),
)


class Moody(gymnasium.Env):
    """Walks at random; in the second step of a task with a mood it does what that says."""

    observation_space = spaces.Dict(
        {"place": spaces.Box(-9.0, 9.0, (2,)), "eye": spaces.Box(0, 255, (4, 4, 1), np.uint8)}
    )
    action_space = spaces.Discrete(3)

    def __init__(self, mood="calm", drift=0.0):
        self.mood, self.drift, self.steps = mood, drift, 0
        if mood == "raises at the task":
            raise ZeroDivisionError("no such task")
        if mood == "dies at the task":
            os._exit(7)

    def _see(self):
        eye = self.np_random.integers(256, size=(4, 4, 1), dtype=np.uint8)
        return {"place": self.place.astype(np.float32), "eye": eye}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = np.zeros(2), 0
        if self.mood == "raises at reset":
            raise ZeroDivisionError("no way to begin")
        if self.mood == "dies at reset":
            os._exit(7)
        return self._see(), {}

    def step(self, action):
        self.steps += 1
        self.place = np.clip(self.place + self.drift + self.np_random.normal(size=2), -9, 9)
        if self.steps == 2:
            match self.mood:
                case "raises":
                    raise ZeroDivisionError("the wheel fell off")
                case "dies":
                    os._exit(7)
                case "exits":
                    raise SystemExit(0)
                case "hangs":
                    time.sleep(60.0)
                case "nan":
                    return self._see(), float("nan"), False, False, {}
                case "odd":
                    return {"place": np.zeros(5)}, 0.0, False, False, {}
                case "another type":
                    return {**self._see(), "place": "here"}, 0.0, False, False, {}
        over = bool(self.np_random.random() < 0.2)
        return self._see(), float(self.place.sum() + action), over, False, {}
