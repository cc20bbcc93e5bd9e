"""Learning to learn improves with the number of training tasks, or it is something else."""

from metarl.experiments.studies.study import Judging, Learner, Study

COUNTS = (1, 2, 4, 8)
FAMILIES = ("gridnavi-unseen", "half-cheetah-vel", "bandit-10x5")
STEPS = {"half-cheetah-vel": 4_000_000}


def _learners(family: str) -> list[Learner]:
    few = [
        Learner(
            f"{count} training task{'s' if count > 1 else ''}",
            "rl2",
            f"{family}-{count}task{'s' if count > 1 else ''}",
            total_timesteps=STEPS.get(family),
        )
        for count in COUNTS
    ]
    return [*few, Learner("all tasks", "rl2", family, total_timesteps=STEPS.get(family))]


STUDY = Study(
    name="more-tasks",
    question="How many tasks does it take to learn to learn? The same agent with the same number "
    "of env steps, trained on 1, 2, 4, 8 tasks and on all of them, judged on tasks that are new.",
    learners={family: _learners(family) for family in FAMILIES},
    judgings=[
        Judging("gridnavi-unseen", "gridnavi-unseen", num_tasks=200, num_episodes=4),
        Judging("half-cheetah-vel", "half-cheetah-vel", num_tasks=200, num_episodes=4),
        Judging("bandit-10x5", "bandit-10x5", num_tasks=1000, num_episodes=10),
    ],
    axis="training tasks",
)
