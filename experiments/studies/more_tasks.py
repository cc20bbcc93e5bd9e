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
            family,
            view={"num_train_tasks": count},
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
    answer="""\
The more tasks, the more is learned that holds for new ones, with the same env steps: few make a
policy, many make something that learns. How many are enough, between eight and sixteen on a grid
and above eight of the bandits, this study does not say; for running at a speed it is about four.

On bandits the tenth pull of a new one earns 0.52 after training on one bandit (0.5 is chance),
0.61 on two, 0.57 on four, 0.69 on eight, 0.73 and 0.71 (two seeds) on bandits that are new all
the time. On the grid, whose five held-out goals no training had, an agent of one goal earns -1.5
in every episode, the least there is; with two and four goals there is no gain from experience
that both seeds share; with eight the last episode is better than the first for both (0.5 and
1.4), and with all sixteen it is 4.4 and 5.1, after -1.3 and -0.8 in the first.

On `half-cheetah-vel` a new speed earns -170 and -165 in the first episode (two seeds, 4M env
steps each) after training on one speed, -101 and -114 on two, -68 and -96 on four, -84 and -51 on
eight, and -49 and -66 on speeds that are new all the time: from one to four tasks each step
helps, and beyond that the seeds differ more than the numbers of tasks do. What is learned is to
keep the speed that the reward of the first steps asks for. No gain from experience is common to
the seeds, and after few tasks the last episode can be worse than the first (by 22 in one seed
with eight).""",
    caveats=(
        "All tasks are sixteen on the grid; of the others there is no end.",
        "half-cheetah-vel has 4M env steps, a third of the preset's, and trials of two episodes; "
        "it is judged in four.",
        "The trainings shared two cores with others: their times are no measure of speed.",
    ),
)
