"""Environments in worker processes, for environments that are slow to step."""

import contextlib
import functools
import itertools
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
from gymnasium.vector.utils import (
    CloudpickleWrapper,
    create_shared_memory,
    read_from_shared_memory,
)
from numpy.typing import NDArray

from metarl.batches import map_leaves, take
from metarl.distribution import TaskDistribution
from metarl.errors import InvalidTypeError, check_at_least
from metarl.seeding import Ids
from metarl.spaces import Values
from metarl.vector.env import Array, StepResult, TaskVectorEnv

if sys.platform == "linux":
    import fcntl

TIMEOUT = 300.0
"""Seconds after which a worker that does not answer is taken for dead."""
START = 120.0
"""Seconds that a worker has at least to import its packages and build its environments."""
GRACE = 5
"""Seconds that a worker whose parent has ended has to close its environments."""
_NAME = "metarl worker"
_UNGUARDED = 91
"""The exit code of a worker whose import of the main script tried to start workers again."""

Factory = Callable[..., TaskVectorEnv]


class WorkerError(RuntimeError):
    """A worker process failed: its environment raised, or it died, or it does not answer."""


def with_workers(
    tasks: TaskDistribution, num_workers: int, *, timeout: float = TIMEOUT
) -> TaskDistribution:
    """Return the same family with its environments in worker processes.

    The trajectories are the same, bit for bit, whatever the number of workers. Processes are
    started afresh (``spawn``), so a script that makes environments needs the usual
    ``if __name__ == "__main__":``.

    Args:
        tasks: The family.
        num_workers: How many processes share a batch.
        timeout: Seconds after which a worker that does not answer is taken for dead.

    Raises:
        TypeError: If ``num_workers`` is no integer.
        ValueError: If ``num_workers`` is below 1.
    """
    check_at_least(1, num_workers=num_workers)
    factory = functools.partial(
        WorkerVectorEnv, factory=tasks.env_factory, num_workers=num_workers, timeout=timeout
    )
    return replace(tasks, env_factory=factory)


def without_workers(tasks: TaskDistribution) -> TaskDistribution:
    """Return the same family with its environments in this process; the trajectories are the same.

    Args:
        tasks: A family, with workers or without.
    """
    factory = tasks.env_factory
    if isinstance(factory, functools.partial) and factory.func is WorkerVectorEnv:
        return replace(tasks, env_factory=factory.keywords["factory"])
    return tasks


