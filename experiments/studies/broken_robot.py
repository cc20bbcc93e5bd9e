"""What a broken or unfamiliar body costs, and how fast agents compensate for it."""

from dataclasses import replace

from metarl.experiments.studies.study import EvalSpec, Learner, Study


def _learners(family: str) -> list[Learner]:
    rl2 = Learner("RL²", "rl2", family)
    oracle = replace(rl2, label="oracle, given the body", view={"oracle": True})
    # The agents here were trained with an earlier preset; a control and a bound need the same one.
    again = [oracle] if family == "half-cheetah-motors" else [rl2, oracle]
    new = [
        replace(
            learner, label=f"{learner.label.partition(',')[0]}, new preset", variant="new-preset"
        )
        for learner in again
    ]
    memoryless = (new if rl2 in again else [rl2])[0].without_memory()
    return [
        rl2,
        Learner("MAML", "maml", family),
        Learner("multi-task", "multi-task", family),
        Learner("fine-tune", "fine-tune", family, trained_as="multi-task"),
        Learner("from scratch", "from-scratch"),
        oracle,
        *new,
        memoryless,
        Learner("random actions", "random"),
    ]


def _gain_learners(learners: list[Learner]) -> list[Learner]:
    """Return the learners whose gains are small, each with the present preset."""
    labels = ("RL², new preset", "RL², without memory", "multi-task", "oracle, new preset")
    if all(learner.label != labels[0] for learner in learners):
        labels = ("RL²", *labels[1:])
    return [learner for learner in learners if learner.label in labels]


_MOTORS, _WALKER = _learners("half-cheetah-motors"), _learners("walker2d-params")

STUDY = Study(
    name="broken-robot",
    title="Broken robot",
    question="A robot starts in an unseen body, with weak motors and a dead one, or with other "
    "masses and joints: what does that cost, and how fast does it compensate?",
    evaluations=[
        EvalSpec("motors", "half-cheetah-motors", _MOTORS, num_tasks=60, num_episodes=40),
        EvalSpec(
            "unseen-motor",
            "half-cheetah-motors",
            _MOTORS,
            split="unseen_motor",
            num_tasks=60,
            num_episodes=40,
        ),
        EvalSpec("walker", "walker2d-params", _WALKER, num_tasks=60, num_episodes=40),
        *(
            # Of so many tasks a gain of 20 points shows.
            EvalSpec(name, family, _gain_learners(learners), num_tasks=500, num_episodes=4)
            for name, family, learners in (
                ("motors-gain", "half-cheetah-motors", _MOTORS),
                ("walker-gain", "walker2d-params", _WALKER),
            )
        ),
    ],
    total_timesteps=12_000_000,
    answer="""\
No agent that has learned to run is much better after forty episodes than in the first: agents
either compensate for a broken motor within the first episode or never do. Agents with a memory
run faster with broken motors, from the first episode on. In a body with other masses and joints,
a policy without memory is ahead of RL², which was trained with an earlier preset there.

On `half-cheetah-motors` RL² earns {motors/RL²/first:.0f} in the first episode (two seeds). A
policy without memory, trained on the same robots with weak and dead motors, earns
{motors/multi-task/first:.0f}. Neither improves over forty episodes, nor does fine-tuning. With
the front foot's motor dead, which never happens in training, the result is the same:
{unseen-motor/RL²/first:.0f} against {unseen-motor/multi-task/first:.0f}. An oracle that observes
the motors could show how much of this is due to the memory and how much to the trainer. But the
oracles here ({motors/oracle, given/first:.0f}, {unseen-motor/oracle, given/first:.0f} with the
unseen motor) were trained with RL²'s earlier preset, with which RL² itself earned less than it
does today (returns that are not stored). They only show that observing the motors gained nothing
with that preset. MAML gains {motors/MAML/gain:.0f} points by one gradient step on 20 episodes,
but starts far below ({motors/MAML/first:.0f}).

On `walker2d-params`, where masses, inertias, dampings and frictions differ by factors, agents
do gain from experience: RL² {walker/RL²/gain:.0f} points, all of them after a single episode,
MAML {walker/MAML/gain:.0f} by its step, and fine-tuning {walker/fine-tune/gain:.0f} over forty
episodes. But this is little compared with the differences between the policies: those without
memory start at {walker/multi-task/first:.0f}, above the last episode of RL²
({walker/RL²/last:.0f}), and after fine-tuning they end highest of all
({walker/fine-tune/last:.0f}). An oracle that observes the body ({walker/oracle,
given/first:.0f} at first, {walker/oracle, given/last:.0f} at the end) stays behind them too. So
the training, not the unknown body, holds RL² back: RL² and the oracle have an earlier preset
here.""",
    claims={
        "agents that have learned to run gain little": lambda q: all(
            max(q[f"{evaluation}/{learner}/gain"]) < 60.0
            for evaluation in ("motors", "unseen-motor", "walker")
            for learner in ("RL²", "MAML", "multi-task", "fine-tune")
        ),
        "a memory is ahead with broken motors from the first episode on": lambda q: all(
            min(q[f"{evaluation}/RL²/first"]) > max(q[f"{evaluation}/multi-task/first"])
            for evaluation in ("motors", "unseen-motor")
        ),
        "with broken motors neither memory nor fine-tuning gains": lambda q: all(
            low <= 0.0
            for evaluation in ("motors", "unseen-motor")
            for learner in ("RL²", "multi-task", "fine-tune")
            for low in q[f"{evaluation}/{learner}/gain low"]
        ),
        "walkers gain from experience, RL² after a single episode": lambda q: (
            min(
                low
                for learner in ("RL²", "MAML", "fine-tune")
                for low in q[f"walker/{learner}/gain low"]
            )
            > 0.0
            and max(
                last - after for last, after in zip(q["walker/RL²/last"], q["walker/RL²/after"])
            )
            < 5.0
        ),
        "a walker without memory is ahead of RL² and of the oracle": lambda q: (
            min(q["walker/multi-task/first"])
            > max(*q["walker/RL²/last"], *q["walker/oracle, given/last"])
        ),
    },
)
