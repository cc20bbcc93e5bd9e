"""Recognising classes after a few pictures of unseen characters."""

from metarl.experiments.studies.study import EvalSpec, Learner, Study

_GUESSING = (
    "trained for a tenth of the env steps: without memory no agent can do better than guess, "
    "because the classes of a task are numbered at random"
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
    question="Characters that are not in the training, one at a time: how often does the agent "
    "name the class correctly, after how many labelled pictures?",
    learners={
        "five-ways": _learners("glyphs-5way"),
        "cats": _learners("glyphs-cats"),
        "cat-faces": _learners("glyphs-cats"),
    },
    evaluations=[
        EvalSpec("five-ways", "glyphs-5way", num_tasks=200, num_episodes=50),
        EvalSpec("cats", "glyphs-cats", num_tasks=200, num_episodes=20),
        EvalSpec("cat-faces", "glyphs-cats", split="faces", num_tasks=200, num_episodes=20),
    ],
    seeds=(0, 1, 2),
    answer="""\
A meta-trained agent recognises new characters. Of five classes, RL² names 99% correctly at the
end of 50 pictures, ten of each. It distinguishes cats from other characters in 98% of the cases
at the end of 20 pictures, although it had never seen a cat before. Cats among other faces are
harder: 69% to 84%. A policy without memory can only guess, and training on by gradient steps on
so few pictures gains next to nothing.""",
    caveats=(
        "The curves count labelled pictures of any class. Papers count presentations of the same "
        "class; `python -m metarl.experiments.studies.presentations RUN` prints that.",
    ),
)
