"""Does a preset that was never tuned to a family adapt there?"""

from metarl.experiments.studies.study import EvalSpec, Learner, Study

_LOOKED_AT = ("pendulum-motor", "cart-pole-200", "acrobot")
_UNSEEN = ("inverted-pendulum-motor", "double-pendulum-motor", "reacher-motors")


def _learners(family: str) -> list[Learner]:
    return [
        Learner("RL²", "rl2", family),
        Learner("MAML", "maml", family, episodes=20),
        Learner("multi-task", "multi-task", family),
        Learner("oracle, given the task", "multi-task", family, view={"oracle": True}),
        Learner("random actions", "random"),
    ]


STUDY = Study(
    name="new-families",
    title="New families",
    question="Does an agent adapt on a family for which nothing was tuned? Gymnasium's and "
    "MuJoCo's control tasks with hidden physics, each agent with the preset of new families.",
    evaluations=[
        EvalSpec(family, family, _learners(family), num_tasks=200, num_episodes=3)
        for family in (*_LOOKED_AT, *_UNSEEN)
    ],
    seeds=(0, 1),
)
