"""Does a preset that was never tuned to a family adapt there?"""

from collections.abc import Callable, Iterable

from metarl.experiments.studies.study import EvalSpec, Learner, Records, Study

_CHOSEN_ON = ("pendulum-motor", "cart-pole-200", "acrobot")
_OTHERS = ("inverted-pendulum-motor", "double-pendulum-motor", "reacher-motors")
_ORACLE = "oracle, given the task"


def _learners(family: str) -> list[Learner]:
    return [
        Learner("RL²", "rl2", family),
        Learner("MAML", "maml", family, episodes=20),
        Learner("multi-task", "multi-task", family),
        Learner(_ORACLE, "multi-task", family, view={"oracle": True}),
        Learner("random actions", "random"),
    ]


def _share(family: str, learner: str) -> Callable[[Records], Iterable[float]]:
    """Return the share of the way from a policy without memory to the oracle, by seed."""

    def share(records: Records) -> Iterable[float]:
        ends = (records[f"{family}/{name}/last"] for name in (learner, "multi-task", _ORACLE))
        return [(own - low) / (high - low) for own, low, high in zip(*ends)]

    return share


STUDY = Study(
    name="new-families",
    title="New families",
    question="Does an agent adapt on a family for which nothing was tuned? Gymnasium's and "
    "MuJoCo's control tasks with hidden physics, each agent with the preset of new families.",
    evaluations=[
        EvalSpec(family, family, _learners(family), num_tasks=200, num_episodes=3)
        for family in (*_CHOSEN_ON, *_OTHERS)
    ],
    seeds=(0, 1),
    quantities={
        f"{learner} on {family}": _share(family, learner)
        for family in (*_CHOSEN_ON, *_OTHERS)
        for learner in ("RL²", "MAML")
    },
)
