"""What a broken or unfamiliar body costs, and how fast agents compensate for it."""

from metarl.experiments.studies.study import EvalSpec, Learner, Study


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
    question="A robot starts in an unseen body, with weak motors and a dead one, or with other "
    "masses and joints: what does that cost, and how fast does it compensate?",
    learners={"motors": _MOTORS, "unseen-motor": _MOTORS, "walker": _WALKER},
    evaluations=[
        EvalSpec("motors", "half-cheetah-motors", num_tasks=60, num_episodes=40),
        EvalSpec(
            "unseen-motor",
            "half-cheetah-motors",
            split="unseen_motor",
            num_tasks=60,
            num_episodes=40,
        ),
        EvalSpec("walker", "walker2d-params", num_tasks=60, num_episodes=40),
    ],
    total_timesteps=12_000_000,
    answer="""\
No agent is much better after forty episodes than in the first: agents either compensate for a
broken motor within the first episode or never do. Agents with a memory run faster with broken
motors, from the first episode on. In a body with other masses and joints, a policy without memory
is ahead of RL², which was trained with an earlier preset there.

On `half-cheetah-motors` RL² earns 681 and 709 in the first episode (two seeds). A policy without
memory, trained on the same robots with weak and dead motors, earns 604 and 606. Neither improves
over forty episodes, nor does fine-tuning. With the front foot's motor dead, which never happens
in training, the result is the same: 758 and 732 against 648 and 633. An oracle that observes the
motors could show how much of this is due to the memory and how much to the trainer. But the
oracles here (583 and 565, 552 and 575 with the unseen motor) were trained with RL²'s earlier
preset, with which RL² itself earned 611 and 578. They only show that observing the motors gained
nothing with that preset. MAML gains 35 and 36 points by one gradient step on 20 episodes, but
starts far below (250 and 262).

On `walker2d-params`, where masses, inertias, dampings and frictions differ by factors, agents do
gain from experience: RL² 27 and 31 points, all of them after a single episode, MAML 11 and 13 by
its step, and fine-tuning 18 and 14 over forty episodes. But this is little compared with the
differences between the policies: those without memory start at 524 and 578, above the last
episode of RL² (430 and 474), and after fine-tuning they end highest of all (543 and 607). An
oracle that observes the body (439 and 434 at first, 442 and 439 at the end) stays behind them
too. So the training, not the unknown body, holds RL² back: RL² and the oracle have an earlier
preset here, and with that preset RL² was no faster than policies without memory with broken
motors, either.""",
)
