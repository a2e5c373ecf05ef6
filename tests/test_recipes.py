"""The recipe for a message queue, `docs/facility_queue.py`, with files for messages; killed while
it works.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = sorted((ROOT / "sample").glob("*.mrc"))
OPTIONS = ("--diameter", "214", "--max-wait", "1")
STEMS = ("a b", "c#1", "é", "it's")
WORKER = """
import sys, time
from pathlib import Path
from facility_queue import serve

class Folders:
    taken = set()
    def receive(self):
        new = sorted(set(Path("micrographs").iterdir()) - self.taken)[:1]
        self.taken.update(new)
        time.sleep(0 if new else 0.1)
        return (new[0], new[0].read_text()) if new else None
    def publish(self, text):
        Path("unpublished").write_text(text)
        Path("unpublished").rename(f"picks/{time.time_ns()}")
    def acknowledge(self, token):
        token.unlink()

sys.exit(serve(Folders(), Path("out"), sys.argv[1:]))
"""

Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the worker in a session of its own, which is killed with all that is in it."""
    if not SAMPLE or not list((ROOT / "runtime" / "gtpick_rt").rglob("*.onnx")):
        pytest.skip("the sample micrographs or the shipped model are absent")
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    python_path = os.pathsep.join((str(ROOT / "docs"), os.environ.get("PYTHONPATH", "")))
    started: list[subprocess.Popen[bytes]] = []

    def start() -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", WORKER, *OPTIONS]
        environment = os.environ | {"PYTHONPATH": python_path, "PATH": path}
        started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(folder: Path) -> dict[str, Any]:
    """What was published, by path."""
    found = (json.loads(path.read_text()) for path in sorted((folder / "picks").iterdir()))
    return {answer["path"]: answer for answer in found}


def test_a_queue_is_answered_though_the_worker_is_killed_and_nothing_is_picked_twice(
    start: Start, tmp_path: Path
) -> None:
    paths = {stem: tmp_path / f"{stem}.mrc" for stem in (*STEMS, "bad")}
    for folder in ("micrographs", "picks"):
        (tmp_path / folder).mkdir()
    for stem, path in paths.items():
        (tmp_path / "micrographs" / stem).write_text(str(path))
        path.symlink_to(SAMPLE[0]) if stem in STEMS else path.write_bytes(b"no image")
    for wanted in (1, len(paths)):
        process = start()
        while len(answers(tmp_path)) < wanted or (wanted > 1 and any((tmp_path / "micrographs").iterdir())):
            assert process.poll() is None
            time.sleep(0.1)
        end(process)
    found = answers(tmp_path)
    assert found.keys() == {str(path) for path in paths.values()}
    assert found[str(paths["bad"])]["kind"] == "IncompleteError"
    assert all(len(found[str(paths[stem])]["x_px"]) > 5 for stem in STEMS)
    log = (tmp_path / "out" / ".gtpick" / "log.jsonl").read_text().splitlines()
    assert set(Counter(entry["stem"] for entry in map(json.loads, log) if entry["state"] == "picked").values()) == {1}
