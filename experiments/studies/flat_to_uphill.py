"""Robots trained on the flat, or on gentle slopes, evaluated on steep ones."""

from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from metarl.experiments.studies.study import EvalSpec, Learner, Records, Study

STEPS = 12_000_000
ANGLES = tuple(float(angle) for angle in range(-20, 21, 2))
CLIMBS = tuple(angle for angle in ANGLES if angle)  # on level ground nothing is up


def _learners(family: str, trained_on: str = "", flat: str = "") -> list[Learner]:
    """Return the learners of a family, and of level ground if there is such a family."""
    rl2 = Learner(f"RL²{trained_on}", "rl2", family)
    with_resets = replace(
        rl2,
        label=f"{rl2.label}, with resets",
        adaptation={"reset_memory_every": 2},
    )
    ceiling = Learner(
        "oracle of all slopes",
        "rl2",
        family,
        view={"train_split": "any", "oracle": True},
    )
    learners = [
        rl2,
        with_resets,
        rl2.without_memory(),
        Learner("RL², flat", "rl2", flat),
        Learner(f"MAML{trained_on}", "maml", family),
        Learner(f"multi-task{trained_on}", "multi-task", family),
        Learner("multi-task, flat", "multi-task", flat),
        Learner(f"fine-tune{trained_on}", "fine-tune", family, trained_as="multi-task"),
        Learner("fine-tune, flat", "fine-tune", flat, trained_as="multi-task"),
        Learner("from scratch", "from-scratch"),
        Learner("oracle, given the slope", "rl2", family, view={"oracle": True}),
        ceiling,
        Learner("random actions", "random"),
    ]
    # Where no agent is trained on level ground, none is evaluated with resets either.
    return [each for each in learners if flat or (each.family != "" and not each.adaptation)]


_BODIES = {
    body: _learners(f"{body}-slope", ", slopes", f"{body}-flat-varied")
    for body in ("half-cheetah", "walker2d")
}
_GAINING = ("RL², slopes", "RL², without memory", "multi-task, slopes", "oracle, given the slope")
"""Those whose gains are small, each with the same trainer, but one.

Of 1000 tasks a gain of 20 points shows; those of the grids are few, for 40 episodes each.
"""


_SLOPES = {
    "trained slopes, up to 10 degrees": lambda task: np.abs(task["degrees"]) <= 10.0,
    "uphill, 12 to 20": lambda task: task["degrees"] > 10.0,
    "downhill, 12 to 20": lambda task: task["degrees"] < -10.0,
}
_CLIMBS = {
    "trained slopes, up to 10 degrees": lambda task: np.abs(task["degrees"]) <= 10.0,
    "steeper, 12 to 20": lambda task: np.abs(task["degrees"]) > 10.0,
}


def _at_20_degrees(learner: str) -> Callable[[Records], list[float]]:
    return lambda q: [
        float(report.returns[report.tasks.columns["degrees"] == 20.0].mean())
        for report in q.reports(f"climb/{learner}")
    ]


def _falls(path: str, episodes: slice, seeds: slice) -> Callable[[Records], list[float]]:
    """Return the share of episodes that end early, in walkers that were fine-tuned."""
    return lambda q: [
        float((report.lengths < report.lengths.max())[:, episodes].mean())
        for report in q.reports(f"walker2d-angles/{path}")[seeds]
    ]


def _of_seed(path: str, seed: int) -> Callable[[Records], list[float]]:
    return lambda q: [q[path][seed]]


def _stopped(q: Records) -> NDArray[np.bool_]:
    """Return which robots of seed 1 that ran at first do not move in the last episode."""
    report = q.reports("half-cheetah-angles/RL², slopes")[1]
    returns = report.returns[report.tasks.columns["degrees"] <= 10.0]
    return np.asarray((returns[:, 0] > 300.0) & (returns[:, -1] < 100.0))


