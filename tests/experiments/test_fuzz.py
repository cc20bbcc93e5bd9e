"""A short part of tests/support/fuzz.py: damaged files, mad command lines and calls."""

import subprocess
import sys

import fuzz
import fuzzing


def test_each_case_is_done_right_or_answered_in_one_sentence():
    # In a process of its own, whose memory is limited.
    cases = ["--files", "20", "--commands", "20", "--calls", "20"]
    done = subprocess.run(
        [sys.executable, fuzz.__file__, *cases, "--seed", "7"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_wrong_is_seen():
    def foreign():
        raise KeyError("x")

    def ours():
        raise fuzzing.MetarlError("in one sentence")

    def lines():
        raise fuzzing.MetarlError("in\ntwo lines")

    assert fuzzing.complaint(fuzzing.attempt(lambda: 1)) is None
    assert fuzzing.complaint(fuzzing.attempt(ours)) is None
    assert "KeyError" in fuzzing.complaint(fuzzing.attempt(foreign))
    assert "two lines" in fuzzing.complaint(fuzzing.attempt(lines))


def test_what_takes_too_long_is_stopped(monkeypatch):
    def forever():
        while True:
            pass

    monkeypatch.setattr(fuzzing, "SECONDS", 0.05)
    assert "takes more than" in fuzzing.complaint(fuzzing.attempt(forever))
