"""Where locks, a home, a name of the user or shared memory are missing, the whole path works or
says why in one line.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gtpick_rt.types import FloatArray, Micrograph

PLACES = np.array([[71, 39], [151, 87]], np.float32)
NO_LOCKS = Path(__file__).with_name("no_locks.py")
NOBODY = 54321
AS_NOBODY = [
    *("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"),
    *("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"),  # Python may lie in root's own folders
]
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dots: Callable[..., Micrograph],
    save_mrc: Callable[[Path, FloatArray], Path],
) -> Path:
    """The current folder, with three micrographs in `in`."""
    for number in range(3):
        save_mrc(tmp_path / "in" / f"m{number}.mrc", dots(PLACES, (128, 192)).data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def gtpick(project: Path, tiny_model: Path) -> Call:
    """A function that runs a command after some words that change what it finds."""

    def call(before: list[str], *arguments: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
        model = ("--diameter", "24", "--model", str(tiny_model), "--backend", "cpu") if arguments[0] == "pick" else ()
        changed = {name: value for name, value in (os.environ | environment).items() if value is not None}
        command = [*before, sys.executable, "-m", "gtpick_rt", *arguments, *model]
        return subprocess.run(command, env=changed, capture_output=True, text=True, timeout=120)

    return call


def assert_works(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def picked(out: str) -> list[str]:
    return [record["stem"] for record in json.loads(Path(out, "summary.json").read_text())["micrographs"]]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="system calls have other numbers here")
def test_without_locks_every_way_to_pick_works(gtpick: Call) -> None:
    unlocked = [sys.executable, str(NO_LOCKS)]
    first = gtpick(unlocked, "pick", "in", "--out", "out")
    if first.returncode == 77:
        pytest.skip("system calls cannot be filtered here")
    assert_works(first)
    assert "going on: 3 micrographs picked already" in gtpick(unlocked, "pick", "in", "--out", "out").stdout
    assert_works(gtpick(unlocked, "rethreshold", "out", "--threshold", "0.4"))
    assert_works(gtpick(unlocked, "convert", "out", "--formats", "csv"))
    for shard in ("1/2", "2/2"):
        assert_works(gtpick(unlocked, "pick", "in", "--out", "shards", "--shard", shard))
    assert sorted(picked("out")) == sorted(picked("shards")) == ["m0", "m1", "m2"]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="system calls have other numbers here")
def test_without_locks_workers_pick_and_say_nothing_of_it(gtpick: Call) -> None:
    pytest.importorskip("distributed", reason="needs Dask: the extra cluster")
    done = gtpick([sys.executable, str(NO_LOCKS)], "pick", "in", "--out", "out", "--workers", "2")
    if done.returncode == 77:
        pytest.skip("system calls cannot be filtered here")
    assert_works(done)
    assert done.stderr == ""
    assert sorted(picked("out")) == ["m0", "m1", "m2"]


def nobody(project: Path) -> list[str]:
    if os.geteuid() or shutil.which("setpriv") is None:
        pytest.skip("only root can become a user without a name")
    project.chmod(0o777)
    return AS_NOBODY


@pytest.mark.parametrize("home", [None, "/proc/1", "/dev/null"])
def test_without_a_name_or_a_home_picking_and_the_doctor_work(home: str | None, project: Path, gtpick: Call) -> None:
    before = nobody(project)
    (project / "tmp").mkdir(mode=0o777)
    (project / "tmp").chmod(0o777)
    lacking = {"HOME": home, "XDG_CACHE_HOME": None, "TMPDIR": str(project / "tmp"), "ORT_DISABLE_TELEMETRY": None}
    done = gtpick(before, "pick", "in", "--out", "out", **lacking)
    assert_works(done)
    assert done.stderr == ""
    found = gtpick(before, "doctor", "--json", **lacking)
    assert_works(found)
    assert json.loads(found.stdout)["engine_problem"] == ""
    assert not Path("~").exists()


def test_without_a_name_or_a_home_workers_work(project: Path, gtpick: Call) -> None:
    pytest.importorskip("distributed", reason="needs Dask: the extra cluster")
    done = gtpick(nobody(project), "pick", "in", "--out", "out", "--workers", "1", HOME=None)
    assert_works(done)
    assert not Path("~").exists()


@pytest.mark.parametrize("options", ["ro", "size=4k,nr_inodes=1", "mode=000,ro"])
def test_without_shared_memory_one_process_picks_and_workers_say_what_is_missing(options: str, gtpick: Call) -> None:
    pytest.importorskip("distributed", reason="needs Dask: the extra cluster")
    hidden = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o {options} none /dev/shm || exit 77; exec "$@"', "sh"]
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("only root can mount")
    done = gtpick(hidden, "pick", "in", "--out", "out")
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("nothing can be mounted here")
    assert_works(done)
    refused = gtpick(hidden, "pick", "in", "--out", "workers", "--workers", "1")
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert refused.stderr.startswith("error: workers on this machine need /dev/shm, which cannot be written to (")
