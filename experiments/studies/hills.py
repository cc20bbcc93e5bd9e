"""A hill that begins ahead: robots trained on level ground and gentle hills, on steep ones."""

from metarl.experiments.studies.study import EvalSpec, Learner, Study

_SPLITS = {"gentle": "held_out", "steep": "steep", "steepest": "steepest", "valley": "valley"}


def _learners(family: str) -> list[Learner]:
    rl2 = Learner("RL²", "rl2", family)
    return [
        rl2,
        rl2.without_memory(),
        Learner("multi-task", "multi-task", family),
        Learner("oracle, given the hill", "rl2", family, view={"oracle": True}),
        Learner("random actions", "random"),
    ]


_OF = {body: _learners(f"{body}-hills") for body in ("half-cheetah", "walker2d")}

STUDY = Study(
    name="hills",
    title="Hills on the way",
    question="A robot trained on gentle hills meets a steep one in the middle of an episode: does "
    "it get over it, and does it help to have learned to adapt?",
    evaluations=[
        EvalSpec(
            f"{body}-{name}", f"{body}-hills", learners, split=split, num_tasks=200, num_episodes=4
        )
        for body, learners in _OF.items()
        for name, split in _SPLITS.items()
    ],
    seeds=(0, 1),
)
