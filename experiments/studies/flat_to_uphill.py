"""Who gets up the hill: a robot trained on the flat, or on gentle slopes, judged on steep ones."""

import numpy as np

from metarl.experiments.studies.study import Judging, Learner, Study

STEPS = 12_000_000
ANGLES = tuple(float(angle) for angle in range(-20, 21, 2))
CLIMBS = tuple(angle for angle in ANGLES if angle)  # on level ground nothing is up


def _slope_learners(body: str) -> list[Learner]:
    slope, flat = f"{body}-slope", f"{body}-flat-varied"
    multi_task = Learner("multi-task, slopes", "multi-task", slope)
    return [
        Learner("RL², slopes", "rl2", slope),
        Learner("RL², flat", "rl2", flat),
        Learner("MAML, slopes", "maml", slope),
        multi_task,
        Learner("multi-task, flat", "multi-task", flat),
        Learner("fine-tune, slopes", "fine-tune", slope, trained_as="multi-task"),
        Learner("fine-tune, flat", "fine-tune", flat, trained_as="multi-task"),
        Learner("from scratch", "from-scratch"),
        Learner("oracle, told the slope", "rl2", f"{slope}-told"),
        Learner("random actions", "random"),
    ]


def _climb_learners(body: str) -> list[Learner]:
    climb = f"{body}-climb"
    return [
        Learner("RL²", "rl2", climb),
        Learner("MAML", "maml", climb),
        Learner("multi-task", "multi-task", climb),
        Learner("fine-tune", "fine-tune", climb, trained_as="multi-task"),
        Learner("from scratch", "from-scratch"),
        Learner("oracle, told the slope", "rl2", f"{climb}-told"),
        Learner("random actions", "random"),
    ]


_SLOPES = {
    "trained slopes, up to 10 degrees": lambda task: np.abs(task["degrees"]) <= 10.0,
    "uphill, 12 to 20": lambda task: task["degrees"] > 10.0,
    "downhill, 12 to 20": lambda task: task["degrees"] < -10.0,
}
_CLIMBS = {
    "trained slopes, up to 10 degrees": lambda task: np.abs(task["degrees"]) <= 10.0,
    "steeper, 12 to 20": lambda task: np.abs(task["degrees"]) > 10.0,
}

STUDY = Study(
    name="flat-to-uphill",
    question="A robot that has learned on level ground, or on gentle slopes, is put on a steep "
    "one: who gets up, and how soon?",
    learners={
        "half-cheetah-angles": _slope_learners("half-cheetah"),
        "half-cheetah-climb-angles": _climb_learners("half-cheetah"),
        "walker2d-angles": _slope_learners("walker2d"),
    },
    judgings=[
        Judging(
            "half-cheetah-climb-angles",
            "half-cheetah-climb",
            {"degrees": CLIMBS},
            num_tasks=4,
            num_episodes=40,
            groups=_CLIMBS,
        ),
        Judging(
            "half-cheetah-angles",
            "half-cheetah-slope",
            {"degrees": ANGLES},
            num_tasks=2,
            num_episodes=40,
            groups=_SLOPES,
        ),
        Judging(
            "walker2d-angles",
            "walker2d-slope",
            {"degrees": ANGLES},
            num_tasks=2,
            num_episodes=40,
            groups=_SLOPES,
        ),
    ],
    total_timesteps=STEPS,
)