_FIRST, _LAST, _SEED_0, _BOTH = slice(10), slice(-10, None), slice(1), slice(2)
_DOWNHILL = "half-cheetah-angles/downhill/RL², slopes"
_QUANTITIES = {
    "gain on 2000 tasks": lambda q: [
        q.record(f"runs/rl2-half-cheetah-slope-seed{seed}").ends().gain.value for seed in (0, 1)
    ],
    "interval of seed 0": lambda q: astuple(
        q.record("runs/rl2-half-cheetah-slope-seed0").ends().gain
    )[1:],
    "share of the oracle": lambda q: [
        float(own / oracle)
        for own, oracle in zip(q["climb/trained/RL²/first"], q["climb/trained/oracle, given/first"])
    ],
    "MAML uphill": lambda q: [
        float((report.returns[:, :20] > 0.0).mean()) for report in q.reports("climb/trained/MAML")
    ],
    "RL² at 20 degrees": _at_20_degrees("RL²"),
    "oracle at 20 degrees": _at_20_degrees("oracle, given"),
    "steep oracle at 20 degrees": _at_20_degrees("oracle of all"),
    "falls uphill, first ten": _falls("uphill/fine-tune, flat", _FIRST, _SEED_0),
    "falls uphill, last ten": _falls("uphill/fine-tune, flat", _LAST, _SEED_0),
    "falls downhill, first ten": _falls("downhill/fine-tune, flat", _FIRST, _SEED_0),
    "falls downhill, last ten": _falls("downhill/fine-tune, flat", _LAST, _SEED_0),
    "falls on slopes, first ten": _falls("trained/fine-tune, slopes", _FIRST, _BOTH),
    "falls on slopes, last ten": _falls("trained/fine-tune, slopes", _LAST, _BOTH),
    "gain uphill": _of_seed("walker2d-angles/uphill/fine-tune, flat/gain", 0),
    "gain downhill": _of_seed("walker2d-angles/downhill/fine-tune, flat/gain", 0),
    "robots that stop": lambda q: [float(_stopped(q).sum())],
    "robots": lambda q: [float(len(_stopped(q)))],
    "first downhill": _of_seed(f"{_DOWNHILL}/first", 1),
    "last downhill": _of_seed(f"{_DOWNHILL}/last", 1),
    "first downhill, with resets": _of_seed(f"{_DOWNHILL}, with resets/first", 1),
    "last downhill, with resets": _of_seed(f"{_DOWNHILL}, with resets/last", 1),
}


def _none_gains(evaluation: str, learners: Sequence[str]) -> Callable[[Records], bool]:
    return lambda q: all(
        low <= 0.0
        for group, learner in product(_SLOPES, learners)
        for low in q[f"{evaluation}/{group}/{learner}/gain low"]
    )


_ADAPTIVE = ("RL², slopes", "RL², slopes, with resets", "RL², flat", "MAML, slopes")
_CLAIMS = {
    "RL² runs uphill in its first episode, nearly like an oracle": lambda q: (
        min(q["share of the oracle"]) > 0.8
    ),
    "MAML learns which way is up by one gradient step": lambda q: (
        max(q["climb/trained/MAML/first"]) < 0.0
        and min(q["climb/trained/MAML/after"]) > 150.0
        and min(q["climb/trained/MAML/gain low"]) > 0.0
    ),
    "neither fine-tuning nor learning from scratch gets up": lambda q: all(
        max(q[f"climb/trained/{learner}/last"]) < 50.0
        for learner in ("multi-task", "fine-tune", "from scratch")
    ),
    "no gain of RL² after its first episode is certain on climbs": lambda q: (
        max(q["climb/trained/RL²/gain low"]) <= 0.0
    ),
    "no half-cheetah gains from experience": _none_gains(
        "half-cheetah-angles", (*_ADAPTIVE, "fine-tune, slopes", "fine-tune, flat")
    ),
    "no walker that has learned to adapt gains from experience": _none_gains(
        "walker2d-angles", _ADAPTIVE
    ),
    "RL² gains about 1% on 2,000 tasks with one of two seeds": lambda q: (
        min(q["interval of seed 0"]) > 0.0
        and q["gain on 2000 tasks"][0] < 30.0
        and q.record("runs/rl2-half-cheetah-slope-seed1").ends().gain.low <= 0.0
    ),
    "oracles are no faster than RL² but steep uphill": lambda q: (
        max(q["half-cheetah-angles/trained/oracle, given/first"])
        < 1.1 * max(q["half-cheetah-angles/trained/RL², slopes/first"])
        and min(q["half-cheetah-angles/uphill/oracle, given/first"])
        > max(q["half-cheetah-angles/uphill/RL², slopes/first"])
    ),
    "fine-tuning helps the walker that falls, and not the other": lambda q: all(
        q[f"walker2d-angles/{where}/fine-tune, flat/gain low"][0] > 0.0
        and q[f"walker2d-angles/{where}/fine-tune, flat/gain low"][1] <= 0.0
        for where in ("uphill", "downhill")
    ),
    "the losses of fine-tuned walkers are within the intervals": lambda q: (
        min(q["walker2d-angles/trained/fine-tune, slopes/gain high"]) > 0.0
    ),
    "with resets no robot stops": lambda q: (
        q["last downhill, with resets"][0] > 0.9 * q["first downhill, with resets"][0]
    ),
}

