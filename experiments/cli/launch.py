"""Start several processes of this machine for one training."""

import ctypes
import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence

from metarl.experiments.cli.terminal import say

_LAUNCHER = "METARL_LAUNCHER"
_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, of the thread that forks: the launcher's main thread


def started_by_torchrun() -> bool:
    """Return whether ``torchrun`` or :func:`launch` started several processes, including this."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def leads() -> bool:
    """Return whether this is the first process of a training (or the only one)."""
    return os.environ.get("RANK", "0") == "0"


def restarted() -> bool:
    """Return whether ``torchrun --max-restarts`` has restarted this process."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def end_with_launcher() -> None:
    """Let the system kill this process if the launcher that started it is killed (on Linux).

    Otherwise it would continue training and block the run from being resumed.
    """
    launcher = os.environ.get(_LAUNCHER)
    if launcher is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != int(launcher):  # it has ended before
        os.kill(os.getpid(), signal.SIGKILL)


def launch(processes: int, arguments: Sequence[str]) -> None:
    """Run the command line in several processes of this machine, with ``torchrun``'s own parts.

    Args:
        processes: How many processes.
        arguments: The arguments of the command line.

    Raises:
        SystemExit: If it fails, with the exit status of the first process.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    # The processes print their errors themselves; the launcher would add pages of log.
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ[_LAUNCHER] = str(os.getpid())
    try:
        elastic_launch(config, sys.executable)("-m", "metarl", *arguments)
    except SignalException:
        sys.exit(130)
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        for rank, code in codes.items():
            if code < 0 and -code != signal.SIGTERM:  # SIGTERM: the launcher, after a peer failed
                say(
                    f"metarl: process {rank} of {processes} was killed (signal {-code}); continue "
                    "from the last checkpoint with: metarl resume RUN",
                    sys.stderr,
                )
        sys.exit(max(codes.get(0, 0), 0) or 2)
    finally:
        del os.environ[_LAUNCHER]
