"""metarl: meta-reinforcement learning, agents that learn to learn.

The core: families of tasks, batched environments that hold a task each, adaptation, evaluation.
Environments live in :mod:`metarl.envs`, learners in :mod:`metarl.agents`.
"""

from metarl._version import __version__
from metarl.adaptation import Adaptation, Agent, Rollout, rollout
from metarl.checks import CheckResult, TaskCheck, check_tasks
from metarl.evaluation import evaluate
from metarl.parameters import Choice, LogUniform, Parameter, Uniform
from metarl.report import Report
from metarl.tasks import Task, TaskDistribution, Tasks
from metarl.trial import TrialEnv
from metarl.vector import TaskEnv, TaskVectorEnv, ToldVectorEnv

__all__ = [
    "Adaptation",
    "Agent",
    "CheckResult",
    "Choice",
    "LogUniform",
    "Parameter",
    "Report",
    "Rollout",
    "Task",
    "TaskCheck",
    "TaskDistribution",
    "TaskEnv",
    "TaskVectorEnv",
    "Tasks",
    "ToldVectorEnv",
    "TrialEnv",
    "Uniform",
    "__version__",
    "check_tasks",
    "evaluate",
    "rollout",
]
