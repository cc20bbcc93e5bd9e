"""The command line: ``metarl list``, ``train``, ``resume``, ``evaluate``, ``compare`` and so on."""

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from metarl.errors import (
    DivergedError,
    Interrupted,
    MetarlError,
    RankError,
    check_at_least,
    check_at_most,
    printable,
)
from metarl.evaluation.report import versions
from metarl.experiments.cli.helping import overview, with_help
from metarl.experiments.cli.launch import (
    end_with_launcher,
    launch,
    leads,
    started_by_torchrun,
)
from metarl.experiments.cli.options import (
    ALL_TASKS,
    Agent,
    AgentOrNone,
    AgentOrRun,
    AgentToTrain,
    Data,
    ExportFile,
    Family,
    FamilyToList,
    Metrics,
    Names,
    NameToList,
    Output,
    Overrides,
    RunDir,
    RunDirs,
    Splits,
    StudyName,
    Trust,
    WhichTasks,
)
from metarl.experiments.cli.terminal import handling, never_fail_at_characters, say

# Each command imports what it runs: the help is there before PyTorch is.


def list_command(name: NameToList = None, tasks: FamilyToList = None, /) -> None:
    """List families of tasks and agents, or show one of them in full.

    Args:
        name: A family, a group of families, an agent (with its hyperparameters), or "agents" for
            all published agents.
        tasks: After an agent: the family whose preset to show; metarl train uses that preset.
    """
    from metarl.experiments.cli import listing

    listing.show(name, tasks)


def train_command(
    agent: AgentToTrain,
    tasks: Family,
    /,
    run_dir: Path | None = None,
    total_timesteps: int | None = None,
    data: Data = None,
    total_gradient_steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int = 1,
    overrides: Overrides = [],  # noqa: B006  (tyro reads the default)
    start: Path | None = None,
    teacher: Path | None = None,
    which: WhichTasks = ALL_TASKS,
    num_workers: int = 0,
    eval_every: int = 0,
    eval_num_tasks: int | None = None,
    eval_num_episodes: int | None = None,
    with_oracle: bool = False,
    processes: int = 1,
    dry_run: bool = False,
) -> None:
    """Train an agent on a family of tasks, then show how it adapts to held-out tasks.

    Args:
        agent: The agent; metarl list shows them. Your own: my_package.my_module:MyAgent.
        tasks: The family; metarl list shows them. Your own: my_package.my_module:tasks.
        run_dir: Where to keep the run (default: runs/AGENT-TASKS-seedN).
        total_timesteps: Env steps of training (default: the preset's).
        data: The histories that a learner from stored data learns from, as metarl record has
            written them.
        total_gradient_steps: Gradient steps of such a learner (default: the preset's).
        seed: The seed of everything.
        device: auto, cpu or cuda.
        threads: CPU threads of PyTorch. Changing this changes results slightly (rounding).
        overrides: A hyperparameter to change from the preset, value in JSON.
        start: A saved agent to start from, such as another run's agent.safetensors (default: random
            parameters).
        teacher: A run of an oracle, its agent.safetensors, or a reference that can teach, such as
            known-chemistry, whose actions rl2 imitates in its own trials; with --set
            teacher_share=0.5 in the first half of the training, before PPO (default: no teacher).
        which: The view of the family.
        num_workers: Worker processes that step the environments, where these are slow; the run is
            the same, bit for bit (default: none).
        eval_every: Iterations between two evaluations on validation tasks during training, for
            TensorBoard and progress.csv (default: only the evaluation at the end).
        eval_num_tasks: Held-out tasks of the evaluation at the end (default: the preset's).
        eval_num_episodes: Adaptation episodes of each of them (default: the preset's).
        with_oracle: Before it, train an oracle as long: a multi-task policy that is given the task.
            The run ends with how far the agent is from it, and what to try.
        processes: How many processes of this machine share the trials or tasks of the training;
            for several machines use torchrun.
        dry_run: Only print what would be trained, for how long, and where.
    """
    import torch

    from metarl.agents.training.ranks import init_distributed
    from metarl.experiments.cli import commands
    from metarl.experiments.runs.loading import check_divisible
    from metarl.experiments.runs.run import MAX_PROCESSES, MAX_THREADS, MAX_WORKERS

    given = {"eval_num_tasks": eval_num_tasks, "eval_num_episodes": eval_num_episodes}
    check_at_least(1, **{name: number for name, number in given.items() if number is not None})
    check_at_least(0, num_workers=num_workers, eval_every=eval_every)
    check_at_least(1, processes=processes)
    check_at_most(MAX_PROCESSES, processes=processes)
    check_at_most(MAX_WORKERS, num_workers=num_workers)
    check_at_least(1, threads=threads)
    check_at_most(min(max(64, os.cpu_count() or 1), MAX_THREADS), threads=threads)
    if processes > 1 and not dry_run and not started_by_torchrun():
        check_divisible(agent, processes)
        launch(processes, sys.argv[1:])
        return
    torch.set_num_threads(threads)
    with init_distributed():
        commands.train(
            agent,
            tasks,
            view=which.view,
            run_dir=run_dir,
            total_timesteps=total_timesteps,
            data=data,
            total_gradient_steps=total_gradient_steps,
            seed=seed,
            device=device,
            overrides=overrides,
            start=start,
            teacher=teacher,
            num_workers=num_workers,
            eval_every=eval_every,
            eval_num_tasks=eval_num_tasks,
            eval_num_episodes=eval_num_episodes,
            with_oracle=with_oracle,
            dry_run=dry_run,
            command=shlex.join(["metarl", *sys.argv[1:]]),
        )