STUDY = Study(
    name="flat-to-uphill",
    title="Flat to uphill",
    question="A robot trained on level ground, or on gentle slopes, starts on a steep one: which "
    "agents get up, and how soon?",
    evaluations=[
        EvalSpec(
            "half-cheetah-climb-angles",
            "half-cheetah-climb",
            _learners("half-cheetah-climb"),
            {"degrees": CLIMBS},
            num_tasks=4,
            num_episodes=40,
            groups=_CLIMBS,
        ),
        *(
            EvalSpec(
                f"{body}-angles",
                f"{body}-slope",
                learners,
                {"degrees": ANGLES},
                num_tasks=2,
                num_episodes=40,
                groups=_SLOPES,
            )
            for body, learners in _BODIES.items()
        ),
        *(
            EvalSpec(
                f"{body}-gain",
                f"{body}-slope",
                [learner for learner in learners if learner.label in _GAINING],
                num_tasks=1000,
                num_episodes=4,
            )
            for body, learners in _BODIES.items()
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
either of two bodies. On 2,000 half-cheetah tasks RL² gains {gain on 2000 tasks:.1f} points (two
seeds, of which the first one's interval, {interval of seed 0:~.1f}, is above zero), about 1%
([all runs](runs.md)).

On `half-cheetah-climb` the reward is the speed uphill, and uphill may be ahead or behind. RL²
earns {climb/trained/RL²/first:.0f} in its first episode (two seeds, slopes of at most 10
degrees), {share of the oracle:.0%} of the return of an oracle that observes the slope
({climb/trained/oracle, given/first:.0f}). Whether it gains more later is not certain: the
intervals of {climb/trained/RL²/gain:.0f} points hold zero. MAML first runs the wrong way in most
episodes: the return is positive in {MAML uphill:.1%} of them ({climb/trained/MAML/first:.0f}
points), and one gradient step on 20 episodes raises it to {climb/trained/MAML/after:.0f}. One
policy without memory stays where it is ({climb/trained/multi-task/first:.0f}), because it cannot
know the slope. Forty episodes of fine-tuning do not change that, because training has removed the
action noise that would explore, and they are far too few to learn from scratch. On slopes of 12
to 20 degrees, which are not in the training, RL² earns {climb/steeper/RL²/first:.0f} in its first
episode and {climb/steeper/RL²/last:.0f} in its last; the oracle earns {climb/steeper/oracle,
given/last:.0f} in its last. An oracle that was also trained on the steep slopes earns
{climb/steeper/oracle of all/last:.0f}. With 20 degrees ahead RL² slides back ({RL² at 20
degrees:.0f} over all episodes). Of the oracles trained on gentle slopes one gets up, very slowly
({oracle at 20 degrees:.0f}); both that were trained on steep slopes do ({steep oracle at 20
degrees:.0f}).

If the task is to run along x, up or down (`half-cheetah-angles`, two seeds of each agent), no
interval of a gain from experience is above zero. In its first episode RL² runs like one policy
without memory: {half-cheetah-angles/trained/RL², slopes/first:.0f} against
{half-cheetah-angles/trained/multi-task, slopes/first:.0f} on the trained slopes,
{half-cheetah-angles/downhill/RL², slopes/first:.0f} against
{half-cheetah-angles/downhill/multi-task, slopes/first:.0f} on 12 to 20 degrees downhill,
{half-cheetah-angles/uphill/RL², slopes/first:.0f} against {half-cheetah-angles/uphill/multi-task,
slopes/first:.0f} uphill. On the trained slopes and downhill, knowing the slope does not help: an
oracle that observes it runs no faster ({half-cheetah-angles/trained/oracle, given/first:.0f},
{half-cheetah-angles/downhill/oracle, given/first:.0f}). Steep uphill oracles earn more
({half-cheetah-angles/uphill/oracle, given/first:.0f}), but no agent infers the slope; an oracle
that was also trained on the steep slopes earns no more there ({half-cheetah-angles/uphill/oracle
of all/first:.0f}). MAML has learned least ({half-cheetah-angles/trained/MAML/first:.0f} on the
trained slopes), and its inner step changes nothing. Such returns do not need training on slopes:
after training on level ground alone, with varying bodies, RL² earns
{half-cheetah-angles/uphill/RL², flat/first:.0f} on the same slopes uphill. The policy without
memory then earns {half-cheetah-angles/uphill/multi-task, flat/first:.0f}, and
{half-cheetah-angles/uphill/fine-tune, flat/first:.0f} when it is evaluated again as the starting
point of fine-tuning.

On a second body (`walker2d-angles`, two seeds), too, no agent that has learned to adapt gains
from experience. In its first episode on the trained slopes RL² earns
{walker2d-angles/trained/RL², slopes/first:.0f}, a policy without memory
{walker2d-angles/trained/multi-task, slopes/first:.0f}, MAML
{walker2d-angles/trained/MAML/first:.0f}. Observing the slope matters less than the seed: the
oracles earn {walker2d-angles/trained/oracle, given/first:.0f}, and those trained on all evaluated
slopes {walker2d-angles/trained/oracle of all/first:.0f}. Uphill, on 12 to 20 degrees, RL² earns
{walker2d-angles/uphill/RL², slopes/first:.0f}, the policy without memory
{walker2d-angles/uphill/multi-task, slopes/first:.0f}, MAML
{walker2d-angles/uphill/MAML/first:.0f}, the oracles {walker2d-angles/uphill/oracle,
given/first:.0f}, and {walker2d-angles/uphill/oracle of all/first:.0f}. Here RL² earns more with
slopes in training: after level ground alone it earns {walker2d-angles/trained/RL²,
flat/first:.0f} on the slopes that the others were trained on, and {walker2d-angles/uphill/RL²,
flat/first:.0f} on the steep ones uphill. The policy without memory then earns
{walker2d-angles/trained/multi-task, flat/first:.0f}, and {walker2d-angles/uphill/multi-task,
flat/first:.0f}.

Fine-tuning helps a walker that falls. Of the two walkers trained on level ground alone, the one
of seed 0 falls on most steep slopes and learns to fall less: {falls uphill, first ten:.0%} of its
first ten episodes uphill and {falls downhill, first ten:.0%} of those downhill end in a fall, and
{falls uphill, last ten:.0%} and {falls downhill, last ten:.0%} of its last ten. From the first
round to the last it gains {gain uphill:.0f} and {gain downhill:.0f} points. The other walker
falls less from the start, and no interval of its gains is above zero. The two that were trained
on slopes fall more often after fine-tuning on those: in {falls on slopes, last ten:.0%} of the
last ten episodes, compared with {falls on slopes, first ten:.0%} of the first ten; their losses
({walker2d-angles/trained/fine-tune, slopes/gain:.0f} points) are within the intervals. From
scratch, forty episodes are not even enough to learn to stand.

A memory can also fail. RL² is trained in trials of two episodes and evaluated for forty. One of
the two half-cheetahs trained on slopes keeps its speed in all of them. Of the other, {robots
that stop:.0f} of the {robots:.0f} robots that are not on steep slopes uphill stop one by one,
most of them between the seventh episode and the last, and never start again (in the steeper
slopes downhill {first downhill:.0f} in the first episode, {last downhill:.0f} in the last). The
same agent with a memory that is reset every two episodes (`reset_memory_every=2`) does not stop
permanently anywhere: there it earns {first downhill, with resets:.0f} in the first episode and
{last downhill, with resets:.0f} in the last.""",
    quantities=_QUANTITIES,
    claims=_CLAIMS,
    caveats=(
        "Fine-tuning has the learning rate 3e-4. On 16 training tasks of half-cheetah-climb it did "
        "not gain with the rates 1e-4 and 1e-3 either; those returns are not stored.",
        "RL² was trained in trials of two episodes and is evaluated for 40.",
        "The trainings shared two cores with other work: their times do not measure speed.",
        "RL², slopes, with resets: the agents of RL², slopes, with a memory that is reset after "
        "two episodes, the length of their training trials",
        "oracle of all slopes: observes the slope, and is trained on all evaluated slopes: "
        "the upper reference for agents trained up to 10 degrees only, as far as 12M env steps "
        "reach it",
    ),
)