class WorkerVectorEnv(TaskVectorEnv):
    """A batch whose sub-environments are divided among worker processes.

    Observations come back through shared memory. The processes start when they are first needed, at
    :meth:`set_tasks` or :meth:`reset`. They end with the process that started them, even if that is
    killed in the middle of a step.

    Args:
        num_envs: The number of sub-environments.
        factory: Builds the batch of a worker: ``factory(num_envs, **options)``.
        num_workers: The number of processes; at most one for each sub-environment is started.
        timeout: Seconds after which a worker that does not answer is taken for dead; to start it
            has ``START`` seconds at least.
        options: Passed to ``factory``.

    Raises:
        TypeError: If the factory cannot be sent to another process.
        WorkerError: If an environment raises, or a worker dies or does not answer. All workers
            are stopped then.
    """

    changes_within_episodes = False

    def __init__(
        self,
        num_envs: int,
        *,
        factory: Factory,
        num_workers: int,
        timeout: float = TIMEOUT,
        **options: Any,
    ):
        check_at_least(1, num_envs=num_envs, num_workers=num_workers)
        self._factory = _pickled(functools.partial(factory, **options))
        # Closed before a worker builds its own: there may be place for one only, as at a port.
        with contextlib.closing(factory(1, **options)) as probe:
            self.metadata = probe.metadata
        space = probe.single_observation_space
        self._context = multiprocessing.get_context("spawn")
        self._timeout, self._started = timeout, False
        self._shared: Any = None
        edges = np.linspace(0, num_envs, min(num_workers, num_envs) + 1).astype(int)
        self._lanes = [np.arange(a, b) for a, b in itertools.pairwise(edges)]
        self._connections: list[Connection] = []
        self._processes: list[BaseProcess] = []
        # The processes end with this object, in any case.
        self._stop = weakref.finalize(self, _stop, self._processes, self._connections)
        self._complete = False
        super().__init__(
            num_envs,
            parameters=probe.parameters,
            observation_space=space,
            action_space=probe.single_action_space,
            horizon=probe.horizon,
            render_mode=probe.render_mode,
        )
        self._complete = True

    def _start(self) -> None:
        """Start the workers: at the first order only, as many a batch is made for its spaces."""
        process = multiprocessing.current_process()
        # A worker that imports the main script; multiprocessing itself tests for it like this.
        if process.name.startswith(_NAME) and getattr(process, "_inheriting", False):
            sys.exit(_UNGUARDED)
        space = self.single_observation_space
        shared: Any = create_shared_memory(space, self.num_envs, self._context)  # type: ignore[arg-type]
        self._views: Values = read_from_shared_memory(space, shared, self.num_envs)
        # Its locks are files, which workers open by name as they start.
        self._shared = shared
        for number, lanes in enumerate(self._lanes, start=1):
            ours, theirs = self._context.Pipe()
            process = self._context.Process(
                target=_work,
                args=(
                    theirs,
                    self._factory,
                    space,
                    shared,
                    self.num_envs,
                    lanes,
                ),
                name=f"{_NAME} {number}",
                daemon=True,
            )
            self._connections.append(ours)
            process.start()
            theirs.close()
            self._processes.append(process)

    def set_parameters(self, columns: Mapping[str, Array]) -> None:
        if not self._complete:  # the default tasks, which workers build their environments with
            return
        parts = [{n: column[lanes] for n, column in columns.items()} for lanes in self._lanes]
        self._ask("set_parameters", parts)

    def seed_lanes(self, seed: int) -> None:
        super().seed_lanes(seed)
        self._ask("seed", [seed + int(lanes[0]) for lanes in self._lanes])

    def reset_lanes(self, ids: Ids) -> Values:
        self._ask("reset", self._divide(ids))
        return self._seen(ids)

    def step_lanes(self, ids: Ids, actions: Values) -> StepResult:
        chosen = np.arange(self.num_envs)[ids]
        divided = self._divide(ids)
        orders = [
            (local, take(actions, np.isin(chosen, lanes))) if len(local) else None
            for local, lanes in zip(divided, self._lanes)
        ]
        answers = [answer for answer in self._ask("step", orders) if answer is not None]
        # Sub-environments are asked for in ascending order, so the parts lie behind one another.
        rewards, terminated, truncated, success = zip(*answers)
        return StepResult(
            self._seen(ids),
            np.concatenate(rewards),
            np.concatenate(terminated),
            _joined(truncated, rewards),
            _joined(success, rewards),
        )

    def _divide(self, ids: Ids) -> list[NDArray[np.intp]]:
        """Return for each worker which of its own sub-environments are among ``ids``."""
        chosen = np.zeros(self.num_envs, dtype=np.bool_)
        chosen[ids] = True
        return [np.flatnonzero(chosen[lanes]) for lanes in self._lanes]

    def _seen(self, ids: Ids) -> Values:
        return map_leaves(np.copy, take(self._views, ids))

    def _ask(self, order: str, arguments: Sequence[Any]) -> list[Any]:
        """Give an order to all workers at once, and return their answers."""
        if not self._stop.alive:
            raise WorkerError("the worker processes are stopped; make the environments again")
        if not self._processes:
            try:
                self._start()
            except BaseException:
                self._stop()
                raise
        for worker, argument in enumerate(arguments):
            try:
                self._connections[worker].send((order, argument))
            except (BrokenPipeError, ConnectionError):
                self._fail(worker, order, self._death(worker))
        deadline = time.monotonic() + self._patience
        answers = [self._answer(worker, order, deadline) for worker in range(len(arguments))]
        self._started, self._shared = True, None
        return answers

    @property
    def _patience(self) -> float:
        """How long to wait for an answer, in seconds."""
        return self._timeout if self._started else max(self._timeout, START)

    def _answer(self, worker: int, order: str, deadline: float) -> Any:
        connection = self._connections[worker]
        if not connection.poll(max(0.0, deadline - time.monotonic())):
            self._fail(worker, order, f"did not answer within {self._patience:g} s")
        try:
            kind, answer = connection.recv()
        except (EOFError, ConnectionError):
            self._fail(worker, order, self._death(worker))
        if kind == "raised":
            self._fail(worker, order, f"raised:\n\n{answer}")
        return answer

    def _death(self, worker: int) -> str:
        self._processes[worker].join(5.0)
        code = self._processes[worker].exitcode
        if code == _UNGUARDED:
            self._stop()
            raise WorkerError(
                "a worker process imports the main script, and this one would start workers "
                'again: put what it runs under `if __name__ == "__main__":`'
            ) from None
        return f"died (exit code {code})"

    def _fail(self, worker: int, order: str, what: str) -> None:
        self._stop()
        lanes = self._lanes[worker]
        tasks = ", ".join(str(self.tasks[int(i)]) for i in lanes[:3])
        more = ", ..." if len(lanes) > 3 else ""
        raise WorkerError(
            f"worker {worker + 1} of {len(self._lanes)}, at {order.replace('_', ' ')}, with "
            f"{tasks}{more}: {what}"
        ) from None

    def render(self) -> Any:
        """Return the picture of every sub-environment."""
        answers = self._ask("render", [None] * len(self._lanes))
        if self.render_mode is None:
            return None
        return tuple(picture for part in answers for picture in part)

    def close_extras(self, **kwargs: Any) -> None:
        """Stop the workers."""
        self._stop()


