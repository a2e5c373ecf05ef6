"""Where this user keeps what can be made again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder that the XDG base directories give; one among temporary files for a user without a
    home, as containers have, where others may have made it first.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():
        return base / "gtpick-rt"
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - which leaves ~ where Path.home() fails
    if home.is_absolute():
        return home / ".cache" / "gtpick-rt"
    return Path(os.environ.get("TMPDIR", "/tmp")) / f"gtpick-rt-{os.geteuid()}"  # noqa: S108 - as told above
