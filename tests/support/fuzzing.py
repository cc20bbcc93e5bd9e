"""The limits of a case of fuzz.py, and what is wrong with how one ended."""

import contextlib
import io
import signal
import traceback
import warnings
from dataclasses import dataclass

from metarl import MetarlError
from metarl.agents import AGENTS, MAML
from metarl.experiments.cli import main as cli

SECONDS, MEMORY = 5.0, 2**30

MAD = [
    *(None, True, False, 0, 1, -1, 2, 3, 1.5, -0.0, 1e-9, 1e308, -1e308, float("inf")),
    *(2**31, 2**31 - 1, 2**63, 2**64, -(2**63), 10**40, 10**400, "", "x", "0", "é", "nan", "[/x]"),
    *("\x1b[31mred", "a\nb", "../../x", "\ud800", "x" * 10_000, [], {}, [[]], [1, [2]], {"a": {}}),
    *([0.5] * 3, {"x": 1}, [None], ["a"], [1e308] * 2, {"": ""}, [True], [2**70], float("nan")),
]
_RIVAL = {
    "num_envs": 2,
    "batch_size": 100,  # minibatches of two would take their time, and rightly so
    "n_epochs": 1,
    "policy_kwargs": {"hidden_sizes": [4]},
}
SMALL = {
    **dict.fromkeys(AGENTS, _RIVAL),
    "rl2": {
        "trials_per_iteration": 2,
        "trials_per_minibatch": 2,
        "n_epochs": 1,
        "policy_kwargs": {"hidden_size": 4},
    },
    "varibad": {
        "trials_per_iteration": 2,
        "trials_per_minibatch": 2,
        "n_epochs": 1,
        "vae_gradient_steps": 1,
        "policy_kwargs": {"hidden_size": 4},
    },
    **{
        name: {
            "meta_batch_size": 2,
            "episodes_per_adaptation": 2,
            "policy_kwargs": {"hidden_sizes": [4]},
        }
        for name, kind in AGENTS.items()
        if issubclass(kind, MAML)
    },
}


class TooLong(BaseException):
    """A case that takes too long."""


@dataclass
class Outcome:
    """How a case ended: None where it was done, else the error; and what was printed."""

    error: BaseException | None
    out: str = ""
    err: str = ""
    result: object = None


def attempt(act):
    """Do something within the limits of time and memory."""

    def late(*_):
        raise TooLong

    out, err = io.StringIO(), io.StringIO()
    signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    error = result = None
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("error")
            result = act()
    except (Exception, SystemExit, TooLong) as raised:
        error = raised
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return Outcome(error, out.getvalue(), err.getvalue(), result)


def complaint(outcome):
    """Say what is wrong with an outcome whose error, if any, should be ours; None if nothing is."""
    error = outcome.error
    if error is None:
        return None
    if isinstance(error, TooLong):
        return f"takes more than {SECONDS:g} s"
    if not isinstance(error, (MetarlError, OSError)) or "\n" in str(error):
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error!s:.200} ({where.filename}:{where.lineno})"
    return None


def command(words):
    """Run a command line; say what is wrong with how it ended, and return what it printed."""
    outcome = attempt(lambda: cli.main(words))
    if isinstance(outcome.error, SystemExit) and outcome.error.code in (0, 2):  # the parser's
        return None, outcome
    wrong = complaint(outcome)
    if wrong is None and outcome.error is not None:
        wrong = f"{type(outcome.error).__name__} reaches the shell: {outcome.error}"
    lines = outcome.err.strip().splitlines()
    if wrong is None and outcome.result not in (0, 2):
        wrong = f"exit code {outcome.result}"
    if wrong is None and outcome.result == 2:
        last = lines[-1] if lines else ""
        if not last.startswith("metarl: error: ") or len(last) > 1500:
            wrong = f"an error without a sentence: {outcome.err[-300:]!r}"
    if wrong is None and not all(c.isprintable() or c == "\n" for c in outcome.out + outcome.err):
        wrong = "characters that steer the terminal"
    return wrong, outcome
