"""Robots trained on the flat, or on gentle slopes, evaluated on steep ones."""

import numpy as np

from metarl.experiments.studies.study import EvalSpec, Learner, Study

STEPS = 12_000_000
ANGLES = tuple(float(angle) for angle in range(-20, 21, 2))
CLIMBS = tuple(angle for angle in ANGLES if angle)  # on level ground nothing is up


def _ceiling(family: str) -> Learner:
    return Learner(
        "oracle of all slopes",
        "rl2",
        family,
        view={"train_split": "any", "oracle": True},
        note="observes the slope, and is trained on all evaluated slopes: the upper reference for "
        "agents trained up to 10 degrees only, as far as 12M env steps reach it",
    )


def _slope_learners(body: str) -> list[Learner]:
    slope, flat = f"{body}-slope", f"{body}-flat-varied"
    multi_task = Learner("multi-task, slopes", "multi-task", slope)
    with_resets = Learner(
        "RL², slopes, with resets",
        "rl2",
        slope,
        adaptation={"reset_memory_every": 2},
        note="the agents of RL², slopes, with a memory that is reset after two episodes, the "
        "length of their training trials",
    )
    return [
        Learner("RL², slopes", "rl2", slope),
        with_resets,
        Learner("RL², flat", "rl2", flat),
        Learner("MAML, slopes", "maml", slope),
        multi_task,
        Learner("multi-task, flat", "multi-task", flat),
        Learner("fine-tune, slopes", "fine-tune", slope, trained_as="multi-task"),
        Learner("fine-tune, flat", "fine-tune", flat, trained_as="multi-task"),
        Learner("from scratch", "from-scratch"),
        Learner("oracle, given the slope", "rl2", slope, view={"oracle": True}),
        _ceiling(slope),
        Learner("random actions", "random"),
    ]


def _climb_learners(body: str) -> list[Learner]:
    climb = f"{body}-climb"
    return [
        Learner("RL²", "rl2", climb),
        Learner("MAML", "maml", climb),
        Learner("multi-task", "multi-task", climb),
        Learner("fine-tune", "fine-tune", climb, trained_as="multi-task"),
        Learner("from scratch", "from-scratch"),
        Learner("oracle, given the slope", "rl2", climb, view={"oracle": True}),
        _ceiling(climb),
        Learner("random actions", "random"),
    ]


_SLOPES = {
    "trained slopes, up to 10 degrees": lambda task: np.abs(task["degrees"]) <= 10.0,
    "uphill, 12 to 20": lambda task: task["degrees"] > 10.0,
    "downhill, 12 to 20": lambda task: task["degrees"] < -10.0,
}
_CLIMBS = {
    "trained slopes, up to 10 degrees": lambda task: np.abs(task["degrees"]) <= 10.0,
    "steeper, 12 to 20": lambda task: np.abs(task["degrees"]) > 10.0,
}

