"""Recognising classes after a few pictures of unseen characters."""

from metarl.experiments.studies.study import EvalSpec, Learner, Study


def _learners(family: str) -> list[Learner]:
    return [
        Learner("RL², episodic memory", "rl2", family),
        Learner("multi-task", "multi-task", family, None, 100_000),
        Learner("fine-tune", "fine-tune", family, "multi-task", 100_000),
        Learner("random actions", "random"),
    ]


STUDY = Study(
    name="few-shot",
    title="Few shots",
    question="Characters that are not in the training, one at a time: how often does the agent "
    "name the class correctly, after how many labelled pictures?",
    evaluations=[
        EvalSpec(name, family, _learners(family), split=split, num_tasks=200, num_episodes=pictures)
        for name, family, split, pictures in (
            ("five-ways", "glyphs-5way", "held_out", 50),
            ("cats", "glyphs-cats", "held_out", 20),
            ("cat-faces", "glyphs-cats", "faces", 20),
        )
    ],
    seeds=(0, 1, 2),
    answer="""\
A meta-trained agent recognises new characters. Of five classes, RL² names
{five-ways/RL²/last:~.1%} correctly at the end of 50 pictures, ten of each (three seeds). It
distinguishes cats from other characters in {cats/RL²/last:~.1%} of the cases at the end of 20
pictures, although it had never seen a cat before. Cats among other faces are harder:
{cat-faces/RL²/last:~.1%}. A policy without memory can only guess, and training on by gradient
steps on so few pictures gains next to nothing.""",
    claims={
        "RL² recognises new characters": lambda q: (
            min(q["five-ways/RL²/last"]) > 0.95 and min(q["cats/RL²/last"]) > 0.95
        ),
        "cats among other faces are harder": lambda q: (
            max(q["cat-faces/RL²/last"]) < min(q["cats/RL²/last"])
        ),
        "a policy without memory can only guess": lambda q: (
            max(q["five-ways/multi-task/last"]) < 0.3 and max(q["cats/multi-task/last"]) < 0.6
        ),
        "gradient steps on so few pictures gain next to nothing": lambda q: all(
            max(q[f"{evaluation}/fine-tune/gain"]) < 0.06
            for evaluation in ("five-ways", "cats", "cat-faces")
        ),
    },
    caveats=(
        "The curves count labelled pictures of any class. Papers count presentations of the same "
        "class; `python -m metarl.experiments.studies.presentations RUN` prints that.",
        "multi-task: trained for a tenth of the env steps: without memory no agent can do better "
        "than guess, because the classes of a task are numbered at random",
        "fine-tune: starts from multi-task",
    ),
)
