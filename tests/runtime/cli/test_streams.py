"""Whoever looks on cannot stop the work: what is printed is dropped where it cannot be shown."""

import fcntl
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gtpick_rt.types import FloatArray, Micrograph

PLACES = np.array([[71, 39], [151, 87]], np.float32)
FAILING = 320
"""Files that fail, each with a line: more than a small pipe and what waits for it hold."""
SMALL_PIPE = 4096
CLOSED = "exec {0}; exec {1} -m gtpick_rt pick in --out out --diameter 24 --model {2}"


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dots: Callable[..., Micrograph],
    save_mrc: Callable[[Path, FloatArray], Path],
) -> Path:
    """The current folder, with one micrograph and one file that fails in `in`."""
    save_mrc(tmp_path / "in" / "m.mrc", dots(PLACES, (128, 192)).data)
    (tmp_path / "in" / "bad.mrc").write_bytes(b"no image" * 500)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def let_more_fail() -> None:
    for number in range(FAILING):
        shutil.copy("in/bad.mrc", f"in/{'very' * 55}-{number}.mrc")


def let_all_be_there() -> None:
    """As many micrographs as a watcher looks at first: it waits for no more."""
    for name in "abcd":
        shutil.copy("in/m.mrc", f"in/{name}.mrc")


def small_pipe() -> tuple[int, int]:
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, SMALL_PIPE)
    return read, write


def command(model: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        *("-m", "gtpick_rt", "pick", "in", "--out", "out", "--diameter", "24", "--model", str(model)),
        *more,
    ]


def assert_picked(*stems: str) -> None:
    summary = json.loads(Path("out/summary.json").read_text())
    assert sorted(record["stem"] for record in summary["micrographs"]) == list(stems)
    assert "bad" in {failure["stem"] for failure in summary["failed"]}


def noted() -> list[str]:
    entries = map(json.loads, Path("out/.gtpick/log.jsonl").read_text().splitlines())
    return [entry["message"] for entry in entries if entry["state"] == "unseen"]


