"""A process can end at any moment."""

import json
import subprocess
import sys
from pathlib import Path

KILLS = 200


def test_nothing_is_lost_or_done_twice_whenever_runs_are_killed(benchmarks: Path) -> None:
    command = [sys.executable, str(benchmarks / "kill.py"), "--kills", str(KILLS), "--no-save"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["kills"] == KILLS
    assert result["crash_points"] > 100
    assert result["micrographs"] >= KILLS / 4
