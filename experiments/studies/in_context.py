"""Learning in context: from recorded histories, and by reinforcement learning."""

from metarl.experiments.studies.study import EvalSpec, Learner, Recording, Study


def _oracle(family: str, total_timesteps: int | None = None) -> Learner:
    """The source of demonstrations where no algorithm that needs no training is known."""
    return Learner("oracle", "rl2", family, view={"oracle": True}, total_timesteps=total_timesteps)


def _learners(
    family: str, data: Recording, rl2: Learner, source: Learner, dpt_data: Recording | None = None
) -> list[Learner]:
    return [
        Learner("AD", "ad", family, data=data),
        Learner("DPT", "dpt", family, data=dpt_data or data),
        rl2,
        source,
    ]


_TRIALS_OF_20 = {"episodes_per_trial": 20, "first_episodes_per_trial": 4}
_KEYS = _oracle("dark-key-to-door", 6_000_000)
_DIRECTIONS = _oracle("half-cheetah-dir")
_SEARCHES = Recording("nearest-unvisited", 1300, 8, noise=(0.2, 0.0), labels="known-goal")

STUDY = Study(
    name="in-context",
    title="Learning from histories",
    question="What does learning to learn from recorded histories reach, next to reinforcement "
    "learning in the environments, and what does each consume?",
    learners={
        "dark-room": _learners(
            "dark-room",
            Recording("nearest-unvisited", 650, 8),
            Learner(
                "RL²",
                "rl2",
                "dark-room",
                total_timesteps=6_000_000,
                hyperparameters=_TRIALS_OF_20,
                variant="20-episodes",
            ),
            Learner("source, nearest unvisited cell", "nearest-unvisited"),
            dpt_data=_SEARCHES,
        ),
        "dark-key-to-door": _learners(
            "dark-key-to-door",
            Recording(_KEYS, 1000, 20, noise=(1.0, 0.0), labels=_KEYS),
            Learner(
                "RL²",
                "rl2",
                "dark-key-to-door",
                total_timesteps=12_000_000,
                hyperparameters=_TRIALS_OF_20,
                variant="20-episodes",
            ),
            _KEYS,
        ),
        "bandit-100x5": _learners(
            "bandit-100x5",
            Recording("thompson-sampling", 10_000, labels="known-best-arm"),
            Learner("RL²", "rl2", "bandit-100x5"),
            Learner("source, Thompson sampling", "thompson-sampling"),
        ),
        "gridnavi": _learners(
            "gridnavi",
            _SEARCHES,
            Learner("RL²", "rl2", "gridnavi"),
            Learner("source, nearest unvisited cell", "nearest-unvisited"),
        ),
        "half-cheetah-dir": _learners(
            "half-cheetah-dir",
            Recording(_DIRECTIONS, 100, 10, noise=(1.0, 0.0), labels=_DIRECTIONS),
            Learner("RL²", "rl2", "half-cheetah-dir"),
            _DIRECTIONS,
        ),
    },
    evaluations=[
        EvalSpec("dark-room", "dark-room", num_tasks=320, num_episodes=20),
        EvalSpec("dark-key-to-door", "dark-key-to-door", num_tasks=400, num_episodes=20),
        EvalSpec("bandit-100x5", "bandit-100x5", num_tasks=1000, num_episodes=100),
        EvalSpec("gridnavi", "gridnavi", num_tasks=420, num_episodes=8),
        EvalSpec("half-cheetah-dir", "half-cheetah-dir", num_tasks=100, num_episodes=4),
    ],
    seeds=(0, 1, 2),
    caveats=(
        "The histories are further env steps, which the table of commands names as histories.",
        "RL² acts beyond its trials of 4 episodes on gridnavi, and of 2 on half-cheetah-dir.",
    ),
)