@pytest.mark.parametrize(
    ("closed", "says"),
    [
        (">&-", None),
        ("2>&-", None),
        ("<&-", None),
        ("<&- >&- 2>&-", None),
        (">/dev/full", "No space left on device"),
        ("2>/dev/full", "No space left on device"),
        (">/dev/full 2>&1", "No space left on device"),
    ],
)
def test_streams_that_are_closed_or_full_do_not_matter(
    closed: str, says: str | None, project: Path, tiny_model: Path
) -> None:
    done = subprocess.run(
        ["bash", "-c", CLOSED.format(closed, sys.executable, tiny_model)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert_picked("m")
    assert noted() == ([] if says is None else [f"what is printed cannot be shown: {says}; picking goes on"])


def test_a_standard_output_that_is_full_is_told_of_on_standard_error(project: Path, tiny_model: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command(tiny_model), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.stderr.endswith("standard output: not all could be shown (No space left on device)\n")


def test_a_pipe_that_somebody_closed_does_not_matter(project: Path, tiny_model: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command(tiny_model), stdout=write, stderr=write, timeout=60)
    os.close(write)
    assert done.returncode == 3
    assert_picked("m")


@pytest.mark.parametrize("flag", [0, os.O_NONBLOCK])
def test_a_pipe_that_nobody_reads_does_not_stop_the_run(flag: int, project: Path, tiny_model: Path) -> None:
    let_more_fail()
    read, write = small_pipe()
    os.set_blocking(write, not flag)
    done = subprocess.run(command(tiny_model), stdout=write, stderr=write, timeout=120)
    os.close(write)
    os.close(read)
    assert done.returncode == 3
    assert_picked("m")
    assert len(json.loads(Path("out/summary.json").read_text())["failed"]) == FAILING + 1


IN_TURNS = """
import os, sys
from gtpick_rt.cli import streams

with streams.serving():
    streams.never_wait()
    for line in range({lines}):
        print(line, file=(sys.stdout, sys.stderr)[line % 2], flush=True)
"""


def test_what_goes_to_one_terminal_by_two_streams_is_shown_in_the_order_in_which_it_was_printed() -> None:
    master, slave = pty.openpty()
    run = subprocess.Popen([sys.executable, "-c", IN_TURNS.format(lines=400)], stdout=slave, stderr=slave)
    assert run.wait(60) == 0
    shown = b""
    while not shown.endswith(b"399\r\n"):
        shown += os.read(master, 1 << 16)
    assert shown.split() == [b"%d" % line for line in range(400)]
    os.close(slave)
    os.close(master)


def test_a_standard_output_that_nobody_reads_hides_nothing_of_standard_error() -> None:
    read, write = small_pipe()
    lines = 4 * SMALL_PIPE
    done = subprocess.run(
        [sys.executable, "-c", IN_TURNS.format(lines=lines)],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(write)
    os.close(read)
    assert list(map(int, done.stderr.split()[: lines // 2])) == list(range(1, lines, 2))


@pytest.mark.parametrize("held", [False, True])
def test_a_terminal_that_is_gone_or_held_does_not_stop_the_run(held: bool, project: Path, tiny_model: Path) -> None:
    def later() -> bool:
        return Path("out/later_autopick.star").exists()

    let_all_be_there()
    watching = command(tiny_model, "--watch", "--settle", "0.1", "--until", "7")
    master, slave = pty.openpty()
    run = subprocess.Popen(watching, stdin=slave, stdout=slave, stderr=slave, preexec_fn=ignore_hangup)
    try:
        wait_for(lambda: Path("out/m_autopick.star").exists(), run)
        if held:
            termios.tcflow(slave, termios.TCOOFF)
        else:
            os.close(slave)
            os.close(master)
        shutil.copy("in/m.mrc", "in/later.mrc")
        wait_for(later, run)
        assert run.wait(60) == 3
    finally:
        run.kill()


def ignore_hangup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def wait_for(holds: Callable[[], bool], run: "subprocess.Popen[bytes]") -> None:
    while not holds():
        assert run.poll() in (None, 3)
        time.sleep(0.05)


def test_a_signal_ends_a_run_whose_output_nobody_reads(project: Path, tiny_model: Path) -> None:
    let_more_fail()
    let_all_be_there()
    read, write = small_pipe()
    run = subprocess.Popen(command(tiny_model, "--watch"), stdout=write, stderr=write)
    os.close(write)
    wait_for(lambda: Path("out/m_autopick.star").exists(), run)
    run.send_signal(signal.SIGTERM)
    assert run.wait(60) == 128 + signal.SIGTERM
    os.close(read)


def test_standard_input_that_is_closed_or_fails_stops_nothing_else(project: Path, tiny_model: Path) -> None:
    let_all_be_there()
    for given, says in (("<&-", ""), ("0> written", "standard input cannot be read any more")):
        shutil.rmtree("out", ignore_errors=True)
        line = f"exec {sys.executable} -m gtpick_rt pick - in/[a-dm].mrc --out out --diameter 24 --model {tiny_model}"
        done = subprocess.run(
            ["bash", "-c", f"{line} --settle 0.1 --stop-after-idle 0.5 {given}"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr
        assert says in done.stderr
        assert Path("out/m_autopick.star").exists()


@pytest.fixture(scope="session")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the locales of the tests."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None:
        pytest.skip("localedef is not on the PATH")
    for name, language, letters in (("zh_CN.gb2312", "zh_CN", "GB2312"), ("ru_RU.koi8r", "ru_RU", "KOI8-R")):
        made = subprocess.run(["localedef", "-i", language, "-f", letters, folder / name], capture_output=True)
        if not (folder / name).is_dir():
            pytest.skip(f"localedef cannot make {name}: {made.stderr!r}")
    return folder


ENCODINGS = {"zh_CN.gb2312": "gb2312", "ru_RU.koi8r": "koi8-r"}


def shown_in(name: str, locales: Path, words: list[str], code: int) -> str:
    """What a command shows in a locale, beside micrographs of odd names."""
    for path in ("in/Grünwald-中文.mrc", os.fsdecode(b"in/caf\xe9.mrc")):
        shutil.copy("in/m.mrc", path)
    environment = {each: value for each, value in os.environ.items() if not each.startswith(("LC_", "LANG"))}
    environment |= {"LC_ALL": name, "LOCPATH": str(locales)}
    program = [sys.executable, "-m", "gtpick_rt"]
    done = subprocess.run([*program, *words], capture_output=True, timeout=120, env=environment)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    return (done.stdout + done.stderr).decode(ENCODINGS.get(name, "utf-8"))


@pytest.mark.parametrize("name", ["C", "C.UTF-8", *ENCODINGS, "no_SUCH.locale"])
def test_every_locale_can_show_what_a_run_prints(name: str, locales: Path, project: Path, tiny_model: Path) -> None:
    shown = shown_in(name, locales, command(tiny_model)[3:], 3)
    assert "Å" in shown or " A" in shown
    assert "\\xe9" in shown
    assert_picked("Grünwald-中文", "m")
    assert "in/Grünwald-中文.mrc" in Path("out/autopick.star").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "code", "has"), [("pick --help", 0, " A"), ("check in", 3, "\\xe9"), ("doctor", 0, "onnxruntime")]
)
def test_other_commands_are_shown_where_letters_are_lacking(
    words: str, code: int, has: str, locales: Path, project: Path
) -> None:
    assert has in shown_in("zh_CN.gb2312", locales, words.split(), code)
