"""Processes that train together: how they end with the one that has started them."""

import os
import signal
import subprocess
import sys
import time

import pytest

PARENT = """
import os, subprocess, sys
os.environ["METARL_LAUNCHER"] = str(os.getpid())
subprocess.run([sys.executable, "-c", '''
import os, time
from metarl.experiments.cli.launch import end_with_launcher
end_with_launcher()
print(os.getpid(), flush=True)
time.sleep(600)
'''])
"""


def alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal is Linux's")
def test_processes_end_with_a_launcher_that_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20.0
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    ended = not alive(child)
    if not ended:
        os.kill(child, signal.SIGKILL)
    assert ended
