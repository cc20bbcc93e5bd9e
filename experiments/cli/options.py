"""Arguments that commands of the command line share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from metarl.experiments.cli.helping import with_help
from metarl.views import View, view_of

AGENT_NAMES = (
    "ad, anil, dpt, e-maml, fine-tune, fomaml, from-scratch, maml, multi-task, promp, reptile, "
    "rl2, varibad"
)
"""The keys of :data:`metarl.agents.AGENTS`: importing those would import PyTorch for the help."""
NameToList = Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
FamilyToList = Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="TASKS")]
Agent = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="AGENT")]
AgentToTrain = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="AGENT",
        help=f"One of {AGENT_NAMES}; or your own, as my_package.my_module:MyAgent.",
    ),
]
Family = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TASKS")]
RunDir = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
StudyName = Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
Names = Annotated[list[str], tyro.conf.Positional, tyro.conf.arg(metavar="RUN|STUDY")]
Splits = Annotated[list[str], tyro.conf.UseAppendAction, tyro.conf.arg(name="split")]
RunDirs = Annotated[list[Path], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
Trust = Annotated[str | None, tyro.conf.arg(metavar="MODULE")]
Data = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]
ExportFile = Annotated[Path, tyro.conf.arg(name="to", metavar="FILE")]
Output = Annotated[Path, tyro.conf.arg(metavar="DIR")]
AgentOrRun = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="AGENT|RUN")]
AgentOrNone = Annotated[str | None, tyro.conf.arg(metavar="AGENT|RUN")]
Metrics = Annotated[
    list[str], tyro.conf.UseAppendAction, tyro.conf.arg(name="metric", metavar="MODULE:FUNCTION")
]
Overrides = Annotated[
    list[str], tyro.conf.UseAppendAction, tyro.conf.arg(name="set", metavar="NAME=VALUE")
]


@with_help
@dataclass(frozen=True)
class TaskOptions:
    """Which tasks of the family, and what is seen of them.

    Attributes:
        oracle: Put the task into the observation, which is what an oracle sees.
        num_train_tasks: How many tasks to train on (default: all that there are).
        train_split: The split to train on (default: train).
        train_tasks_seed: Another seed draws other --num-train-tasks.
        changing: Let each task become another one within the trial, which does not show.
    """

    oracle: bool = False
    num_train_tasks: int | None = None
    train_split: str | None = None
    train_tasks_seed: int = 0
    changing: bool = False

    @property
    def view(self) -> View:
        """The options of :func:`metarl.envs.make`."""
        return view_of(**vars(self))


WhichTasks = Annotated[TaskOptions, tyro.conf.arg(name="")]
ALL_TASKS = TaskOptions()
