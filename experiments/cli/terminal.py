"""What the command line has to do with its terminal: lines on it, and signals from it."""

import contextlib
import io
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO, TypeAlias

from metarl.errors import printable

Handler: TypeAlias = Callable[[int, Any], None]


def say(text: str, file: TextIO | None = None) -> None:
    """Print lines, in which no name of a file steers the terminal."""
    print("\n".join(map(printable, text.split("\n"))), file=file)


def never_fail_at_characters() -> None:
    """Let output in an encoding that lacks a character, such as ASCII, have ``?`` in its place."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


@contextlib.contextmanager
def handling(handler: Handler, *names: str) -> Iterator[None]:
    """Let a function handle signals for a while.

    Those that the system does not have are left out, and so is a hang-up that is ignored (nohup).
    In other threads than the main one, which cannot handle signals, nothing is changed.
    """
    old = {}
    if threading.current_thread() is threading.main_thread():
        for name in names:
            number = getattr(signal, name, None)
            present = signal.SIG_IGN if number is None else signal.getsignal(number)
            if number is not None and (name != "SIGHUP" or present is not signal.SIG_IGN):
                old[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, present in old.items():
            signal.signal(number, present)