STUDY = Study(
    name="flat-to-uphill",
    question="A robot trained on level ground, or on gentle slopes, starts on a steep one: which "
    "agents get up, and how soon?",
    learners={
        "half-cheetah-angles": _slope_learners("half-cheetah"),
        "half-cheetah-climb-angles": _climb_learners("half-cheetah"),
        "walker2d-angles": _slope_learners("walker2d"),
    },
    evaluations=[
        EvalSpec(
            "half-cheetah-climb-angles",
            "half-cheetah-climb",
            {"degrees": CLIMBS},
            num_tasks=4,
            num_episodes=40,
            groups=_CLIMBS,
        ),
        EvalSpec(
            "half-cheetah-angles",
            "half-cheetah-slope",
            {"degrees": ANGLES},
            num_tasks=2,
            num_episodes=40,
            groups=_SLOPES,
        ),
        EvalSpec(
            "walker2d-angles",
            "walker2d-slope",
            {"degrees": ANGLES},
            num_tasks=2,
            num_episodes=40,
            groups=_SLOPES,
        ),
    ],
    total_timesteps=STEPS,
    answer="""\
Agents that have learned to identify the slope, on tasks where the slope changes what to do. If
the robot must run up a hill and uphill may be on either side, RL² senses which way is up within
its first episode, and MAML learns it by one gradient step. One policy for all hills stays where
it is, and neither forty episodes of fine-tuning nor of learning from scratch help. If the robot
only has to run ahead, up or down, the slope changes how fast it can run and hardly what to do. On
the tasks of this study, no agent that has learned to adapt then gains from experience, with
either of two bodies. On 2,000 half-cheetah tasks RL² gains 16.8 (10.8 to 22.5) points, about 1%,
with one of two seeds ([all runs](runs.md)).

On `half-cheetah-climb` the reward is the speed uphill, and uphill may be ahead or behind. RL²
earns 972 and 918 in its first episode (two seeds, slopes of at most 10 degrees), nine tenths of
the return of an oracle that observes the slope (1082 and 1001). It gains 23 and 33 more points
until its last episode. MAML first runs the wrong way in most episodes: the return is positive in
30.5% and 7.5% of them (-42 and -282 points), and one gradient step on 20 episodes raises it to
186 and 361. One policy without memory stays where it is (-8 and 21), because it cannot know the
slope. Forty episodes of fine-tuning do not change that, because training has removed the action
noise that would explore, and they are far too few to learn from scratch. On slopes of 12 to 20
degrees, which are not in the training, RL² earns 389 and 341 in its first episode and 436 and 354
in its last; the oracle earns 505 and 530 in its last. An oracle that was also trained on the
steep slopes earns 432 and 593. With 20 degrees ahead RL² slides back (-237 and -155 over all
episodes). Of the oracles trained on gentle slopes one gets up, very slowly (-85 and 57); both
that were trained on steep slopes do (35 and 211).

If the task is to run along x, up or down (`half-cheetah-angles`, two seeds of each agent), no
gain from experience is common to the seeds. In its first episode RL² runs like one policy without
memory: 1360 and 1163 against 1329 and 1314 on the trained slopes, 2077 and 1710 against 1901 and
1930 on 12 to 20 degrees downhill, 488 and 318 against 328 and 240 uphill. On the trained slopes
and downhill, knowing the slope does not help: an oracle that observes it runs no faster (1368 and
1280, 1919 and 1827). Steep uphill it does help (639 and 560), but no agent infers it; an oracle
that was also trained on the steep slopes earns no more there (548 and 518). MAML has learned
least (591 and 460 on the trained slopes), and its inner step changes nothing. Such returns do not
need training on slopes: after training on level ground alone, with varying bodies, RL² earns 433
and 471 on the same slopes uphill. The policy without memory then earns 97 and 247, and 144 and
210 when it is evaluated again as the starting point of fine-tuning.

On a second body (`walker2d-angles`, two seeds), too, no agent that has learned to adapt gains
from experience. In its first episode on the trained slopes RL² earns 1101 and 806, a policy
without memory 1125 and 1016, MAML 607 and 736. Observing the slope matters less than the seed:
the oracles earn 773 and 811, and those trained on all evaluated slopes 897 and 739. Uphill, on 12
to 20 degrees, RL² earns 730 and 604, the policy without memory 819 and 177, MAML 262 and 263, the
oracles 341 and 392, and 613 and 527. Here RL² needs slopes in training: after level ground alone
it earns 702 and 676 on the slopes that the others were trained on, and 380 and 218 on the steep
ones uphill. The policy without memory then earns 699 and 858, and 136 and 404.

Fine-tuning helps a walker that falls and harms one that does not. Of the two walkers trained on
level ground alone, the one that falls on most steep slopes learns to fall less: 85 % of its first
ten episodes uphill and 80 % of those downhill end in a fall, and 41 % and 48 % of its last ten.
From the first round to the last it gains 138 and 324 points. The other walker falls less from the
start, and no interval of its gains is above zero. The two that were trained on slopes learn to
fall on those: in 11 % and 27 % of the last ten episodes, compared with 1 % and 6 % of the first
ten, and they lose 133 and 199 points. From scratch, forty episodes are not even enough to learn
to stand.

A memory can also fail. RL² is trained in trials of two episodes and evaluated for forty. One of
the two half-cheetahs trained on slopes keeps its speed in all of them. Of the other, 11 of the 32
robots that are not on steep slopes uphill stop one by one, most of them between the seventh
episode and the last, and never start again (1710 in the first episode of the steeper slopes
downhill, 20 in the last). The same agent with a memory that is reset every two episodes
(`reset_memory_every=2`) does not stop permanently anywhere: there it earns 1705 in the first
episode and 1647 in the last.""",
    caveats=(
        "Fine-tuning has the learning rate 3e-4. On 16 training tasks of half-cheetah-climb its "
        "return after 40 episodes was 1.4, -0.1 and -43.8 with the rates 1e-4, 3e-4 and 1e-3: none "
        "gains.",
        "RL² was trained in trials of two episodes and is evaluated for 40.",
        "The trainings shared two cores with other work: their times do not measure speed.",
    ),
)
