"""All that is to be seen on a card, in one command of at most eight minutes.

    python -m benchmarks.gpu.first_minute

Runs `gtpick-rt selftest`, the tests that need a GPU and `throughput.py`, each within its own time;
what cannot be run, for pytest or PyTorch are not there, is said. Needs no data but what the
package has. Writes results/first_minute.json after each step, so that a run that is cut short has
told something.
"""

import argparse
import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.shared.common import ROOT, circumstances, save

TOLD = 4000
"""Characters of a step's output that are kept, from its end."""


def steps(folder: Path) -> dict[str, tuple[list[str], int, str]]:
    """Each step's command, its time in seconds, and the module without which it cannot run."""
    python = sys.executable
    return {
        "selftest": ([python, "-m", "gtpick_rt", "selftest", "--out", str(folder / "selftest.json")], 240, "gtpick_rt"),
        "tests": ([python, "-m", "pytest", "-q", "-m", "gpu", "tests/runtime/backends"], 120, "pytest"),
        "throughput": ([python, "-m", "benchmarks.gpu.throughput", "--micrographs", "10"], 110, "torch"),
    }


def run(command: list[str], seconds: int, module: str) -> dict[str, Any]:
    """Run a step; says how it ended and the end of what it printed."""
    if find_spec(module) is None:
        return {"ended": f"not run: {module} is not installed"}
    began = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds
        )
        ended, printed = f"exit code {done.returncode}", done.stdout
    except subprocess.TimeoutExpired as error:
        ended, printed = f"stopped after {seconds} s", (error.stdout or b"").decode(errors="replace")
    return {"ended": ended, "seconds": round(time.monotonic() - began, 1), "printed": printed[-TOLD:]}


def main() -> None:
    """Run the steps, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    result: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        for name, step in steps(Path(folder)).items():
            result[name] = run(*step)
            report = Path(folder) / "selftest.json"
            if name == "selftest" and report.is_file():
                result[name]["report"] = json.loads(report.read_text())
            print(f"{name}: {result[name]['ended']}\n{result[name].get('printed', '')}", flush=True)
            save(__file__, circumstances(sys.argv) | result)


if __name__ == "__main__":
    main()
