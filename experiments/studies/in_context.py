"""Learning in context: from recorded histories, and by reinforcement learning."""

from typing import Any

from metarl.experiments.studies.study import EvalSpec, Learner, Recording, Study


def _oracle(family: str, total_timesteps: int | None = None) -> Learner:
    """The source of demonstrations where no algorithm that needs no training is known."""
    return Learner("oracle", "rl2", family, view={"oracle": True}, total_timesteps=total_timesteps)


def _evaluation(
    family: str,
    num_tasks: int,
    num_episodes: int,
    data: Recording,
    source: Learner,
    dpt_data: Recording | None = None,
    **rl2: Any,
) -> EvalSpec:
    learners = [
        Learner("AD", "ad", family, data=data),
        Learner("DPT", "dpt", family, data=dpt_data or data),
        Learner("RL²", "rl2", family, **rl2),
        source,
    ]
    return EvalSpec(family, family, learners, num_tasks=num_tasks, num_episodes=num_episodes)


_TRIALS_OF_20: Any = {
    "hyperparameters": {"episodes_per_trial": 20, "first_episodes_per_trial": 4},
    "variant": "20-episodes",
}
_KEYS = _oracle("dark-key-to-door", 6_000_000)
_DIRECTIONS = _oracle("half-cheetah-dir")
_NEAREST = Learner("source, nearest unvisited cell", "nearest-unvisited")
_SEARCHES = Recording("nearest-unvisited", 1300, 8, noise=(0.2, 0.0), labels="known-goal")

STUDY = Study(
    name="in-context",
    title="Learning from histories",
    question="What does learning to learn from recorded histories reach, next to reinforcement "
    "learning in the environments, and what does each consume?",
    evaluations=[
        _evaluation(
            "dark-room",
            320,
            20,
            Recording("nearest-unvisited", 650, 8),
            _NEAREST,
            _SEARCHES,
            total_timesteps=6_000_000,
            **_TRIALS_OF_20,
        ),
        _evaluation(
            "dark-key-to-door",
            400,
            20,
            Recording(_KEYS, 1000, 20, noise=(1.0, 0.0), labels=_KEYS),
            _KEYS,
            total_timesteps=12_000_000,
            **_TRIALS_OF_20,
        ),
        _evaluation(
            "bandit-100x5",
            1000,
            100,
            Recording("thompson-sampling", 10_000, labels="known-best-arm"),
            Learner("source, Thompson sampling", "thompson-sampling"),
        ),
        _evaluation("gridnavi", 420, 8, _SEARCHES, _NEAREST),
        _evaluation(
            "half-cheetah-dir",
            100,
            4,
            Recording(_DIRECTIONS, 100, 10, noise=(1.0, 0.0), labels=_DIRECTIONS),
            _DIRECTIONS,
        ),
    ],
    seeds=(0, 1, 2),
    caveats=(
        "The histories are further env steps, which the table of commands names as histories.",
        "RL² acts beyond its trials of 4 episodes on gridnavi, and of 2 on half-cheetah-dir.",
    ),
)
