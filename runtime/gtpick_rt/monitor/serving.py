"""Serve the monitor: to this machine alone or, with a token, to others."""

import ipaddress
import os
import secrets
import signal
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from gtpick_rt.errors import UsageError
from gtpick_rt.monitor.app import make_app
from gtpick_rt.output.layout import token_path

_TOKEN_BYTES = 32
_SHORTEST = 32
"""Characters of a token that somebody has chosen."""


def serve(out: Path, host: str, port: int, token_file: Path | None, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Raises UsageError when the address or the token cannot be used.
    """
    token = None if is_loopback(host) and token_file is None else token_of(token_file or token_path(out))
    with listening(host, port) as listener:
        names = {host, socket.gethostname(), socket.getfqdn()} if token else {host}
        app = make_app(out, token, names)
        shown = socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104
        shown = f"[{shown}]" if ":" in shown else shown
        if token:
            say("warning: whoever has this link, or listens to the network, sees the picks: it is not encrypted")
        say(f"http://{shown}:{listener.getsockname()[1]}/{f'?token={token}' if token else ''}")
        with suppress(OSError):  # where that is forbidden
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # it takes what picking leaves
        # The access log would keep the token.
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
        _Server(config).run(sockets=[listener])


class _Server(uvicorn.Server):
    """A signal that whoever started this process lets it ignore stays ignored."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ignored = {number for number in HANDLED_SIGNALS if signal.getsignal(number) is signal.SIG_IGN}

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig not in self._ignored:
            super().handle_exit(sig, frame)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listening(host: str, port: int) -> socket.socket:
    """Take the port; who asks from now on waits for an answer. Raises UsageError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise UsageError(
            f"--host {host} --port {port}: cannot be listened at ({error.strerror}); choose another"
        ) from error
    return listener


def token_of(path: Path) -> str:
    """Read the token, or make one that nobody else can read. Raises UsageError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return _read_token(path)
    except OSError as error:
        raise UsageError(
            f"{path}: the token cannot be kept there ({error.strerror}); name another place with --token-file"
        ) from error
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{token}\n")
    return token


def _read_token(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, errors="replace") as file:
            found = os.fstat(descriptor)
            text = file.read(1000).strip() if stat.S_ISREG(found.st_mode) else ""
    except OSError as error:
        raise UsageError(f"{path}: the token cannot be read ({error.strerror})") from error
    if found.st_mode & 0o077 or found.st_uid != os.geteuid():
        raise UsageError(f"{path}: others can read or change this token; remove it, and a new one is made")
    if len(text) < _SHORTEST or not text.isascii() or not text.isprintable():
        raise UsageError(f"{path}: not a token of {_SHORTEST} characters or more; remove it, and a new one is made")
    return text
