"""matplotlib, without what it leaves in the user's home: a list of all fonts."""

import atexit
import os
import shutil
import tempfile


def keep_fonts_elsewhere() -> None:
    """To be called before matplotlib is imported: its list goes with this process, unless the user
    says where to keep it.
    """
    if "MPLCONFIGDIR" not in os.environ:
        os.environ["MPLCONFIGDIR"] = folder = tempfile.mkdtemp(prefix="gtpick-fonts-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