def _joined(flags: Sequence[Array | None], rewards: Sequence[Array]) -> NDArray[np.bool_] | None:
    """Return the flags of all workers; those of a worker that has none are False."""
    if all(part is None for part in flags):
        return None
    empty = (np.zeros(len(part), dtype=np.bool_) for part in rewards)
    return np.concatenate([no if part is None else part for part, no in zip(flags, empty)])


def _stop(processes: Sequence[BaseProcess], connections: Sequence[Connection]) -> None:
    """Stop workers: those that are idle end by themselves, the others are killed."""
    for connection in connections:
        connection.close()  # ends a worker's waiting for orders
    deadline = time.monotonic() + 1.0
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _pickled(factory: Factory) -> bytes:
    """Return a factory as bytes; a lambda too, which the standard pickle refuses.

    Raises:
        TypeError: If it holds what cannot be sent to another process.
    """
    try:
        return pickle.dumps(CloudpickleWrapper(factory))
    except Exception as error:
        raise InvalidTypeError(
            f"the environments' factory cannot be sent to a worker process: {error}; make such an "
            "object inside the factory, or use no workers"
        ) from error


class _EndsWithParent:
    """Inside the ``with`` block this process ends when its parent does, whatever it is doing.

    On Linux the kernel kills it. Elsewhere a thread ends it; compiled code that holds Python's lock
    delays that thread.
    """

    def __init__(self) -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        self._pid, self._sentinel = parent.pid, parent.sentinel
        if sys.platform == "linux":
            # A pipe whose other end is closed when the parent ends.
            fcntl.fcntl(self._sentinel, fcntl.F_SETOWN, os.getpid())
            fcntl.fcntl(self._sentinel, fcntl.F_SETSIG, signal.SIGKILL)
        else:
            threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> None:
        if sys.platform == "linux":
            fcntl.fcntl(self._sentinel, fcntl.F_SETFL, os.O_ASYNC)
            if os.getppid() != self._pid:  # it has ended before
                os._exit(1)

    def __exit__(self, *error: object) -> None:
        if sys.platform == "linux":
            fcntl.fcntl(self._sentinel, fcntl.F_SETFL, 0)

    def _watch(self) -> None:
        wait([self._sentinel])
        time.sleep(GRACE)
        os._exit(1)


def _work(
    connection: Connection,
    factory: bytes,
    space: Any,
    shared: Any,
    num_envs: int,
    lanes: NDArray[np.intp],
) -> None:
    """Build a part of the batch, and carry out orders until the connection ends."""
    # Ctrl-C reaches all processes of a terminal; the parent process handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    views = read_from_shared_memory(space, shared, num_envs)
    ends_with_parent = _EndsWithParent()
    env: Any = None
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            order, argument = connection.recv()
            try:
                with ends_with_parent:
                    if env is None:
                        env = pickle.loads(factory).fn(len(lanes))
                    answer = _carry_out(env, order, argument, views, lanes)
            except BaseException:
                connection.send(("raised", traceback.format_exc()))
            else:
                connection.send(("done", answer))
    if hasattr(signal, "alarm"):  # the kernel ends what hangs while it closes
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(GRACE)
    if env is not None:
        env.close()


def _carry_out(
    env: TaskVectorEnv, order: str, argument: Any, views: Values, lanes: NDArray[np.intp]
) -> Any:
    def show(observations: Values, ids: NDArray[np.intp]) -> None:
        def put(view: Array, part: Array) -> None:
            view[lanes[ids]] = part

        map_leaves(put, views, observations)

    if order == "set_parameters":
        return env.set_parameters(argument)
    if order == "seed":
        return env.seed_lanes(argument)
    if order == "reset" and len(argument):
        env.elapsed[argument] = 0
        return show(env.reset_lanes(argument), argument)
    if order == "step" and argument is not None:
        ids, actions = argument
        result = env.step_lanes(ids, actions)
        env.elapsed[ids] += 1  # for messages
        show(result.observations, ids)
        return result.rewards, result.terminated, result.truncated, result.success
    if order == "render":
        return env.render()
    return None
