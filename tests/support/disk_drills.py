"""Real disks that are full, read-only or gone, under real trainings; needs root, for ``mount``.

Run: ``python tests/support/disk_drills.py``. Each drill prints what the command line says, and
fails unless that names a file and the fix, and the run ends in the same bits once the disk is
repaired.
test_storage.py does the same with disks that only pretend.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

METARL = [sys.executable, "-m", "metarl.experiments.cli.main"]
FOREVER = 2_000_000
TRAIN = [
    *("train", "rl2", "bandit-10x5", "--total-timesteps", str(FOREVER), "--run-dir", "disk/run"),
    *("--set", "trials_per_iteration=8", "--set", "trials_per_minibatch=4", "--set", "n_epochs=1"),
    *("--set", 'policy_kwargs={"hidden_size":8}'),
]


def metarl(*words, code):
    """Run the command line; it must end with that code. Return the last line of its errors."""
    done = subprocess.run([*METARL, *words], capture_output=True, text=True, check=False)
    (*_, last) = ["", *done.stderr.strip().splitlines()]
    print(f"    $ metarl {' '.join(words[:2])} ... -> {done.returncode}: {last}")
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return last, done.stdout


@contextlib.contextmanager
def disk(size):
    """A disk of that size at ``disk``."""
    Path("disk").mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", "disk"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "disk"], check=True)


def remount(options):
    subprocess.run(["mount", "-o", f"remount,{options}", "disk"], check=True)


def full_at_a_checkpoint():
    """The log grows until there is no room for it, or for the next checkpoint."""
    with disk("160k"):
        last, _ = metarl(*TRAIN, code=2)
        assert "cannot write 'disk/run/" in last
        assert "No space left on device" in last
        assert last.endswith("continue with: metarl resume disk/run")
        assert {p.name for p in Path("disk/run").iterdir()} >= {"config.json"}
        assert not list(Path("disk/run").glob(".*"))


def lasting(steps):
    return [word.replace(str(FOREVER), str(steps)) for word in TRAIN]


def shorten(run, steps):
    config = run / "config.json"
    config.write_text(config.read_text().replace(str(FOREVER), str(steps)))


def full_and_fixed():
    """A run that is resumed on a greater disk ends as one that always had it."""
    with disk("160k"):
        metarl(*TRAIN, code=2)
        rows = (Path("disk/run/progress.csv")).read_text().count("\n")
        remount("size=50m")
        steps = (rows + 5) * 80
        shorten(Path("disk/run"), steps)
        metarl("resume", "disk/run", code=0)
        fixed = Path("disk/run/agent.safetensors").read_bytes()
    with disk("50m"):
        metarl(*lasting(steps), code=0)
        assert Path("disk/run/agent.safetensors").read_bytes() == fixed


def read_only():
    """A finished run on a read-only disk is evaluated, and says that nothing was kept."""
    with disk("50m"):
        metarl(*lasting(800), code=0)
        remount("ro")
        last, shown = metarl("evaluate", "disk/run", code=2)
        assert "held_out: 1000 tasks" in shown
        assert "cannot write 'disk/run/evaluation/held_out.npz': Read-only file system" in last
        last, _ = metarl("resume", "disk/run", code=2)
        assert "Read-only file system" in last
        last, _ = metarl(*[w.replace("disk/run", "disk/other") for w in TRAIN], code=2)
        assert "Read-only file system" in last


def removed():
    """A run directory that is removed during the training."""
    with disk("50m"):
        training = subprocess.Popen([*METARL, *TRAIN], stderr=subprocess.PIPE, text=True)
        log = Path("disk/run/progress.csv")
        while not log.exists() or log.stat().st_size < 10_000:
            assert training.poll() is None
        shutil.rmtree("disk/run")
        last = training.communicate()[1].strip().splitlines()[-1]
        print(f"    -> {training.returncode}: {last}")
        assert training.returncode == 2
        assert "'disk/run" in last
        assert not Path("disk/run").exists()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="metarl-disks-") as folder:
        os.chdir(folder)
        os.environ["XDG_CONFIG_HOME"] = folder
        for drill in (full_at_a_checkpoint, full_and_fixed, read_only, removed):
            print(f"{drill.__name__}: {drill.__doc__}", flush=True)
            drill()
