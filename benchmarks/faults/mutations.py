"""Take away each safeguard of mutations/*.toml in turn, in a copy of the code: do the tests notice?

A safeguard is taken away by replacing texts in one file, each of which must be there once. It is
named with the tests that guard it, of which every file must fail. Exits with code 1 when one does
not.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomllib

from benchmarks.shared.common import ROOT, circumstances, save

LISTS = Path(__file__).with_suffix("")
"""The folder of the lists."""


@dataclass(frozen=True)
class Mutation:
    """A safeguard that is taken away."""

    name: str
    file: str
    """In the repository."""
    replacements: list[dict[str, str]]
    """Each an `old` text and the `new` one."""
    tests: list[str]
    """Files of tests in the repository; each must fail."""


def mutations(which: str = "*") -> list[Mutation]:
    """All of one list, or of all."""
    texts = (path.read_text() for path in sorted(LISTS.glob(f"{which}.toml")))
    return [Mutation(**entry) for text in texts for entry in tomllib.loads(text)["mutation"]]


def mutate(mutation: Mutation, root: Path) -> None:
    """Take the safeguard away in the copy of the repository at `root`.

    Raises ValueError when a text is absent or there more than once.
    """
    path = root / mutation.file
    text = path.read_text()
    for each in mutation.replacements:
        if text.count(each["old"]) != 1:
            raise ValueError(f"{mutation.file}: {each['old']!r} is there {text.count(each['old'])} times")
        text = text.replace(each["old"], each["new"])
    path.write_text(text)


def copy_to(copy: Path) -> None:
    """Copy what the tests need."""
    for name in ("runtime", "export", "gtpick_model", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    shutil.copy(ROOT / "pyproject.toml", copy)


def first_failure(copy: Path, test: str) -> str:
    """Which test of this file fails first, or "" when all pass."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(str(copy / name) for name in ("runtime", "export", ""))}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    failed = [line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode > 1 or bool(done.returncode) != bool(failed):
        sys.exit(f"{' '.join(command)}: cannot be run\n{done.stdout}{done.stderr}")
    return failed[0].partition("::")[2] if failed else ""


def main() -> None:
    """Mutate, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="mutations whose name holds this text; nothing is written")
    parser.add_argument("--list", default="", help="the name of one list, which has a result of its own")
    arguments = parser.parse_args()
    results: list[dict[str, Any]] = []
    for mutation in (each for each in mutations(arguments.list or "*") if arguments.only in each.name):
        with tempfile.TemporaryDirectory() as folder:
            copy_to(Path(folder))
            mutate(mutation, Path(folder))
            for test in mutation.tests:
                failed = first_failure(Path(folder), test)
                results.append({"mutation": mutation.name, "test": test, "fails": failed})
                print(f"{mutation.name:45} {test:42} {failed or 'NOT NOTICED'}", flush=True)
    if not arguments.only:
        suffix = f"_{arguments.list}.json" if arguments.list else ".json"
        save(__file__, circumstances(["python", *sys.argv]) | {"results": results}, suffix)
    if not all(result["fails"] for result in results):
        sys.exit("a safeguard is not guarded")


if __name__ == "__main__":
    main()
