"""Pick the micrographs that a message queue names, and publish what was found.

May be killed at any moment.

    python facility_queue.py OUT --diameter 160 [other options of gtpick-rt pick]

A message on the queue `micrographs` is the path of a whole micrograph; on the queue `picks` it is
answered by JSON: what `gtpick-rt pick --formats json` writes, or the reason why there is nothing.
It is acknowledged after that, so that the broker sends it again when this program or the picker
dies; what is picked by then is answered at once and not picked again. So each message is answered
at least once. The program ends when the picker does, and the picker, a little later, when the
program does: let systemd or the like start it again.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from gtpick_rt.arrivals.jobs import job_named
from gtpick_rt.errors import UsageError
from gtpick_rt.output.layout import converted_path, log_path, star_path


class Broker(Protocol):
    """The three things that a message queue must do."""

    def receive(self) -> tuple[Any, str] | None:
        """Wait for a message, for no longer than a second; gives a token to acknowledge it by, and
        its text.
        """
        ...

    def publish(self, text: str) -> None:
        """Send an answer."""
        ...

    def acknowledge(self, token: Any) -> None:
        """Let a message be forgotten."""
        ...


def serve(broker: Broker, out: Path, options: Sequence[str]) -> int:
    """Do the work until the picker ends; returns its exit code."""
    command = ["gtpick-rt", "pick", "-", "--out", str(out), "--formats", "json", "--max-wait", "10", *options]
    failures = Failures(log_path(out))
    waiting: dict[str, list[Any]] = {}  # tokens by path
    failed: dict[str, str] = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0) as picker:  # noqa: S603
        while picker.poll() is None:
            message = broker.receive()
            if message is not None:
                token, path = message
                waiting.setdefault(path, []).append(token)
                if found(out, path) is None and picker.stdin is not None:
                    with suppress(BrokenPipeError):
                        picker.stdin.write(f"{path}\n".encode())
            failed |= failures.new()
            for path in list(waiting):
                answer = found(out, path) or failed.get(str(Path(path)))
                if answer is not None:
                    broker.publish(answer)
                    for token in waiting.pop(path):
                        broker.acknowledge(token)
    return picker.returncode


def found(out: Path, path: str) -> str | None:
    """What was found on a micrograph, once its STAR file says that it is done."""
    try:
        stem = job_named(Path(path)).stem
        answer = converted_path(out, "json", stem).read_text("utf-8") if star_path(out, stem).exists() else "{}"
    except (UsageError, OSError):
        return None
    return answer if json.loads(answer).get("path") == str(Path(path)) else None


class Failures:
    """Follows the log for micrographs that could not be picked."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._read = log.stat().st_size if log.exists() else 0

    def new(self) -> dict[str, str]:
        """The answers for those that failed since the last call, by path."""
        if not self._log.exists():
            return {}
        with self._log.open("rb") as file:
            file.seek(self._read)
            lines = file.read().rpartition(b"\n")[0]
        self._read += len(lines) + bool(lines)
        entries = [json.loads(line) for line in lines.splitlines()]
        return {entry["path"]: json.dumps(entry) for entry in entries if entry["state"] == "failed"}


class RabbitMQ:
    """The broker at an AMQP address; needs pika."""

    AT_A_TIME = 20
    """Messages that are taken and not answered yet."""

    def __init__(self, address: str) -> None:
        import pika

        self._channel = pika.BlockingConnection(pika.URLParameters(address)).channel()
        for queue in ("micrographs", "picks"):
            self._channel.queue_declare(queue, durable=True)
        self._channel.basic_qos(prefetch_count=self.AT_A_TIME)
        self._channel.confirm_delivery()
        self._messages = self._channel.consume("micrographs", inactivity_timeout=0.5)
        self._durably = pika.BasicProperties(delivery_mode=2)

    def receive(self) -> tuple[Any, str] | None:
        """As `Broker`."""
        method, _, body = next(self._messages)
        return None if method is None else (method.delivery_tag, body.decode())

    def publish(self, text: str) -> None:
        """As `Broker`."""
        self._channel.basic_publish("", "picks", text.encode(), self._durably)

    def acknowledge(self, token: Any) -> None:
        """As `Broker`."""
        self._channel.basic_ack(token)


if __name__ == "__main__":
    sys.exit(serve(RabbitMQ("amqp://localhost"), Path(sys.argv[1]), sys.argv[2:]))
