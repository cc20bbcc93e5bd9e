"""Short runs made by the command line, and what its tests do with them."""

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metarl.agents.presets import find_preset
from metarl.evaluation.archive import read_archive, write_archive
from metarl.experiments.cli import commands
from metarl.experiments.cli.main import main

SMALL = [
    *("--threads", "1", "--total-timesteps", "160", "--set", "trials_per_iteration=8"),
    *("--set", "trials_per_minibatch=4", "--set", "n_epochs=1"),
    *("--set", 'policy_kwargs={"hidden_size": 8}'),
]


@contextmanager
def small_evaluations():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            commands, "find_preset", lambda *names: replace(find_preset(*names), num_eval_tasks=8)
        )
        yield


def train_two(root):
    """Train two runs; return their directories."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for seed in ("0", "1"):
            assert main(["train", "rl2", "bandit-10x5", *SMALL, "--seed", seed]) == 0
    return root / "runs" / "rl2-bandit-10x5-seed0", root / "runs" / "rl2-bandit-10x5-seed1"


def edit(run, change):
    """Change a run's config.json."""
    config = json.loads((run / "config.json").read_text())
    change(config)
    (run / "config.json").write_text(json.dumps(config))


def edit_archive(path, changes, header=lambda header: header):
    """Change entries of an archive's header, or its arrays, by name; ``...`` removes one.

    Args:
        path: The archive.
        changes: The new values by name.
        header: Returns the part of the header that entries are changed in.
    """
    head, arrays = read_archive(path)
    for name, value in changes.items():
        place = arrays if name in arrays or isinstance(value, np.ndarray) else header(head)
        if value is ...:
            del place[name]
        else:
            place[name] = np.asarray(value) if place is arrays else value
    write_archive(path, head, arrays)


def contents(directory):
    return {path: path.read_bytes() for path in Path(directory).rglob("*") if path.is_file()}


def refusal(arguments, capsys):
    """Run a command that must fail; return its one sentence."""
    assert main(arguments) == 2
    shown = capsys.readouterr().err.strip().splitlines()
    assert len(shown) == 1
    assert shown[0].startswith("metarl: error: ")
    return shown[0]


def write_family(name, family, *, references=()):
    """Write a module ``mine`` with a bandit-like family whose rewards are not 0 or 1."""
    Path(f"{name}.py").write_text(
        "from dataclasses import replace\n"
        "import toys\n"
        f"tasks = replace(toys.risk(), name={family!r}, references={tuple(references)!r})\n"
    )
