"""A process in which something hangs is ended, also while the interpreter is held; one that is in
time is not.
"""

import subprocess
import sys
import time

import pytest

HOLD = """
import ctypes, sys, threading, time
from gtpick_rt.cluster.watchdog import Watchdog
dog = Watchdog(0.5)
def quick():
    for _ in range(50):
        with dog.watching():
            time.sleep(0.02)
thread = threading.Thread(target=quick)
thread.start()
with dog.watching():
    {hang}
thread.join()
time.sleep(0.7)
print("in time")
"""
HELD = "ctypes.PyDLL(None).sleep(60)"
"""A call of C that does not let go of the interpreter."""


@pytest.mark.parametrize("hang", ["time.sleep(60)", HELD])
def test_what_hangs_ends_the_process_with_a_traceback(hang: str) -> None:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", HOLD.format(hang=hang)], capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    assert "Timeout (0:00:00." in done.stderr
    assert "most recent call first" in done.stderr
    assert time.monotonic() - began < 50


def test_what_is_in_time_goes_on() -> None:
    done = subprocess.run([sys.executable, "-c", HOLD.format(hang="pass")], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (0, "in time\n")
