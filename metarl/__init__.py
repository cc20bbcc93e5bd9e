"""metarl: meta-reinforcement learning, agents that learn to learn.

The core: families of tasks, batches of environments with a task in each, adaptation, evaluation.
Environments live in :mod:`metarl.envs`, learners in :mod:`metarl.agents`.
"""

from metarl._version import __version__
from metarl.checks.check import CheckResult, TaskCheck, check_tasks
from metarl.distribution import TaskDistribution
from metarl.errors import MetarlError
from metarl.evaluation.adaptation import Adaptation, Agent, Rollout, Transition, rollout
from metarl.evaluation.differences import Comparison, Difference, compare
from metarl.evaluation.play import evaluate, play
from metarl.evaluation.report import Report
from metarl.parameters import Choice, Dirichlet, LogUniform, Normal, Parameter, Table, Uniform
from metarl.splits import Independent, TaskSampler, TaskSet
from metarl.tasks import Task, Tasks
from metarl.trial import TrialEnv
from metarl.vector.env import StepResult, TaskEnv, TaskVectorEnv
from metarl.vector.oracle import OracleVectorEnv
from metarl.vector.workers import with_workers

__all__ = [
    "Adaptation",
    "Agent",
    "CheckResult",
    "Choice",
    "Comparison",
    "Difference",
    "Dirichlet",
    "Independent",
    "LogUniform",
    "MetarlError",
    "Normal",
    "OracleVectorEnv",
    "Parameter",
    "Report",
    "Rollout",
    "StepResult",
    "Table",
    "Task",
    "TaskCheck",
    "TaskDistribution",
    "TaskEnv",
    "TaskSampler",
    "TaskSet",
    "TaskVectorEnv",
    "Tasks",
    "Transition",
    "TrialEnv",
    "Uniform",
    "__version__",
    "check_tasks",
    "compare",
    "evaluate",
    "play",
    "rollout",
    "with_workers",
]
