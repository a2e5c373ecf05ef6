"""`gtpick-rt pick --watch` and `pick -`: from files that arrive to STAR files."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gtpick_rt.cli.main import app
from gtpick_rt.types import FloatArray, Micrograph

MakeDots = Callable[..., Micrograph]
SaveMrc = Callable[[Path, FloatArray], Path]
PLACES = np.array([[71, 39], [151, 87]], np.float32)


@pytest.fixture
def whole(tmp_path: Path, dots: MakeDots, save_mrc: SaveMrc) -> bytes:
    """A micrograph file."""
    return save_mrc(tmp_path / "elsewhere" / "a.mrc", dots(PLACES, (128, 192)).data).read_bytes()


def command(*arguments: object) -> list[str]:
    return ["pick", *map(str, arguments), "--settle", "0.3"]


def started(*arguments: object) -> subprocess.Popen[str]:
    """The command, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "gtpick_rt", *command(*arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def picked(out: Path) -> list[str]:
    return sorted(record["stem"] for record in json.loads((out / "summary.json").read_text())["micrographs"])


def test_files_are_picked_as_they_arrive_and_once_they_are_whole(
    whole: bytes, tiny_model: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"

    def bring() -> None:
        folder.mkdir()
        for name in "abcd":
            (folder / f"{name}.mrc").write_bytes(whole)
            time.sleep(0.2)
        with (folder / "slow.mrc").open("wb") as file:
            file.write(whole[:2000])
            file.flush()
            time.sleep(1.5)
            file.write(whole[2000:])

    writer = threading.Thread(target=bring)
    writer.start()
    arguments = (folder, "--out", out, "--diameter", 24, "--model", tiny_model, "--watch", "--until", 5)
    result = CliRunner().invoke(app, command(*arguments))
    writer.join()
    assert result.exit_code == 0, result.output
    assert picked(out) == ["a", "b", "c", "d", "slow"]
    assert (out / "slow_autopick.star").is_file()


def test_paths_on_stdin_are_picked_to_their_end(whole: bytes, tiny_model: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.mrc" for name in "abcde"]
    for path in paths:
        path.write_bytes(whole)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "gtpick_rt",
            *command("-", "--out", tmp_path / "out", "--diameter", 24, "--model", tiny_model),
        ],
        input="".join(f"{path}\n" for path in paths),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert picked(tmp_path / "out") == list("abcde")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_watching_and_another_run_goes_on(
    number: signal.Signals, whole: bytes, tiny_model: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in "abcde":
        (folder / f"{name}.mrc").write_bytes(whole)
    arguments = (folder, "--out", out, "--diameter", 24, "--model", tiny_model, "--watch")
    watching = subprocess.Popen([sys.executable, "-m", "gtpick_rt", *command(*arguments)], stderr=subprocess.DEVNULL)
    try:
        while not (out / "e_autopick.star").exists():
            assert watching.poll() is None
            time.sleep(0.1)
        watching.send_signal(number)
        assert watching.wait(30) == 128 + number
    finally:
        watching.kill()
    before = (out / "a_autopick.star").stat()
    (folder / "f.mrc").write_bytes(whole)
    result = CliRunner().invoke(app, command(*arguments, "--stop-after-idle", 1))
    assert result.exit_code == 0, result.output
    assert "going on: 5 micrographs picked already" in result.output
    assert picked(out) == list("abcdef")
    assert (out / "a_autopick.star").stat().st_ino == before.st_ino


def test_a_file_that_never_becomes_whole_is_reported_and_gives_code_3(
    whole: bytes, tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abcde":
        (folder / f"{name}.mrc").write_bytes(whole)
    (folder / "cut.mrc").write_bytes(whole[:-500])
    arguments = (folder, "--out", tmp_path / "out", "--diameter", 24, "--model", tiny_model, "--watch")
    result = CliRunner().invoke(app, command(*arguments, "--max-wait", 1, "--stop-after-idle", 1))
    assert result.exit_code == 3, result.output
    assert "IncompleteError" in result.output
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [failure["stem"] for failure in summary["failed"]] == ["cut"]
    assert picked(tmp_path / "out") == list("abcde")


@pytest.mark.usefixtures("impatient")
def test_when_the_first_arrivals_show_nothing_more_are_waited_for(
    whole: bytes, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gtpick_rt.detection.picker import Picker
    from gtpick_rt.errors import UndecidedError
    from gtpick_rt.picking import fulfilling as picking

    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.mrc").write_bytes(whole)
    opening, asked = picking.open_picker, []

    def undecided(diameter_A: float | None, **options: object) -> Picker:
        asked.append([micrograph.path.stem for micrograph in options.pop("micrographs")])  # type: ignore[union-attr, attr-defined]
        if len(asked) == 1:
            (folder / "b.mrc").write_bytes(whole)
            raise UndecidedError("too few particles show")
        os.kill(os.getpid(), signal.SIGTERM)
        return opening(24.0, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(picking, "open_picker", undecided)
    result = CliRunner().invoke(app, command(folder, "--out", tmp_path / "out", "--model", tiny_model, "--watch"))
    assert asked == [["a"], ["b"]]
    assert "or wait: the next micrographs are looked at as they come" in result.output
    assert result.exit_code == 143


@pytest.mark.usefixtures("impatient")
def test_a_file_that_is_not_whole_is_told_at_once_in_terminal_and_log_and_ends_an_idle_run(
    whole: bytes, tiny_model: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "cut.mrc").write_bytes(whole[:5])
    os.utime(folder / "cut.mrc", (1_000_000_000, 1_000_000_000))  # long before anybody looked
    arguments = (folder, "--out", out, "--diameter", 24, "--model", tiny_model, "--watch", "--stop-after-idle", 1)
    (folder / "a.mrc").write_bytes(whole)
    result = CliRunner().invoke(app, command(*arguments))
    assert result.exit_code == 3, result.output
    told = f"{folder}/cut.mrc: 5 of 1024 bytes are there"
    assert [told in line for line in result.stderr.splitlines()] == [True, True]  # waited for, then failed
    assert "; last written 2001-09-09 " in result.stderr
    log = [json.loads(line) for line in (out / ".gtpick" / "log.jsonl").read_text().splitlines()]
    waiting = [entry for entry in log if entry["state"] == "waiting"]
    assert [entry["path"] for entry in waiting] == [f"{folder}/cut.mrc"]
    summary = json.loads((out / "summary.json").read_text())
    assert [failure["stem"] for failure in summary["failed"]] == ["cut"]


def test_a_file_that_is_still_waited_for_is_named_at_the_end(whole: bytes, tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.mrc").write_bytes(whole)
    (folder / "cut.mrc").write_bytes(whole[:-7])
    arguments = (folder, "--out", tmp_path / "out", "--diameter", 24, "--model", tiny_model, "--watch")
    watching = started(*arguments)
    try:
        assert watching.stderr is not None
        assert "cut.mrc: 99321 of 99328 bytes are there" in watching.stderr.readline()
        watching.send_signal(signal.SIGINT)
        last = watching.communicate(timeout=30)[0].splitlines()[-1]
        assert last.startswith(f"not picked yet: {folder}/cut.mrc: 99321 of 99328 bytes are there")
        assert last.endswith("; the same command again picks what is left once whole")
    finally:
        watching.kill()
        watching.communicate()


@pytest.mark.usefixtures("impatient")
def test_standard_output_in_a_file_gets_a_line_for_each_micrograph(
    whole: bytes, tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.mrc").write_bytes(whole)
    (folder / "bad.mrc").write_bytes(b"no image" * 1000)
    arguments = (folder, "--out", tmp_path / "out", "--diameter", 24, "--model", tiny_model, "--threshold", 0.9)
    result = CliRunner().invoke(app, command(*arguments, "--watch", "--stop-after-idle", 1))
    lines = result.stdout.splitlines()
    assert f"{folder}/a.mrc: 2 picks" in lines
    assert f"{folder}/b.mrc: 2 picks" in lines
    assert f"{folder}/bad.mrc: failed" in lines
    batch = CliRunner().invoke(app, ["pick", *map(str, arguments), "--force"]).stdout
    assert f"{folder}/a.mrc: 2 picks" not in batch


def test_waiting_for_the_first_micrograph_is_not_silent(whole: bytes, tiny_model: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    arguments = (folder, "--out", out, "--model", tiny_model, "--watch")
    watching = started(*arguments)
    try:
        assert watching.stderr is not None
        assert f"no micrograph in {folder} yet" in watching.stderr.readline()
        (folder / "cut.mrc").write_bytes(whole[:-7])
        assert "cut.mrc: 99321 of 99328 bytes are there" in watching.stderr.readline()
        log = (out / ".gtpick" / "log.jsonl").read_text()
        assert [json.loads(line)["state"] for line in log.splitlines()] == ["waiting", "waiting"]
    finally:
        watching.kill()
        watching.communicate()