def resume_command(run: RunDir, /, trust: Trust = None) -> None:
    """Continue a run that was stopped or killed. The result is the same as without a stop.

    Args:
        run: The run directory.
        trust: The module of the run's family or agent, which may be imported (default: those
            named before).
    """
    from metarl.agents.training.ranks import init_distributed
    from metarl.experiments.cli import commands
    from metarl.experiments.runs.run import Run

    processes = 1 if started_by_torchrun() else Run.open(run).processes
    if processes > 1:
        launch(processes, sys.argv[1:])
        return
    with init_distributed():
        commands.resume(run, trust=trust)


def evaluate_command(
    run: RunDir,
    /,
    split: str = "held_out",
    num_tasks: int | None = None,
    num_episodes: int | None = None,
    seed: int | None = None,
    overrides: Overrides = [],  # noqa: B006  (tyro reads the default)
    metrics: Metrics = [],  # noqa: B006  (tyro reads the default)
    trust: Trust = None,
) -> None:
    """Evaluate a run's agent: return per adaptation episode, on tasks of a split.

    Args:
        run: The run directory, or the name of a published run, such as rl2-gridnavi-seed0.
        split: The split of the family.
        num_tasks: How many tasks (default: as at the end of training).
        num_episodes: Adaptation episodes of each task (default: as at the end of training).
        seed: The seed of tasks, episodes and actions (default: the run's).
        overrides: A hyperparameter of acting to change from training, value in JSON, such as
            reset_memory_every=2 for rl2 or halve_inner_lr=true for maml.
        metrics: A column of your own in the table: a function of the report, as my_module:metric.
        trust: The module of the run's family or agent, which may be imported (default: those
            named before).
    """
    from metarl.experiments.cli import commands

    commands.evaluate_run(
        run,
        split=split,
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        seed=seed,
        overrides=overrides,
        metrics=metrics,
        trust=trust,
    )


def compare_command(
    runs: RunDirs,
    /,
    split: str = "held_out",
    output: Path = Path("comparison.png"),
    trust: Trust = None,
) -> None:
    """Compare the first run with the others, task by task, with intervals; and plot all.

    Runs that differ by their seeds only are one agent: its intervals are over seeds and tasks.
    Evaluations that are missing are made. If the tasks of all runs change (--changing), it also
    shows what they earn around the change, next to an oracle's if one is among them.

    Args:
        runs: The run directories, or names of published runs.
        split: The split of the family.
        output: Where to write the plot.
        trust: The module of the runs' family or agent, which may be imported (default: those
            named before).
    """
    from metarl.experiments.cli import comparing

    comparing.compare(runs, split=split, output=output, trust=trust)


