"""A study's jobs on a Ray cluster: each is a task, which Ray places, and repeats if it is killed.

A machine with access to the study's folders, for example on a shared file system, works in them, so
a repeated job continues from its checkpoint. Other machines receive the agents that a job needs and
return its files; there a killed job restarts, unless it comes to the same machine again.
"""

import contextlib
import logging
import os
import shutil
import socket
import tempfile
import traceback
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metarl.errors import Interrupted, InvalidValueError, MetarlError, MissingPackageError
from metarl.experiments.studies.jobs import RUNNING_ELSEWHERE, Job, Places, find_job, perform
from metarl.files import atomic_write, open_to_write

Files = Mapping[str, bytes]
"""Files by their paths below the folder of results."""
RETRIES = 5
"""How often a job is repeated whose process, or machine, was lost."""
CANCELLED = 130


@dataclass(frozen=True)
class RemoteJob:
    """What a worker is given.

    Attributes:
        job: The study's name, as on the command line, its budget, and the key of the job.
        folder: The engine's working directory.
        places: Where the engine reads and writes.
        token: A file of the engine; a worker that finds it shares the engine's folders.
        log: Where the job's output goes.
        files: The files that the job needs.
    """

    job: tuple[str, float, str]
    folder: Path
    places: Places
    token: Path
    log: Path
    files: Files


class Cluster:
    """A Ray cluster, as an engine needs it.

    Args:
        address: Of the cluster's head, as ``ray.init`` takes it; ``local`` starts one here.
        study: The study's name, as on the command line.
        budget: The study's budget.
        places: Where the engine reads and writes.

    Attributes:
        num_cores: How many cores it has.

    Raises:
        ImportError: If Ray is not installed.
        ValueError: If no cluster answers at the address.
    """

    def __init__(self, address: str, study: str, budget: float, places: Places):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            raise MissingPackageError(
                "--ray needs Ray: pip install 'metarl-suite[ray]', here and on the cluster"
            ) from None
        self._ray = ray
        where = {"include_dashboard": False} if address == "local" else {"address": address}
        try:
            host, _, port = address.rpartition("/")[2].rpartition(":")
            if port.isdigit():  # Ray itself would try for minutes
                socket.create_connection((host, int(port)), timeout=10).close()
            ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise InvalidValueError(
                f"no Ray cluster answers at {address!r} ({reason}); start one with: ray start "
                "--head, or give --ray local"
            ) from None
        self.num_cores = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
        # Ray repeats jobs of dead workers; a job's exceptions come back as its status.
        self._do = ray.remote(num_cpus=1, max_retries=RETRIES)(do)
        self._study, self._places = (study, budget), places
        self._token = places.work.resolve() / f"ray-{uuid.uuid4().hex}"
        atomic_write(self._token, "")

    def start(self, job: Job, log: Path) -> "Task":
        """Hand a job to the cluster."""
        needed = [self._places.agent(other.training) for other in job.needs]
        results = self._places.results
        remote_job = RemoteJob(
            job=(*self._study, job.key),
            folder=Path.cwd(),
            places=self._places,
            token=self._token,
            log=log.resolve(),
            files={str(path.relative_to(results)): path.read_bytes() for path in needed},
        )
        return Task(self._ray, self._do.remote(remote_job), remote_job)

    def close(self) -> None:
        """Leave the cluster."""
        self._token.unlink(missing_ok=True)
        self._ray.shutdown()


class Task:
    """A running job on a cluster, with the methods of a process that an engine calls."""

    def __init__(self, ray: Any, reference: Any, remote_job: RemoteJob):
        self._ray, self._reference, self._remote_job = ray, reference, remote_job
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, or None while the job is under way."""
        if self.returncode is None and self._ray.wait([self._reference], timeout=0)[0]:
            self.returncode = self._finish()
        return self.returncode

    def _finish(self) -> int:
        try:
            status, files, output = self._ray.get(self._reference)
        except self._ray.exceptions.TaskCancelledError:
            return CANCELLED
        except self._ray.exceptions.RayError as error:
            status, files, output = 1, {}, f"{error}\n".encode()
        with open_to_write(self._remote_job.log, "ab") as log:
            log.write(output)
        for name, data in files.items():
            atomic_write(self._remote_job.places.results / name, data)
        return int(status)

    def wait(self, timeout: float) -> None:
        """Wait for the job to end."""
        self._ray.wait([self._reference], timeout=timeout)

    def terminate(self) -> None:
        """Let the job save what it has learned, and end."""
        self._ray.cancel(self._reference, force=False)

    def kill(self) -> None:
        """End the job."""
        self._ray.cancel(self._reference, force=True)


def do(remote_job: RemoteJob) -> tuple[int, Files, bytes]:
    """Do a job, in a worker of the cluster.

    Returns:
        The exit status; and, if the engine does not see this machine's folders, the files that the
        job leaves, and its output.
    """
    with contextlib.suppress(OSError, AttributeError):  # give way to the machine's owner
        os.setpriority(os.PRIO_PROCESS, 0, 10)
    if remote_job.token.exists():
        os.chdir(remote_job.folder)
        with open_to_write(remote_job.log, "a") as log:
            return _perform(remote_job, remote_job.places, log), {}, b""
    # The same folder for all jobs of this engine: a repeated job may find its checkpoint.
    root = Path(tempfile.gettempdir()) / f"metarl-{remote_job.token.name}"
    root.mkdir(exist_ok=True)
    os.chdir(root)
    places = remote_job.places
    if places.results.is_absolute():
        places = Places(Path("results"), Path("work"), Path("results"))
    for name, data in remote_job.files.items():
        atomic_write(places.results / name, data)
    output = root / remote_job.log.name
    with output.open("w") as log:
        status = _perform(remote_job, places, log)
    job = find_job(*remote_job.job, places)
    left = [path for path in job.leaves if path.is_file()] if status == 0 else []
    files = {str(path.relative_to(places.results)): path.read_bytes() for path in left}
    if status == 0:
        shutil.rmtree(places.work / "trainings" / job.file_name, ignore_errors=True)
    return status, files, output.read_bytes()


def _perform(remote_job: RemoteJob, places: Places, log: Any) -> int:
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            return 0 if perform(find_job(*remote_job.job, places)) else RUNNING_ELSEWHERE
        except Interrupted as stop:
            print(stop)
            return CANCELLED
        except MetarlError as error:
            print(f"metarl: error: {error}")
        except Exception:
            traceback.print_exc()
    return 1
