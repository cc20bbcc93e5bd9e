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
    answer="""\
On `half-cheetah-motors` nothing needs to be made good. One policy without a memory, trained on
robots with weak and dead motors, runs in a new one as well (604 and 606 in the first episode, two
seeds) as RL² (611 and 578), and forty episodes make neither better; nor does fine-tuning. An
oracle that is told the motors runs no faster (583 and 565). So there is one gait for all of these
bodies, and nothing to find out. MAML gains 35 and 36 points by one gradient step on 20 episodes,
but starts far below (250 and 262). With the front foot's motor dead, which no training had, it is
the same again; only the oracle falls behind, for it is told something that it has never met.

On `walker2d-params`, where masses, inertias, dampings and frictions differ by factors, there is
something to find out: RL² gains 27 and 31 points, all of them after a single episode, MAML 11 and
13 by its step, and fine-tuning 18 and 14 over forty episodes. But that is little beside what
running itself is worth: the policies without a memory start at 524 and 578, above where RL² ends
(430 and 474), and fine-tuned they end highest of all (543 and 607). An oracle that is told the
body (439 and 434 at first, 442 and 439 at the end) falls behind them too. So it is not the
unknown body that holds RL² back: the same 12M env steps make a better runner of a policy without
a memory.
""",
)
