"""Agents of runs as files for other programs."""

from collections.abc import Sequence
from pathlib import Path

from metarl.errors import InvalidValueError
from metarl.experiments.cli.terminal import say
from metarl.experiments.publish.runs import open_run
from metarl.experiments.runs.loading import load_agent


def export(
    run_dir: Path, output: Path, *, overrides: Sequence[str] = (), trust: str | None = None
) -> None:
    """Write the agent of a run as a file, and print its size.

    Args:
        run_dir: The run directory, or the name of a published run.
        output: The file: ``.onnx`` is a graph of one step, ``.safetensors`` the agent without the
            state of its optimisers.
        overrides: ``name=value`` of hyperparameters of acting that shall not be as in training.
        trust: The module of the run's family or agent, where it may be imported.

    Raises:
        ImportError: If ``onnx`` is needed and not installed.
        ValueError: If the file has another ending, or such an agent cannot be exported.
    """
    if output.suffix not in (".onnx", ".safetensors"):
        raise InvalidValueError(
            f"--to must name a file that ends in .onnx or .safetensors, got {str(output)!r}"
        )
    learner = load_agent(open_run(run_dir), trust, overrides)
    if output.suffix == ".onnx":
        learner.export(output)
    else:
        learner.save(output, with_optimizers=False)
    say(f"{learner.name}: {output}, {output.stat().st_size / 1000:,.0f} kB")
