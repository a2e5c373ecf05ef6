"""Who holds an output folder, as the text of its lock tells; the lock is not touched.

The text is of lines: `process NUMBER on MACHINE`, what else tells this process from others there,
and what tells the run from all others.
"""

import os
import re
import socket
from contextlib import suppress
from pathlib import Path

from gtpick_rt.files.shared import bytes_of

_PROC = Path("/proc")
_UNKNOWN = "-"
_SAID = re.compile(r"process (\d{1,9}) on (.*)(?:\nborn (\S+) (\S+) (\S+)\n)?")


def myself() -> str:
    """This process, in two lines. Its number alone may be another's after it has died."""
    return f"process {os.getpid()} on {socket.gethostname()}\nborn {_boot()} {_namespace()} {_start_of('self')}"


def lives(path: Path) -> bool | None:
    """Whether a process holds the folder whose lock is the file `path`, which is not touched: that
    could be in its way.

    None where that cannot be told, because it is said to run on another machine, or in a container
    whose processes have numbers of their own.
    """
    found = _SAID.match(text_of(path) or text_of(heartbeat_of(path) / "beat"))
    if found is None:
        return False
    number, machine, boot, namespace, start = found.groups(_UNKNOWN)
    if machine != socket.gethostname():
        return None
    if _differ(boot, _boot()):
        return False
    if _differ(namespace, _namespace()):
        return None
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return not _differ(start, _start_of(number))


def holder(path: Path) -> str:
    """What tells the run that holds the folder whose lock is the file `path` from all others; ""
    where none does. Raises OSError where that cannot be told at the moment.
    """
    return text_there(path) or _mark_of(text_there(heartbeat_of(path) / "beat"))


def heartbeat_of(path: Path) -> Path:
    """The folder that stands for the lock where there are none."""
    return path.with_name(f"{path.name}.held")


def text_of(path: Path) -> str:
    """What a file says; "" where it cannot be read."""
    with suppress(OSError):
        return text_there(path)
    return ""


def text_there(path: Path) -> str:
    """What a file says; "" where it is gone. Raises OSError."""
    return (bytes_of(path) or b"").decode(errors="replace")


def _mark_of(beat: str) -> str:
    return beat.rpartition(" ")[0]  # what follows is the number of the beat


def _boot() -> str:
    """What tells since when this machine runs."""
    return text_of(_PROC / "sys/kernel/random/boot_id").strip() or _UNKNOWN


def _namespace() -> str:
    """Within what numbers of processes are this process's."""
    with suppress(OSError):
        return str((_PROC / "self/ns/pid").readlink())
    return _UNKNOWN


def _start_of(process: str) -> str:
    """When a process was started, in the kernel's ticks since the machine was."""
    fields = text_of(_PROC / process / "stat").rpartition(")")[2].split()  # its name may hold anything
    return fields[19] if len(fields) > 19 else _UNKNOWN


def _differ(said: str, seen: str) -> bool:
    return _UNKNOWN not in (said, seen) and said != seen
