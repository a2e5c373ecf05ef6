"""The formats that picks are converted to: one file of each micrograph, or one list of all."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from gtpick_rt.errors import UsageError
from gtpick_rt.formats.box import box_of, picks_to_box
from gtpick_rt.formats.cbox import detections_to_cbox
from gtpick_rt.formats.comma import picks_to_csv
from gtpick_rt.formats.cryosparc import cs_dtype, cs_header, cs_rows
from gtpick_rt.formats.facility import picks_to_json
from gtpick_rt.formats.topaz import HEADER, topaz_rows
from gtpick_rt.output.layout import cryosparc_path, formats_path, overlay_path, preview_path, star_path, topaz_path
from gtpick_rt.output.summary import Settings
from gtpick_rt.records import MicrographRecord
from gtpick_rt.types import Picks


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """The other formats of an output folder.

    They stand in the folder, so that all later runs keep them current.
    """

    formats: tuple[str, ...] = ()
    """Of `SINGLE`, `LISTS` and `OVERLAYS`."""
    box_px: int | None = None
    """Side of the boxes in `.box` and `.cbox`; None takes the particle's diameter."""
    flip_y: bool = False
    """Whether `.cs` counts rows from the last one stored."""
    due: tuple[str, ...] = ()
    """Of `per_micrograph`, those whose files may be of another threshold or box size, and are to
    be written anew."""

    def __post_init__(self) -> None:
        known = (*SINGLE, *LISTS, OVERLAYS)
        unknown = set(self.formats).difference(known)
        if unknown:
            raise UsageError(f"format {min(unknown)!r} is not known; star, {', '.join(known)} are")
        if self.box_px is not None and (self.box_px < 2 or self.box_px % 2):
            raise UsageError(f"a box of {self.box_px} pixels: it needs an even number, so that its centre is a pixel")

    @property
    def single(self) -> tuple[str, ...]:
        """The formats with a text of each micrograph."""
        return tuple(name for name in self.formats if name in SINGLE)

    @property
    def per_micrograph(self) -> tuple[str, ...]:
        """The formats with a file of each micrograph: its text, or its picture."""
        return tuple(name for name in self.formats if name in SINGLE or name == OVERLAYS)

    @property
    def lists(self) -> tuple[str, ...]:
        """The formats with one file."""
        return tuple(name for name in self.formats if name in LISTS)

    def with_formats(self, names: Iterable[str]) -> "Conversion":
        """These formats too."""
        return dataclasses.replace(self, formats=tuple(dict.fromkeys((*self.formats, *names))))

    def with_due(self, names: Iterable[str]) -> "Conversion":
        """These formats are to be written anew too."""
        return dataclasses.replace(self, due=tuple(dict.fromkeys((*self.due, *names))))

    def updated(self, asked: "Conversion") -> "Conversion":
        """What is asked for now too, and anew; box size and flip hold for the formats that have
        them, when one of these is named.
        """
        boxed = [name for name in self.formats if name in BOXED]
        box_px = asked.box_px if BOXED & set(asked.formats) else self.box_px
        return Conversion(
            formats=self.with_formats(asked.formats).formats,
            box_px=box_px,
            flip_y=asked.flip_y if "cs" in asked.formats else self.flip_y,
            due=self.with_due([*asked.per_micrograph, *(boxed if box_px != self.box_px else ())]).due,
        )

    def places(self, out: Path) -> list[Path]:
        """Where the formats lie in an output folder."""
        return [*(out / name for name in self.per_micrograph), *(LISTS[name][0](out) for name in self.lists)]

    def to_json(self) -> str:
        """Write it down, for `read_conversion`."""
        return json.dumps(dataclasses.asdict(self)) + "\n"


def read_conversion(out: Path) -> Conversion:
    """Read which other formats an output folder has.

    Raises UsageError when that cannot be known, and OSError.
    """
    path = formats_path(out)
    try:
        found = json.loads(path.read_bytes())
        return Conversion(**{**found, "formats": tuple(found["formats"]), "due": tuple(found.get("due", ()))})
    except FileNotFoundError:
        return Conversion()
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: damaged ({error}); remove it, and convert the picks again") from error


