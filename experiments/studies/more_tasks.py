"""Adaptation to unseen tasks against the number of training tasks."""

from metarl.experiments.studies.study import EvalSpec, Learner, Study

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
    "of env steps, trained on 1, 2, 4, 8 tasks and on all of them, evaluated on unseen tasks.",
    learners={family: _learners(family) for family in FAMILIES},
    evaluations=[
        EvalSpec("gridnavi-unseen", "gridnavi-unseen", num_tasks=200, num_episodes=4),
        EvalSpec("half-cheetah-vel", "half-cheetah-vel", num_tasks=200, num_episodes=4),
        EvalSpec("bandit-10x5", "bandit-10x5", num_tasks=1000, num_episodes=10),
    ],
    axis="training tasks",
    answer="""\
With the same number of env steps, training on few tasks gives a fixed policy; training on many
gives an agent that adapts to new ones. This study does not show how many tasks are enough on the
grid (between eight and sixteen) and for bandits (more than eight); for running at a given speed
about four are enough.

After training on one bandit, the tenth pull of a new bandit earns 0.52 (0.5 is chance); after two
it earns 0.61, after four 0.57, after eight 0.69, and 0.73 and 0.71 (two seeds) if training draws
new bandits all the time. On the grid, the five held-out goals are never used in training. An
agent trained on one goal earns -1.5 in every episode, the lowest possible return. With two and
four goals no gain from experience is common to both seeds. With eight the last episode is better
than the first for both (0.5 and 1.4), and with all sixteen it earns 4.4 and 5.1, after -1.3 and
-0.8 in the first.

On `half-cheetah-vel` (two seeds, 4M env steps each) the first episode at a new speed earns -170
and -165 after training on one speed, -101 and -114 after two, -68 and -96 after four, -84 and -51
after eight, and -49 and -66 if training draws new speeds all the time. From one to four tasks
each step helps; beyond that the seeds differ more than the numbers of tasks do. The agent learns
to keep the speed that the reward of the first steps indicates. No gain from experience is common
to the seeds, and after few training tasks the last episode can be worse than the first (by 22 in
one seed with eight).""",
    caveats=(
        "*All tasks* are sixteen on the grid; the other families have infinitely many.",
        "half-cheetah-vel is trained for 4M env steps, a third of the preset's, in trials of two "
        "episodes, and evaluated for four.",
        "The trainings shared two cores with other work: their times do not measure speed.",
    ),
)
