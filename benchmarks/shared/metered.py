"""Run a command and print its seconds, processor time and peak memory as JSON.

Its own output is not shown.

    python benchmarks/shared/metered.py COMMAND ...

A program by itself because Linux counts towards a process's peak memory that of the one that
started it, and this one is small. Processor time is that of the command and of all processes that
it waited for; peak memory that of the largest of them. Ends as the command did, with what it said
on stderr.
"""

import json
import os
import subprocess
import sys
import time


def main() -> None:
    """Run the command line's words."""
    start = time.perf_counter()
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu, system = usage.ru_utime + usage.ru_stime, usage.ru_stime
    figures = {"seconds": seconds, "cpu_seconds": cpu, "system_seconds": system, "peak_MB": usage.ru_maxrss / 1024}
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))
    sys.exit(process.returncode)


if __name__ == "__main__":
    main()
