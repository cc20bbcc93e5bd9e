"""What can be learned with few env steps, as environments that take milliseconds a step allow?"""

from metarl.experiments.studies.study import EvalSpec, Learner, Study

_BUDGETS = (50_000, 100_000, 200_000)
_FAMILIES = ("cart-pole-200", "inverted-pendulum-motor", "acrobot")


def _learners(family: str) -> list[Learner]:
    return [
        Learner(
            f"{label}, {steps:,} env steps",
            agent,
            family,
            total_timesteps=steps,
            episodes=20 if agent == "maml" else None,
        )
        for agent, label in (("rl2", "RL²"), ("maml", "MAML"), ("multi-task", "multi-task"))
        for steps in _BUDGETS
    ]


STUDY = Study(
    name="few-steps",
    title="Few env steps",
    question="At 5 ms a step, 200,000 env steps take 17 minutes. What do agents learn with so few, "
    "with the preset of new families?",
    evaluations=[
        EvalSpec(family, family, _learners(family), num_tasks=200, num_episodes=3)
        for family in _FAMILIES
    ],
    seeds=(0, 1),
)
