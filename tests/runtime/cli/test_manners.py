"""What a guest on somebody's machine does not do: heed signals that are not for it, report home, or
leave things about.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gtpick_rt.types import FloatArray, Micrograph

PLACES = np.array([[71, 39], [151, 87]], np.float32)


@pytest.fixture
def command(
    tmp_path: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    dots: Callable[..., Micrograph],
    save_mrc: Callable[[Path, FloatArray], Path],
) -> list[str]:
    """Words that pick what is in `in` in the current folder: as many micrographs as a watcher looks
    at first, so that it waits for no more.
    """
    for name in "abcdm":
        save_mrc(tmp_path / "in" / f"{name}.mrc", dots(PLACES, (128, 192)).data)
    monkeypatch.chdir(tmp_path)
    common = ("--diameter", "24", "--model", str(tiny_model), "--backend", "cpu")
    return [sys.executable, "-m", "gtpick_rt", "pick", "in", "--out", "out", *common]


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)


def begun_ignoring(ignored: list[signal.Signals], command: list[str]) -> subprocess.Popen[str]:
    """A command as a script begins it that lets it ignore signals."""

    def ignore() -> None:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

    return subprocess.Popen(command, preexec_fn=ignore, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["alone", "workers"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_goes_on_after_a_signal_that_it_was_begun_to_ignore(
    number: signal.Signals, workers: tuple[str, ...], command: list[str]
) -> None:
    if workers:
        pytest.importorskip("distributed", reason="needs Dask: the extra cluster")
    watching = ("--watch", "--settle", "0.2", "--until", "6")
    run = begun_ignoring([number], [*command, *watching, *workers])
    wait_until(Path("out/m_autopick.star").exists, run)
    for _ in range(2):
        run.send_signal(number)
    Path("in/later.mrc").write_bytes(Path("in/m.mrc").read_bytes())
    said, _ = run.communicate(timeout=120)
    assert run.returncode == 0, said
    assert Path("out/later_autopick.star").exists()
    assert "finishing what is in hand" not in said


def test_the_other_signal_ends_it_all_the_same(command: list[str]) -> None:
    run = begun_ignoring([signal.SIGINT], [*command, "--watch", "--settle", "0.2"])
    wait_until(Path("out/m_autopick.star").exists, run)
    run.send_signal(signal.SIGINT)
    run.send_signal(signal.SIGTERM)
    said, _ = run.communicate(timeout=60)
    assert (run.returncode, "finishing what is in hand" in said) == (143, True)


def test_the_monitor_goes_on_too(command: list[str]) -> None:
    pytest.importorskip("uvicorn", reason="needs the extra monitor")
    import socket
    import urllib.request

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    Path("out").mkdir()
    run = begun_ignoring([signal.SIGINT], [sys.executable, "-m", "gtpick_rt", "monitor", "out", "--port", port])
    try:
        assert run.stdout is not None
        address = next(line.strip() for line in run.stdout if line.startswith("http"))
        run.send_signal(signal.SIGINT)
        for _ in range(3):
            with urllib.request.urlopen(address, timeout=60) as answer:
                assert answer.status == 200
            time.sleep(0.2)
    finally:
        run.terminate()
        run.communicate(timeout=30)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of a user who has nothing there."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def assert_leaves_nothing(command: list[str], home: Path, **environment: str) -> None:
    kept = ("ORT_", "XDG_", "MPL", "DASK_", "HOME")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(kept)}
    done = subprocess.run(
        command, env=clean | {"HOME": str(home)} | environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert "elemetry" not in done.stdout + done.stderr
    assert [str(path) for path in home.rglob("*")] == []


@pytest.mark.parametrize("more", [(), ("--workers", "1"), ("--overlays", "--formats", "box,cs,json")])
def test_picking_leaves_nothing_in_the_users_home(more: tuple[str, ...], command: list[str], home: Path) -> None:
    if "--workers" in more:
        pytest.importorskip("distributed", reason="needs Dask: the extra cluster")
    assert_leaves_nothing([*command, *more], home)


@pytest.mark.parametrize(
    ("arguments", "needs"),
    [
        ("doctor", "onnxruntime"),
        ("report out", "jinja2"),
        ("evaluate out out --diameter 24 --plot curves.png", "matplotlib"),
    ],
)
def test_other_commands_leave_nothing_there_either(arguments: str, needs: str, command: list[str], home: Path) -> None:
    pytest.importorskip(needs)
    subprocess.run(command, check=True, capture_output=True)
    assert_leaves_nothing([*command[:3], *arguments.split()], home)


@pytest.mark.parametrize("module", ["gtpick_rt.cluster.slurm", "gtpick_export.int8", "gtpick_rt.backends.onnx_file"])
def test_importing_libraries_leaves_nothing_there(module: str, home: Path) -> None:
    pytest.importorskip(module)
    use = "import onnxruntime; onnxruntime.get_available_providers(); onnxruntime.SessionOptions()"
    assert_leaves_nothing([sys.executable, "-c", f"import {module}; {use}"], home)


def test_a_user_who_wants_to_report_may(home: Path) -> None:
    code = "import os, gtpick_rt; assert os.environ['ORT_DISABLE_TELEMETRY'] == '0'"
    assert_leaves_nothing([sys.executable, "-c", code], home, ORT_DISABLE_TELEMETRY="0")