def watch_command(
    run: RunDir,
    /,
    split: str = "held_out",
    output: Path | None = None,
    num_episodes: int | None = None,
    seed: int = 0,
    trust: Trust = None,
) -> None:
    """Film a run's agent in one task: its first and its last adaptation episode side by side.

    The task is the first of up to eight drawn ones in which the return rises.

    Args:
        run: The run directory, or the name of a published run.
        split: The split of the family to draw the task from.
        output: Where to write, as .gif or .mp4 (default: SPLIT-seedN.gif in the run's evaluation).
        num_episodes: Adaptation episodes the agent has in the task (default: the family's).
        seed: The seed of task, episodes and commands.
        trust: The module of the run's family or agent, which may be imported (default: those
            named before).
    """
    from metarl.experiments.cli import commands

    commands.watch(
        run, split=split, output=output, num_episodes=num_episodes, seed=seed, trust=trust
    )


def record_command(
    agent: AgentOrRun,
    tasks: Family,
    /,
    *,
    output: Output,
    num_tasks: int = 1000,
    num_episodes: int | None = None,
    split: str = "train",
    seed: int = 0,
    noise_from: float = 0.0,
    noise_to: float = 0.0,
    labels: AgentOrNone = None,
    which: WhichTasks = ALL_TASKS,
    trust: Trust = None,
) -> None:
    """Record histories: all steps of an agent in many tasks, to learn from. Rerun to continue.

    Args:
        agent: A run directory or the name of a published run; or an agent that needs no training,
            such as thompson-sampling, psrl or random. An oracle, such as known-goal, is given the
            task, which the recorded observations do not show.
        tasks: The family; metarl list shows them. Your own: my_package.my_module:tasks.
        output: Where to write.
        num_tasks: How many tasks, each with a history.
        num_episodes: Adaptation episodes of each task (default: the family's).
        split: The split of the family to draw tasks from.
        seed: The seed of tasks, episodes and actions.
        noise_from: The share of random actions in the first episode.
        noise_to: Their share in the last tenth of the episodes, with a linear change in between.
        labels: An oracle whose choice in each step is recorded too: known-best-arm, known-goal,
            known-mdp, or a run that was trained with --oracle.
        which: The view of the family.
        trust: The module of the run's family or agent, which may be imported (default: those
            named before).
    """
    from metarl.experiments.cli import recording

    recording.record_histories(
        agent,
        tasks,
        output,
        view=which.view,
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        split=split,
        seed=seed,
        noise=(noise_from, noise_to),
        labels=labels,
        trust=trust,
    )


def export_command(
    run: RunDir,
    /,
    *,
    output: ExportFile,
    overrides: Overrides = [],  # noqa: B006  (tyro reads the default)
    trust: Trust = None,
) -> None:
    """Write a run's agent as one file, to run it elsewhere.

    Args:
        run: The run directory, or the name of a published run.
        output: The file. FILE.onnx is one step of the agent as a graph, which runs without Python
            (needs the extra export); FILE.safetensors is the agent to be loaded by metarl, without
            what only training needs.
        overrides: A hyperparameter of acting to change from training, value in JSON, such as
            reset_memory_every=2 for rl2; may be repeated.
        trust: The module of the run's family or agent, which may be imported (default: those
            named before).
    """
    from metarl.experiments.cli.export import export

    export(run, output, overrides=overrides, trust=trust)


def study_command(
    name: StudyName = None,
    /,
    processes: int | None = None,
    budget: float = 1.0,
    dry_run: bool = False,
    results: Path | None = None,
    ray: str | None = None,
) -> None:
    """Run or resume the missing jobs of a study, then write its tables and figures.

    Args:
        name: The study; omit it to list all studies. Your own: my_module:my_study.
        processes: How many jobs run in parallel (default: one per core).
        budget: A factor on the env steps of all trainings, for a rehearsal in a separate folder.
        dry_run: Only print which jobs are missing and how long they would take.
        results: Where to store records and agents (default: experiments/results).
        ray: The address of a Ray cluster to run the jobs on; auto, or local (default: this machine,
            without Ray).
    """
    from metarl.experiments.studies import list_studies
    from metarl.experiments.studies.engine import run_study

    if name is None:
        say(list_studies())
        return
    run_study(name, processes=processes, budget=budget, dry_run=dry_run, results=results, ray=ray)