@dataclass(frozen=True, eq=False)
class Finished:
    """One picked micrograph."""

    record: MicrographRecord
    settings: Settings
    detections: Picks
    """All that are kept, in pixels of the micrograph."""

    @classmethod
    def at(cls, settings: Settings, record: MicrographRecord, detections: Picks) -> "Finished":
        """With the number of picks that the threshold of `settings` gives."""
        picks = detections[detections.score >= settings.threshold]
        record = dataclasses.replace(record, picks=len(picks), median_score=picks.median_score)
        return cls(record, settings, detections)

    @property
    def index(self) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        """`(n,)` places of the picks among the detections."""
        return np.flatnonzero(self.detections.score >= self.settings.threshold)

    @property
    def picks(self) -> Picks:
        """The detections at or above the threshold."""
        return self.detections[self.index]

    def box_px(self, conversion: Conversion) -> int:
        """Side of a box."""
        return conversion.box_px or box_of(self.settings.diameter_A / self.record.pixel_size_A)


_INTERNAL = ("stem", "name", "seconds", "exposure_uid", "exposure_group")


def _about(done: Finished) -> dict[str, object]:
    """What a facility wants to know: the record without what only this program needs, and how the
    picks were made.
    """
    record = dataclasses.asdict(done.record)
    known = {name: record[name] for name in record if name not in _INTERNAL}
    made = ("model", "diameter_A", "contrast", "threshold")
    places = {"star": star_path, "preview": preview_path, "overlay": overlay_path}
    return {
        "micrograph": done.record.name,
        **known,
        **{name: getattr(done.settings, name) for name in made},
        **{name: str(place(Path(), PurePosixPath(done.record.stem))) for name, place in places.items()},
    }


OVERLAYS = "overlays"
"""Pictures of the micrographs with their picks, kept like a format; see `layout.overlay_path`."""
BOXED = {"box", "cbox"}
"""Formats of boxes."""
SINGLE: dict[str, Callable[[Finished, Conversion], str]] = {
    "box": lambda done, conversion: picks_to_box(done.picks, done.box_px(conversion)),
    "cbox": lambda done, conversion: detections_to_cbox(done.detections, done.box_px(conversion)),
    "csv": lambda done, conversion: picks_to_csv(done.picks),
    "json": lambda done, conversion: picks_to_json(done.picks, _about(done)),
}
"""Formats with a file of each micrograph, by the suffix of that file; each gives its text."""


@dataclass(frozen=True)
class Extent:
    """How long a list will be."""

    picks: int = 0
    path_bytes: int = 0
    """Of the longest name of a micrograph."""

    def and_of(self, done: Finished) -> "Extent":
        """With one more micrograph."""
        return Extent(self.picks + done.record.picks, max(self.path_bytes, len(done.record.name.encode())))


def _cryosparc(micrographs: Iterable[Finished], extent: Extent, conversion: Conversion) -> Iterator[bytes]:
    dtype = cs_dtype(extent.path_bytes)
    yield cs_header(dtype, extent.picks)
    for done in micrographs:
        record = done.record
        yield cs_rows(
            done.picks,
            done.index,
            dtype,
            stem=record.stem,
            micrograph_uid=record.exposure_uid,
            group=record.exposure_group,
            path=record.name,
            shape=(record.height, record.width),
            pixel_size_A=record.pixel_size_A,
            diameter_A=done.settings.diameter_A,
            flip_y=conversion.flip_y,
        )


def _topaz(micrographs: Iterable[Finished], extent: Extent, conversion: Conversion) -> Iterator[bytes]:
    """Raises UsageError when two micrographs have the same bare name."""
    yield HEADER.encode()
    names: dict[str, str] = {}
    for done in micrographs:
        stem = done.record.stem
        name = PurePosixPath(stem).name
        if names.setdefault(name, stem) != stem:
            raise UsageError(
                f"{names[name]!r} and {stem!r}: Topaz knows micrographs by their names without folders; "
                "pick them into two output folders for it"
            )
        yield topaz_rows(name, done.picks).encode()


List = Callable[[Iterable[Finished], Extent, Conversion], Iterator[bytes]]
LISTS: dict[str, tuple[Callable[[Path], Path], List]] = {
    "cs": (cryosparc_path, _cryosparc),
    "topaz": (topaz_path, _topaz),
}
"""Formats with one file of all micrographs: its path in the output folder, and its pieces."""
