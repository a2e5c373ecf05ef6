"""Take away each safeguard against loss in turn, in a copy of the code: do the tests notice?

Each safeguard is named with the tests that guard it, of which every file must fail. Exits with code 1 when one does
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

from common import ROOT, circumstances, save

RUNTIME = Path("runtime/gtpick_rt")
COMMIT, PIPELINE, CHANGES = "test_commit.py", "test_pipeline.py", "arrivals/test_watched.py"
WRITERS = "arrivals/test_writers.py"
LOCK, SHARDS = "test_lock.py", "test_shards.py"
RETHRESHOLD = "../faults/test_rethreshold_kill.py"
NTH_CALL, KILL, POWER = "../faults/test_nth_call.py", "../faults/test_kill.py", "../faults/test_power_cut.py"


@dataclass(frozen=True)
class Mutation:
    """A safeguard that is taken away by replacing texts in one module."""

    name: str
    module: str
    replacements: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]
    """Below tests/runtime; each must fail."""


MUTATIONS = (
    Mutation("files are not synced", "commit.py", (("os.fsync(file.fileno())", "pass"),), (COMMIT, POWER)),
    Mutation(
        "folders are not synced",
        "commit.py",
        (("else data, mode)\n        _sync_folder(path.parent)", "else data, mode)"),),
        (COMMIT, POWER),
    ),
    Mutation("new folders are not synced", "commit.py", (("_sync_folder(made.parent)", "pass"),), (COMMIT, POWER)),
    Mutation(
        "files are written in place, without renaming",
        "commit.py",
        (
            ("    temporary = path.parent / f", "    temporary = path\n    _ = f"),
            ("os.O_CREAT | os.O_EXCL,", "os.O_CREAT | os.O_TRUNC,"),
            ("        temporary.replace(path)\n", ""),
        ),
        (COMMIT, KILL),
    ),
    Mutation(
        "the STAR file comes before the detections",
        "commit.py",
        (
            ("    write_atomic(detections_path(out, stem), buffer.getvalue())\n", ""),
            (
                "    return write_star(out, stem, detections, threshold, record)\n",
                "    path = write_star(out, stem, detections, threshold, record)\n"
                "    write_atomic(detections_path(out, stem), buffer.getvalue())\n    return path\n",
            ),
        ),
        (COMMIT, KILL),
    ),
    Mutation("the STAR file has no record", "commit.py", (("threshold], record)", "threshold])"),), (COMMIT, KILL)),
    Mutation("what a killed run leaves is not removed", "output.py", (("sweep(out)", "pass"),), (PIPELINE, KILL)),
    Mutation(
        "the folder is not locked",
        "lock.py",
        (
            ("fcntl.flock(self._descriptor, ", "id("),
            ("(fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX) | fcntl.LOCK_NB", "0"),
        ),
        (PIPELINE, LOCK, SHARDS),
    ),
    Mutation(
        "a shard is not locked",
        "shards.py",
        (("own = lock_folder(", "own = share_folder("),),
        (SHARDS,),
    ),
    Mutation(
        "a shard lets others have the folder alone",
        "shards.py",
        (("share_folder(lock_path(self.path))", 'share_folder(self._mine.with_suffix(".open"))'),),
        (SHARDS,),
    ),
    Mutation(
        "a shard does not look for those of another number",
        "shards.py",
        (("self._refuse_other_numbers()\n", "pass\n"),),
        (SHARDS,),
    ),
    Mutation(
        "a shard does not see that its lock was cleared away",
        "shards.py",
        (("if lock.is_held():", "if True:"),),
        (SHARDS,),
    ),
    Mutation(
        "shards are not looked for before the folder is taken, where there are no locks",
        "lock.py",
        (("    _look_for(sharers())\n    lock = ", "    lock = "),),
        (LOCK,),
    ),
    Mutation(
        "shards are not looked for after the folder is taken, where there are no locks",
        "lock.py",
        (("        _look_for(sharers())  #", "        pass  #"),),
        (LOCK,),
    ),
    Mutation(
        "shards do not agree on what they have measured",
        "shards.py",
        (("self.previous = self._agreed() or settings", "self.previous = settings"),),
        (SHARDS,),
    ),
    Mutation(
        "shards may differ from the picks that are there",
        "shards.py",
        (("        if self.previous is None:\n            with", "        if True:\n            with"),),
        (SHARDS,),
    ),
    Mutation("a shard holds everything", "shards.py", (("self._shard.holds(stem)", "True"),), (SHARDS,)),
    Mutation(
        "what shards could not pick is not listed",
        "shards.py",
        (("for failure in failures.values():", "for failure in ():"),),
        (SHARDS,),
    ),
    Mutation(
        "each shard writes other formats for all",
        "course.py",
        ((" if self.output.alone else ()", ""),),
        (SHARDS,),
    ),
    Mutation(
        "what shards have logged is counted in both logs",
        "following/logs.py",
        (("return before * sign >= 0", "return True"),),
        ("test_following_shards.py",),
    ),
    Mutation(
        "the output folder is not synced",
        "output.py",
        (("        make_folder(state)", "        state.mkdir(parents=True, exist_ok=True)"),),
        (POWER,),
    ),
    Mutation(
        "the errors of the disk are left to Pillow",
        "reading/tiff.py",
        (("if witness.error is not None", "if False"),),
        (NTH_CALL,),
    ),
    Mutation("the index is not reconciled", "journal.py", (("self._reconcile()", "pass"),), (PIPELINE, KILL)),
    Mutation(
        "what is about to be rewritten is not doubted in the index",
        "output.py",
        (("self._journal.doubt(record.stem for record in todo)", "None"),),
        (RETHRESHOLD,),
    ),
    Mutation(
        "what is doubted is not read again",
        "journal.py",
        (("there - (known - doubted.keys())", "there - known"),),
        (RETHRESHOLD,),
    ),
    Mutation(
        "formats are not due after rewriting",
        "output.py",
        (("self.conversion.with_due(self.conversion.single)", "self.conversion"),),
        (RETHRESHOLD,),
    ),
    Mutation(
        "formats of another box size are not due",
        "formats/writing.py",
        (("due=self.with_due(asked.single).due", "due=self.due"),),
        (RETHRESHOLD,),
    ),
    Mutation(
        "formats stay due no longer than until they are looked at",
        "converting.py",
        (
            (
                "    lists = output.conversion.lists\n",
                "    lists, due_now = output.conversion.lists, output.conversion.due\n",
            ),
            ("name in output.conversion.due", "name in due_now"),
            (
                "    extent, failures = ",
                "    output.convert_to(replace(output.conversion, due=()))\n    extent, failures = ",
            ),
        ),
        (RETHRESHOLD,),
    ),
    Mutation(
        "lists are not written when a format cannot be",
        "rethresholding.py",
        (("    finally:\n", "    except ZeroDivisionError:\n        raise\n    else:\n"),),
        ("test_rethreshold.py",),
    ),
    Mutation(
        "kept detections are read in several threads at a time",
        "commit.py",
        (("with _PARSING, np.load", "with np.load"),),
        (COMMIT,),
    ),
    Mutation(
        "a file is not looked at again after reading",
        "stages.py",
        (("stamp_if_there(job.path) != item.stamp", "False"),),
        (PIPELINE,),
    ),
    Mutation(
        "a file need not settle",
        "arrivals/ready.py",
        (("            if now >= self._due:", "            if True:"),),
        (CHANGES, WRITERS),
    ),
    Mutation(
        "blank pixels are not looked for", "arrivals/ready.py", (("part = _blank_part(path)", 'part = ""'),), (WRITERS,)
    ),
    Mutation(
        "the size in the header is not compared",
        "reading/mrc.py",
        (("size < needed", "False"),),
        (WRITERS, "test_reading.py"),
    ),
)


def mutated(mutation: Mutation, copy: Path) -> None:
    """Make a copy of the project without this safeguard."""
    for name in ("runtime", "export", "gtpick_model", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    path = copy / RUNTIME / mutation.module
    text = path.read_text()
    for old, new in mutation.replacements:
        if text.count(old) != 1:
            sys.exit(f"{mutation.module}: {old!r} is there {text.count(old)} times; correct the mutation")
        text = text.replace(old, new)
    path.write_text(text)


def outcome(copy: Path, test: str) -> str:
    """Which test of this file fails first, or "" when all pass."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(str(copy / name) for name in ("runtime", "export", ""))}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", f"tests/runtime/{test}"]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    failed = [line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode > 1 or bool(done.returncode) != bool(failed):
        sys.exit(f"{' '.join(command)}: cannot be run\n{done.stdout}{done.stderr}")
    return failed[0].partition("::")[2] if failed else ""


def main() -> None:
    """Mutate, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="mutations whose name holds this text; nothing is written")
    only = parser.parse_args().only
    results: list[dict[str, Any]] = []
    for mutation in (mutation for mutation in MUTATIONS if only in mutation.name):
        with tempfile.TemporaryDirectory() as folder:
            mutated(mutation, Path(folder))
            for test in mutation.tests:
                failed = outcome(Path(folder), test)
                results.append({"mutation": mutation.name, "test": test, "fails": failed})
                print(f"{mutation.name:45} {test:28} {failed or 'NOT NOTICED'}", flush=True)
    if not only:
        save("mutations", circumstances(["python", *sys.argv]) | {"results": results})
    if not all(result["fails"] for result in results):
        sys.exit("a safeguard is not guarded")


if __name__ == "__main__":
    main()
