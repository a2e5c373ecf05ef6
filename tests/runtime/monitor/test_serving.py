"""The command serves this machine alone unless it is told otherwise, and then nobody without the
token.
"""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from gtpick_rt.cli.main import app
from gtpick_rt.errors import UsageError
from gtpick_rt.monitor.serving import is_loopback, listening, token_of
from gtpick_rt.output.layout import token_path


@contextmanager
def monitor(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command as a process, and the link that it prints."""
    command = [sys.executable, "-m", "gtpick_rt", "monitor", *map(str, arguments), "--port", str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        link = ""
        while not link.startswith("http"):
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            link = line.strip()
        try:
            yield process, link
        finally:
            process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_by_default_only_this_machine_is_served_and_needs_no_token(run: Any, until: Any) -> None:
    with monitor(run.out) as (process, link):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", link)
        until(lambda: httpx.get(f"{link}api/status", timeout=20).json()["done"] == 3)
        others = [info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
        for address in ("127.0.0.2", *(each for each in others if not each.startswith("127."))):
            with pytest.raises(OSError, match="refused"):
                socket.create_connection((address, int(link.rstrip("/").rpartition(":")[2])), timeout=5)
        assert not token_path(run.out).exists()
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=20)
    assert (out, error) == ("", "")
    assert process.returncode in (0, 130, -signal.SIGINT)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_though_somebody_watches(run: Any, end: signal.Signals) -> None:
    with monitor(run.out) as (process, link), httpx.stream("GET", f"{link}api/events", timeout=20) as events:
        next(events.iter_lines())
        process.send_signal(end)
        out, error = process.communicate(timeout=20)
        assert (out, error) == ("", "")


def test_beyond_this_machine_a_token_is_needed_and_logged_nowhere(run: Any) -> None:
    with monitor(run.out, "--host", "0.0.0.0") as (process, link):
        base, _, token = link.partition("?token=")
        assert len(token) >= 43
        port = base.rstrip("/").rpartition(":")[2]
        here = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{here}/api/status", timeout=20).status_code == 401
        assert httpx.get(f"{here}/?token=wrong", timeout=20).status_code == 401
        with httpx.Client(base_url=here, timeout=20) as client:
            assert "refresh" in client.get(f"/?token={token}").text
            assert client.get("/api/status").status_code == 200
        assert httpx.get(f"{here}/", headers={"Host": f"evil.example:{port}"}, timeout=20).status_code == 403
        file = token_path(run.out)
        assert file.read_text().strip() == token
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        process.send_signal(signal.SIGTERM)
        out, error = process.communicate(timeout=20)
    assert token not in out + error
    assert all(token not in path.read_text(errors="replace") for path in run.out.rglob("*.json*"))


def test_the_token_stays_the_same_and_others_cannot_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        token = token_of(tmp_path / "token")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert token_of(tmp_path / "token") == token
    assert token_of(tmp_path / "other") != token
    assert re.fullmatch(r"[\w-]{43}", token)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_token_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    token_of(tmp_path / "token")
    (tmp_path / "token").chmod(mode)
    with pytest.raises(UsageError, match="others can read or change this token; remove it"):
        token_of(tmp_path / "token")


@pytest.mark.parametrize("text", ["", "short", "x" * 31, "ü" * 40, "x" * 20 + "\n" + "x" * 20, "x" * 40 + "\x1b"])
def test_a_file_that_is_no_token_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text)
    (tmp_path / "token").chmod(0o600)
    with pytest.raises(UsageError, match="not a token"):
        token_of(tmp_path / "token")


def test_a_token_file_is_never_a_link_nor_a_pipe(tmp_path: Path) -> None:
    token_of(tmp_path / "token")
    (tmp_path / "link").symlink_to(tmp_path / "token")
    with pytest.raises(UsageError, match="cannot be read"):
        token_of(tmp_path / "link")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="cannot be read"):
        token_of(tmp_path / "dangling")
    assert not (tmp_path / "nowhere").exists()
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(UsageError, match="not a token"):
        token_of(tmp_path / "pipe")


def test_where_no_token_can_be_kept_another_place_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name another place with --token-file"):
        token_of(tmp_path / "absent" / "token")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *(("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True)),
        *(("0.0.0.0", False), ("::", False), ("192.0.2.1", False), ("scope.example", False), ("", False)),
    ],
)
def test_only_loopback_is_this_machine_alone(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_a_port_that_is_taken_is_refused(run: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        result = CliRunner().invoke(app, ["monitor", str(run.out), "--port", str(server.getsockname()[1])])
    assert result.exit_code == 1
    assert re.match(r"error: --host 127.0.0.1 --port \d+: cannot be listened at .*; choose another\n", result.stderr)


def test_an_address_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be listened at"):
        listening("no such host", 8470)


def test_without_the_extra_the_command_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("gtpick_rt.monitor.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = CliRunner().invoke(app, ["monitor", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr == (
        "error: uvicorn is not installed: install the extra monitor: pip install '.[monitor]' in the clone\n"
    )


@pytest.mark.parametrize(
    ("kind", "words"), [("absent", "is not there"), ("empty", "holds nothing of pick yet"), ("picked", "")]
)
def test_a_folder_with_nothing_to_show_is_said_to_be_so_and_served_all_the_same(
    kind: str, words: str, run: Any, tmp_path: Path
) -> None:
    out = run.out if kind == "picked" else tmp_path / kind
    if kind == "empty":
        out.mkdir()
    with monitor(out) as (process, link):
        assert httpx.get(f"{link}api/status", timeout=60).status_code == 200
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    assert (f"{out}: {words}" in error) if words else error == ""


def test_a_file_is_not_monitored(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    result = CliRunner().invoke(app, ["monitor", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "is no folder" in result.output
