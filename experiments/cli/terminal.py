"""The terminal of the command line: printing lines and handling signals."""

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
    """Print lines; control characters, for example in file names, are escaped."""
    print("\n".join(map(printable, text.split("\n"))), file=file)


def never_fail_at_characters() -> None:
    """Print ``?`` for characters that the encoding of the output lacks, such as ASCII."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


@contextlib.contextmanager
def handling(handler: Handler, *names: str) -> Iterator[None]:
    """Let a function handle signals inside a ``with`` block.

    Signals that the system does not have are skipped, and so is a hang-up that is ignored (nohup).
    Outside the main thread, which alone can handle signals, nothing changes.
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
