"""Adaptation to unseen tasks against the number of training tasks."""

from metarl.experiments.studies.study import EvalSpec, Learner, Study

COUNTS = (1, 2, 4, 8)
# Tasks of the evaluation, and episodes of each.
FAMILIES = {
    "gridnavi-unseen": (200, 4),
    "half-cheetah-vel": (200, 4),
    "bandit-10x5": (1000, 10),
}
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
    title="More tasks",
    question="How many tasks does it take to learn to learn? The same agent with the same number "
    "of env steps, trained on 1, 2, 4, 8 tasks and on all of them, evaluated on unseen tasks.",
    evaluations=[
        EvalSpec(family, family, _learners(family), num_tasks=tasks, num_episodes=episodes)
        for family, (tasks, episodes) in FAMILIES.items()
    ],
    seeds=(0, 1, 2),
    axis="training tasks",
    answer="""\
With the same number of env steps, training on few tasks gives a fixed policy; training on many
gives an agent that adapts to new ones. How many are enough depends on which are drawn. Of two
draws of eight goals on the grid, and of two draws of eight speeds, one does nearly as well as
all tasks, and the other does not. For bandits eight are not enough.

After training on one bandit, the tenth pull of a new bandit earns {bandit/1 training/last:~.2f}
(0.5 is chance); after two it earns {bandit/2 training/last:~.2f}, after four {bandit/4
training/last:~.2f}, after eight {bandit/8 training/last:~.2f}, and {bandit/all/last:.2f} if
training draws new bandits all the time. On the grid, the five held-out goals are never used in
training. An agent trained on one goal earns {grid/1 training/last:~.1f} in every episode, the
lowest possible return. With two and four goals no gain from experience is certain: the
intervals over five goals are wide. With eight the last episode earns {grid/8 training/last:.1f},
after {grid/8 training/first:.1f} in the first; with all sixteen {grid/all/last:.1f}, after
{grid/all/first:.1f}. In both cases the interval of the gain is above zero for some of the seeds
only.

On `half-cheetah-vel` (4M env steps each) the first episode at a new speed earns {vel/1
training/first:.0f} after training on one speed, {vel/2 training/first:.0f} after two, {vel/4
training/first:.0f} after four, {vel/8 training/first:.0f} after eight, and {vel/all/first:.0f}
if training draws new speeds all the time. From one to four tasks each step helps; of the draws
of eight one is worse than both of four, one better. The agent learns to keep the speed that the
reward of the first steps indicates. No gain from experience is common to the seeds, and after few
training tasks the last episode can be worse than the first (gains with eight: {vel/8
training/gain:.0f}).""",
    claims={
        "bandits: more than eight training tasks": lambda q: (
            max(q["bandit/8 training/last"]) < min(q["bandit/all/last"])
            and max(q["bandit/1 training/gain low"]) <= 0.0
        ),
        "the grid: no certain gain with four goals or fewer": lambda q: all(
            max(q[f"grid/{count} training/gain low"]) <= 0.0 for count in (1, 2, 4)
        ),
        "the grid: a gain for some of the seeds with eight and with all goals": lambda q: all(
            min(q[f"grid/{learner}/gain low"]) <= 0.0 < max(q[f"grid/{learner}/gain low"])
            for learner in ("8 training", "all")
        ),
        "speeds: each step up to four tasks helps": lambda q: all(
            max(q[f"vel/{few} training/first"]) < min(q[f"vel/{more} training/first"])
            for few, more in ((1, 2), (2, 4))
        ),
        "speeds: draws of eight tasks are worse and better than those of four": lambda q: (
            min(q["vel/8 training/first"]) < min(q["vel/4 training/first"])
            and max(q["vel/8 training/first"]) > max(q["vel/4 training/first"])
        ),
        "speeds: no gain from experience is common to the seeds": lambda q: all(
            min(q[f"vel/{learner}/gain low"]) <= 0.0
            for learner in (*(f"{count} training" for count in COUNTS), "all")
        ),
    },
    caveats=(
        "Each seed draws its own training tasks.",
        "*All tasks* are sixteen on the grid; the other families have infinitely many.",
        "half-cheetah-vel is trained for 4M env steps, a third of the preset's, in trials of two "
        "episodes, and evaluated for four.",
        "The trainings shared two cores with other work: their times do not measure speed.",
    ),
)
