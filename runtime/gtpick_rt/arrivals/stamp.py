"""What tells one content of a file from another, without reading it."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Stamp:
    """State of a file as its file system tells.

    The time is only ever compared with itself, never with a clock.
    """

    size: int
    """In bytes."""
    mtime_ns: int
    inode: int | None = None
    """None, like `ctime_ns`, of an earlier run."""
    ctime_ns: int | None = None

    def is_still(self, before: "Stamp | None") -> bool:
        """Whether the content is as it was before.

        What replaces a file has both another inode and another change time. A mount of sshfs or
        CIFS may make up inodes anew, and a new owner or mode changes the time.
        """
        if before is None or (self.size, self.mtime_ns) != (before.size, before.mtime_ns):
            return False
        return before.inode in (None, self.inode) or before.ctime_ns == self.ctime_ns


def stamp_of(path: Path | str) -> Stamp:
    """The stamp of a file, or of that to which a link leads. Raises OSError."""
    status = os.stat(path)  # noqa: PTH116 - also of text, since there are many
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)


def stamp_if_there(path: Path | str) -> Stamp | None:
    """The stamp, or None where the file cannot be looked at: reading it will say why."""
    try:
        return stamp_of(path)
    except (OSError, ValueError):  # a name with a zero byte, or of letters that the system has not
        return None
