"""What a broken or foreign body costs, and how fast it is made good."""

from metarl.experiments.studies.study import Judging, Learner, Study


def _learners(family: str) -> list[Learner]:
    return [
        Learner("RL²", "rl2", family),
        Learner("MAML", "maml", family),
        Learner("multi-task", "multi-task", family),
        Learner("fine-tune", "fine-tune", family, trained_as="multi-task"),
        Learner("from scratch", "from-scratch"),
        Learner("oracle, told the body", "rl2", f"{family}-told"),
        Learner("random actions", "random"),
    ]


_MOTORS, _WALKER = _learners("half-cheetah-motors"), _learners("walker2d-params")

STUDY = Study(
    name="broken-robot",
    question="A robot wakes up in a body that it has never had, with weak motors and a dead one, "
    "or with other masses and joints: what does that cost, and how fast is it made good?",
    learners={"motors": _MOTORS, "unseen-motor": _MOTORS, "walker": _WALKER},
    judgings=[
        Judging("motors", "half-cheetah-motors", num_tasks=60, num_episodes=40),
        Judging(
            "unseen-motor",
            "half-cheetah-motors",
            split="unseen_motor",
            num_tasks=60,
            num_episodes=40,
        ),
        Judging("walker", "walker2d-params", num_tasks=60, num_episodes=40),
    ],
    total_timesteps=12_000_000,
)
