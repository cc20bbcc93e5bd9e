"""Games with unseen rules; the positions change in every episode."""

from metarl.experiments.studies.study import EvalSpec, Learner, Study

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
        note="trained for 12M env steps; it hardly improves after that",
    ),
    Learner("random actions", "random"),
]

STUDY = Study(
    name="new-games",
    question="A board game with unseen rules: does an agent infer them within a few episodes, and "
    "play well?",
    learners={"new-rules": _LEARNERS, "unseen-controls": _LEARNERS, "unseen-objects": _LEARNERS},
    evaluations=[
        EvalSpec("new-rules", FAMILY, num_tasks=1000, num_episodes=8),
        EvalSpec(
            "unseen-controls", FAMILY, split="unseen_controls", num_tasks=1000, num_episodes=8
        ),
        EvalSpec("unseen-objects", FAMILY, split="unseen_objects", num_tasks=1000, num_episodes=8),
    ],
    seeds=(0, 1, 2),
    answer="""\
Yes, if the controls are of a kind that training includes. In games with new rules RL² (three
seeds) earns about three times as much in its second episode as in its first (interquartile means
of 2.46, 2.66 and 2.58 against 0.83, 1.00 and 0.80; 2.1 to 2.4 times in means over all games). In
its eighth it earns 80%, 92% and 89% of the return of an oracle that observes the rules. A policy
without memory, trained on the same games for the same number of env steps (two seeds), earns 0.1
to 0.2, because what to do depends on rules that it cannot infer. New kinds of objects (doors that
lead anywhere) do not confuse RL². They do confuse the oracle, which never observed doors in
training. Neither copes with new controls: agents trained only on normal controls, or with one
pair of directions swapped, do no better than random actions on other mappings.""",
)
