"""What a broken or foreign body costs, and how fast it is made good."""

from metarl.experiments.studies.study import Judging, Learner, Study


def _learners(family: str) -> list[Learner]:
    return [
        Learner("RL²", "rl2", family),
        Learner("MAML", "maml", family),
        Learner("multi-task", "multi-task", family),
        Learner("fine-tune", "fine-tune", family, trained_as="multi-task"),
        Learner("from scratch", "from-scratch"),
        Learner("oracle, given the body", "rl2", family, view={"oracle": True}),
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
Nobody is much better after forty episodes than in the first: what a broken motor costs is made
good at once or not at all. Who has a memory runs faster with broken motors, from the first
episode on; in a body of other masses and joints one policy without a memory is ahead, of an RL²
that had an earlier preset.

On `half-cheetah-motors` RL² has 681 and 709 in the first episode (two seeds), and one policy
without a memory, trained on the same robots with weak and dead motors, 604 and 606. Forty
episodes make neither better; nor does fine-tuning. With the front foot's motor dead, which no
training had, it is the same again: 758 and 732 against 648 and 633. How much of that is the
memory's, and how much that of another trainer, an oracle would show that is given the motors;
those here (583 and 565, 552 and 575 with the unseen motor) were trained with an earlier preset of
RL², with which RL² itself had 611 and 578, and can only say that being given them was worth nothing
then. MAML gains 35 and 36 points by one gradient step on 20 episodes, but starts far below (250
and 262).

On `walker2d-params`, where masses, inertias, dampings and frictions differ by factors, there is
something to find out: RL² gains 27 and 31 points, all of them after a single episode, MAML 11 and
13 by its step, and fine-tuning 18 and 14 over forty episodes. But that is little beside what
running itself is worth: the policies without a memory start at 524 and 578, above where RL² ends
(430 and 474), and fine-tuned they end highest of all (543 and 607). An oracle that is given the
body (439 and 434 at first, 442 and 439 at the end) falls behind them too. So it is not the
unknown body that held RL² back, but its training: RL² and the oracle are of an earlier preset
here, with which RL² was no faster than they with broken motors, either.
""",
)