def tune_command(
    agent: Agent,
    tasks: Family,
    /,
    trials: int | None = None,
    minutes: float | None = None,
    total_timesteps: int | None = None,
    processes: int = 1,
    seed: int = 0,
    which: WhichTasks = ALL_TASKS,
    storage: Path | None = None,
) -> None:
    """Search for hyperparameters with Optuna, starting from the preset. Rerun to continue.

    Trials are scored on validation tasks, never on reported tasks.

    Args:
        agent: rl2 or maml.
        tasks: The family; metarl list shows them. Your own: my_package.my_module:tasks.
        trials: How many trials in all, including those of earlier searches (default: 30, or no
            limit with --minutes).
        minutes: How long to search from now on (default: no limit).
        total_timesteps: Env steps of each training (default: the preset's).
        processes: How many trials at once.
        seed: The seed of all trainings, of the evaluated tasks and of the search.
        which: The view of the family.
        storage: The file of the trials (default: runs/tune/AGENT-TASKS/journal.log).
    """
    import torch

    from metarl.experiments.tuning.search import tune
    from metarl.experiments.tuning.settings import Settings

    torch.set_num_threads(1)
    settings = Settings(agent, tasks, total_timesteps, seed, storage, which.view)
    tune(settings, trials=trials, minutes=minutes, processes=processes)


def report_command(
    names: Names,
    /,
    splits: Splits = ["held_out"],  # noqa: B006  (tyro reads the default)
    output: Path = Path("report.html"),
    no_pictures: bool = False,
    results: Path | None = None,
    trust: Trust = None,
) -> None:
    """Write one HTML page that shows how runs, or the learners of a study, adapt.

    Args:
        names: Run directories or names of published runs, all of one family; or one study.
        splits: The splits of the family to evaluate runs on.
        output: The page.
        no_pictures: Leave out the pictures of how first and last episodes in a task end.
        results: The folder of the study's results, where it ran with --results.
        trust: The module of the runs' family or agent, which may be imported (default: those
            named before).
    """
    from metarl.experiments.reports.gather import report

    report(
        names, splits=splits, output=output, pictures=not no_pictures, results=results, trust=trust
    )


_LONGEST = 1000  # characters of an error

_COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_command,
    "train": train_command,
    "resume": resume_command,
    "evaluate": evaluate_command,
    "compare": compare_command,
    "watch": watch_command,
    "record": record_command,
    "export": export_command,
    "study": study_command,
    "report": report_command,
    "tune": tune_command,
}
COMMANDS = {name: with_help(command) for name, command in _COMMANDS.items()}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments; those of the process if None. An empty list shows all commands.

    Returns:
        0 for success, 1 if the output pipe is closed, 2 for bad input, 130 if the user stopped a
        training.
    """
    end_with_launcher()
    never_fail_at_characters()
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments in ([], ["-h"], ["--help"]):
        print(overview(COMMANDS))
        return 0
    if arguments in (["-V"], ["--version"]):
        found = versions()
        metarl = found.pop("metarl")
        print(f"metarl {metarl} ({', '.join(f'{name} {of}' for name, of in found.items())})")
        return 0
    try:
        with handling(_interrupt, "SIGTERM", "SIGHUP"):
            tyro.extras.subcommand_cli_from_dict(
                COMMANDS,  # type: ignore[arg-type]
                prog="metarl",
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
            sys.stdout.flush()
    except (Interrupted, KeyboardInterrupt) as stop:
        if leads():
            print(printable(str(stop) or "interrupted"), file=sys.stderr)
        return 130
    except BrokenPipeError:  # metarl study | head
        # Flushing the rest of the output when the interpreter ends would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (MetarlError, OSError) as error:  # anything else is a bug, and shows its traceback
        if isinstance(error, (RankError, DivergedError)) and not leads():
            return 2  # the first process prints the error
        text = printable(str(error))
        if len(text) > _LONGEST:  # what is wrong is at its start, the way out at its end
            text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
        print(f"metarl: error: {text}", file=sys.stderr)
        return 2
    return 0


def _interrupt(signum: int, frame: Any) -> None:
    # After a failure torchrun ends the other processes; the error must still be printed.
    if not isinstance(sys.exc_info()[1], RankError):
        raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
