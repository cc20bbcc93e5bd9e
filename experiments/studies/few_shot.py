"""Recognising classes after a few pictures: characters that training has never shown."""

from metarl.experiments.studies.study import Judging, Learner, Study

_GUESSING = (
    "trained for a tenth of the env steps: without a memory nobody can do better than guess, as "
    "the classes of a task are numbered at random"
)


def _learners(family: str) -> list[Learner]:
    memoryless = Learner("multi-task", "multi-task", family, None, 100_000, note=_GUESSING)
    return [
        Learner("RL², episodic memory", "rl2", family),
        memoryless,
        Learner(
            "fine-tune", "fine-tune", family, "multi-task", 100_000, note="starts from multi-task"
        ),
        Learner("random actions", "random"),
    ]


STUDY = Study(
    name="few-shot",
    question="Characters that training has never shown, one at a time: how often is the class "
    "named right, after how many labelled pictures?",
    learners={
        "five-ways": _learners("glyphs-5way"),
        "cats": _learners("glyphs-cats"),
        "cat-faces": _learners("glyphs-cats"),
    },
    judgings=[
        Judging("five-ways", "glyphs-5way", num_tasks=200, num_episodes=50),
        Judging("cats", "glyphs-cats", num_tasks=200, num_episodes=20),
        Judging("cat-faces", "glyphs-cats", split="faces", num_tasks=200, num_episodes=20),
    ],
    seeds=(0, 1, 2),
    answer="""\
Who has learned to learn recognises new characters: of five classes, RL² names 99% right at the end
of 50 pictures, ten of each, and tells cats from others in 98% of the cases at the end of 20, though
it had never seen a cat before. Cats among other faces are harder: 69% to 84%. A policy without a
memory can only guess, and going on to learn by gradient steps from so few pictures gains next to
nothing.""",
    caveats=(
        "The curve is by the number of labelled pictures of any class. By presentations of the "
        "same class, which is how papers count: "
        "`python -m metarl.experiments.studies.presentations RUN`.",
    ),
)
