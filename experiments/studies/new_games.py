"""Who masters a game that nobody has shown it: rules are new, positions are in every episode."""

from metarl.experiments.studies.study import Judging, Learner, Study

FAMILY = "games-7x7"

_LEARNERS = [
    Learner("RL²", "rl2", FAMILY),
    Learner("multi-task", "multi-task", FAMILY),
    Learner(
        "oracle, given the rules",
        "rl2",
        FAMILY,
        view={"oracle": True},
        total_timesteps=12_000_000,
        note="trained for 12M env steps, after which it hardly improves any more",
    ),
    Learner("random actions", "random"),
]

STUDY = Study(
    name="new-games",
    question="A board game with rules that it has never seen: does a player find them out within a "
    "few episodes, and play well?",
    learners={"new-rules": _LEARNERS, "unseen-controls": _LEARNERS, "unseen-objects": _LEARNERS},
    judgings=[
        Judging("new-rules", FAMILY, num_tasks=1000, num_episodes=8),
        Judging("unseen-controls", FAMILY, split="unseen_controls", num_tasks=1000, num_episodes=8),
        Judging("unseen-objects", FAMILY, split="unseen_objects", num_tasks=1000, num_episodes=8),
    ],
    seeds=(0, 1, 2),
    answer="""\
Yes, where the controls are of a kind that training has had. In games with new rules RL² (three
seeds) earns about three times as much in its second episode as in its first (2.46, 2.66 and
2.58 against 0.83, 1.00 and 0.80), and in its eighth 80%, 92% and 89% of what an oracle earns
that is given the rules. A policy without memory, trained on the same games for as many env steps
(two seeds), earns 0.1 to 0.2: what to do depends on rules that it cannot find out. New
kinds of objects (doors that lead anywhere) do not confuse RL², while they do confuse the
oracle, which was never shown doors in training. New controls are beyond both: who has only
met controls as usual, or with one pair of directions exchanged, does not find out others, and
plays like random actions.""",
)
