"""Where things lie in an output folder."""

from pathlib import Path, PurePosixPath

STAR_SUFFIX = "_autopick.star"
STATE_FOLDER = ".gtpick"
COORDS_SUFFIX = "coords_suffix"
"""RELION 3.1's name of a file that has the ending of a coordinate file, but is none."""


def list_path(out: Path) -> Path:
    """The list of all picked micrographs that RELION reads."""
    return out / "autopick.star"


def coords_suffix_path(out: Path) -> Path:
    """What RELION 3.1 reads instead: the ending of coordinate files is in its name, the
    micrographs' list in it.
    """
    return out / f"{COORDS_SUFFIX}{STAR_SUFFIX}"


def summary_path(out: Path) -> Path:
    """The record of the run."""
    return out / "summary.json"


def star_path(out: Path, stem: PurePosixPath) -> Path:
    """The picks of a micrograph."""
    return out / f"{stem}{STAR_SUFFIX}"


def overlay_path(out: Path, stem: PurePosixPath) -> Path:
    """The picture of a micrograph with its picks."""
    return out / "overlays" / f"{stem}.png"


def preview_path(out: Path, stem: PurePosixPath) -> Path:
    """The micrograph without its picks, small, for who draws them."""
    return out / STATE_FOLDER / "previews" / f"{stem}.jpg"


def retry_folder(out: Path) -> Path:
    """Where other processes ask for micrographs to be tried again."""
    return out / STATE_FOLDER / "retry"


def detections_path(out: Path, stem: PurePosixPath) -> Path:
    """All detections of a micrograph, kept for re-thresholding."""
    return out / STATE_FOLDER / "detections" / f"{stem}.npz"


def formats_path(out: Path) -> Path:
    """Which other formats the folder has."""
    return out / STATE_FOLDER / "formats.json"


def converted_path(out: Path, suffix: str, stem: PurePosixPath) -> Path:
    """The picks of a micrograph in another format, in a folder named after it: `box/<stem>.box`,
    `overlays/<stem>.png`.
    """
    return overlay_path(out, stem) if suffix == "overlays" else out / suffix / f"{stem}.{suffix}"


def cryosparc_path(out: Path) -> Path:
    """The picks of all micrographs for cryoSPARC."""
    return out / "picks.cs"


def topaz_path(out: Path) -> Path:
    """The picks of all micrographs as Topaz lists them."""
    return out / "picks_topaz.txt"


def index_path(out: Path) -> Path:
    """The index of the records in the STAR files; it can be made anew from them."""
    return out / STATE_FOLDER / "index.sqlite"


def lock_path(out: Path) -> Path:
    """The file that the one process that writes here has locked."""
    return out / STATE_FOLDER / "lock"


def shards_folder(out: Path) -> Path:
    """What runs that share the folder keep, each for itself, and the settings that all have."""
    return out / STATE_FOLDER / "shards"


def jobs_folder(out: Path) -> Path:
    """What jobs of a cluster need: their logs, and the keys by which they know the run."""
    return out / STATE_FOLDER / "jobs"


def adapted_folder(out: Path) -> Path:
    """The model that has adapted itself to the micrographs, and what became of that."""
    return out / STATE_FOLDER / "adapted"


def log_path(out: Path) -> Path:
    """The log of all runs, a line of JSON for each micrograph."""
    return out / STATE_FOLDER / "log.jsonl"


def token_path(out: Path) -> Path:
    """What the monitor asks of who looks from another machine."""
    return out / STATE_FOLDER / "monitor-token"
