"""Was each finding of the review (README.md here) a fault of the code at commit 3551287?

    python benchmarks/gpu/findings.py

Puts the tests of findings/ among that commit's own, in a copy of it, and runs them: each says what
should have held, and must fail. One that passes, or fails because a name or a module is absent,
shows nothing; then it exits with code 1. That all of it holds now is the work of the tests in
README.md.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

from benchmarks.shared.common import ROOT, circumstances, save

COMMIT = "3551287"
TESTS = Path(__file__).with_suffix("")
ABSENT = ("ImportError", "ModuleNotFoundError", "AttributeError", "NameError", "TypeError", "fixture")
"""How a failure begins that is of the test and not of the code."""
OPEN = {"L": "a question to a card: first_minute.py asks it"}


def copy_of(commit: str, folder: Path) -> None:
    """Unpack the repository as it was."""
    packed = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed, check=True)


def run(copy: Path) -> list[dict[str, Any]]:
    """Run the tests in the copy; a row for each."""
    for path in TESTS.glob("*.py"):
        (copy / "tests" / "runtime" / "gpu" / f"test_findings_{path.name}").write_text(path.read_text())
    found, report = sorted((copy / "tests" / "runtime" / "gpu").glob("test_findings_*.py")), copy / "report.xml"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(str(copy / name) for name in ("runtime", "export", ""))}
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", f"--junitxml={report}"]
    subprocess.run([*command, *map(str, found)], cwd=copy, env=environment, capture_output=True, check=False)
    return [row(case) for case in ElementTree.parse(report).iter("testcase")]


def row(case: ElementTree.Element) -> dict[str, Any]:
    """What came of one test."""
    _, finding, holds = case.attrib["name"].split("_", 2)
    failure = case.find("failure")
    said = "" if failure is None else " ".join(failure.attrib["message"].split())
    said = re.sub(r" at 0x[0-9a-f]+|/\S*/", "", said)[:200]
    shown = failure is not None and not said.startswith(ABSENT)
    return {"finding": finding, "should_hold": holds.replace("_", " "), "fails": said, "shown": shown}


def main() -> None:
    """Run, print and write."""
    with TemporaryDirectory() as folder:
        copy_of(COMMIT, Path(folder))
        rows = sorted(run(Path(folder)), key=lambda each: str(each["finding"]))
    for each in rows:
        print(
            f"{each['finding']:3} {'fails' if each['shown'] else 'NOT SHOWN'}: {each['should_hold']}: {each['fails']}"
        )
    save(__file__, circumstances(sys.argv) | {"at": COMMIT, "findings": rows, "not_shown": OPEN})
    if not all(each["shown"] for each in rows):
        sys.exit("a finding is not shown")


if __name__ == "__main__":
    main()
