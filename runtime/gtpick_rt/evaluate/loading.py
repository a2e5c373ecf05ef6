"""From files of picks and labels to micrographs to compare."""

import json
from collections.abc import Collection, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gtpick_rt.errors import UsageError
from gtpick_rt.evaluate.finding import CoordinateFiles, find_coordinates
from gtpick_rt.formats.coordinates import TableReader, read_coordinate_set, read_table
from gtpick_rt.output.commit import find_detections
from gtpick_rt.output.layout import STAR_SUFFIX, summary_path
from gtpick_rt.types import Picks

PIXEL_SIZE_SPREAD = 0.01
"""Pixel sizes that differ by no more than this fraction, as those of one microscope that was
calibrated again, give lengths in Å one meaning."""
NEGATIVES = "_negatives"
"""What `gtpick-rt simulate` appends to the name of a micrograph for what is not to be picked."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Compared:
    """One micrograph: what was found on it and what is there, in its pixels."""

    name: str
    picks: Picks
    detections: Picks
    """All that were kept, also below the threshold; the picks are among them."""
    labels: Picks
    negatives: Picks | None = None
    """Places marked as no particle, where this was done."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Loaded:
    """What there is to compare."""

    micrographs: list[Compared]
    log_odds: bool
    """Whether the scores of the picks are probabilities made from log-odds."""
    ignored: list[str]
    """Files, and micrographs in lists, without a counterpart."""
    unnamed: list[str]
    """Micrographs that have labels but are not in the list of picks: nothing was picked there."""
    left_out: dict[str, str]
    """Why micrographs are not compared, by name: what there is of them cannot be read."""


def load(
    picks: Path,
    labels: Path,
    diameter_px: float,
    *,
    negatives: Path | None = None,
    threshold: float | None = None,
    read_file: TableReader = read_table,
) -> Loaded:
    """Pair picks with labels, and read them.

    Two files of one micrograph each are a pair; otherwise micrographs are paired by name. Those
    with labels that a list of picks does not name have no picks. Of an output folder of `gtpick-rt
    pick` the kept detections are read too. With a threshold, in the scores of the file, picks are
    the detections of at least that score.

    Raises UsageError: a path or file is unusable, or nothing pairs.
    """
    found, wanted = find_coordinates(picks, read_file), find_coordinates(labels, read_file)
    files = _same_name(picks, found, labels, wanted)
    names = sorted(files.keys() & wanted.files.keys())
    unnamed = sorted(wanted.files.keys() - files.keys()) if found.is_list else []
    if not names:
        raise UsageError(
            f"no micrograph of {picks} has the name of one of {labels}; "
            "a.star, a_autopick.star or a.mrc in a list goes with a.star, a.csv, a.box ..."
        )
    faults = {**found.faults, **wanted.faults}
    picked = read_coordinate_set({name: files[name] for name in names}, diameter_px, faults, read_file)
    kept = _kept_detections(picks, {name: files[name] for name in names}, faults)
    all_wanted = {name: wanted.files[name] for name in names + unnamed}
    truth = read_coordinate_set(all_wanted, diameter_px, faults, read_file).picks
    marked = {} if negatives is None else _read_negatives(negatives, list(truth), diameter_px, faults)
    truth = {name: each for name, each in truth.items() if name not in faults}
    if not truth:
        raise UsageError(next(iter(faults.values())))
    names = [name for name in names if name in truth]
    detections = {name: kept.get(name, picked.picks[name]) for name in names}
    chosen = picked.picks
    if threshold is not None:
        least = picked.score_of(threshold)
        chosen = {name: each[each.score >= least] for name, each in detections.items()}
    return Loaded(
        micrographs=[
            Compared(
                name=name,
                picks=chosen.get(name, Picks.empty()),
                detections=detections.get(name, Picks.empty()),
                labels=truth[name],
                negatives=marked.get(name),
            )
            for name in sorted(truth)
        ],
        log_odds=picked.log_odds,
        ignored=_alone(files, found, {*truth, *faults}) + _alone(wanted.files, wanted, {*truth, *faults}),
        unnamed=[name for name in unnamed if name in truth],
        left_out=faults,
    )


def recorded_pixel_sizes_A(summary: Path) -> list[float]:
    """Pixel size of each micrograph of a `summary.json`; none where there is no such file, or not
    one of `pick`.
    """
    try:
        return [float(micrograph["pixel_size_A"]) for micrograph in json.loads(summary.read_bytes())["micrographs"]]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def pixel_size_of(picks: Path, labels: Path, read_file: TableReader = read_table) -> float | None:
    """Å per pixel of the micrographs that are compared, as the picks or the labels know it, which
    may be in a `summary.json` beside them; None where neither does.

    Raises UsageError when they know several, and as `load` does.
    """
    found, wanted = find_coordinates(picks, read_file), find_coordinates(labels, read_file)
    named = _same_name(picks, found, labels, wanted)
    names = named.keys() & wanted.files.keys()
    known = [
        (path, size)
        for path, files in ((picks, named), (labels, wanted.files))
        for size in _pixel_sizes_A(path, {files[name] for name in names if name in files}, read_file)
    ]
    if not known:
        return None
    (least_at, least), *_, (most_at, most) = sorted(known * 2, key=lambda each: each[1])
    if most > least * (1 + PIXEL_SIZE_SPREAD):
        raise UsageError(
            f"{least_at} has {least:g} and {most_at} {most:g} Å per pixel: lengths in Å have no one meaning; compare "
            "micrographs of one pixel size at a time, or pass --pixel-size"
        )
    return known[0][1]


def _pixel_sizes_A(path: Path, files: Collection[Path], read_file: TableReader) -> list[float]:
    """Of the micrographs of these files, or what the run of pick says that made them."""
    sizes = set[float]()
    for file in files:
        with suppress(UsageError):  # told where its coordinates are read
            sizes.update(read_file(file).pixel_sizes_A)
    return sorted(sizes) or recorded_pixel_sizes_A(summary_path(path if path.is_dir() else path.parent))


def _same_name(path: Path, found: CoordinateFiles, other: Path, wanted: CoordinateFiles) -> dict[str, Path]:
    """The files of `found`, the only one under the name of the only one of `wanted`, where both are
    the files that were named.
    """
    if path in found.files.values() and other in wanted.files.values() and len(found.files) == len(wanted.files) == 1:
        return dict(zip(wanted.files, found.files.values(), strict=True))
    return found.files


def _read_negatives(path: Path, names: list[str], diameter_px: float, faults: dict[str, str]) -> dict[str, Picks]:
    """Read what is marked on the micrographs `names`; files called `_negatives` besides may stand
    among the labels.
    """
    found = find_coordinates(path).files
    if path.is_file() and len(found) == len(names) == 1:
        files = dict(zip(names, found.values(), strict=True))
    else:
        ending = NEGATIVES if any(name.endswith(NEGATIVES) for name in found) else ""
        files = {name: found[name + ending] for name in names if name + ending in found}
    if not files:
        raise UsageError(f"{path}: no negatives by the name of a micrograph that is compared, such as {names[0]!r}")
    return read_coordinate_set(files, diameter_px, faults).picks


def _kept_detections(out: Path, files: Mapping[str, Path], faults: dict[str, str]) -> dict[str, Picks]:
    """Read what `gtpick-rt pick` kept beside the STAR files of its output folder, given by itself
    or by the list in it; elsewhere there is nothing.
    """
    folder = (out if out.is_dir() else out.parent).resolve()
    stems = {
        name: PurePosixPath(str(file.resolve().relative_to(folder)).removesuffix(STAR_SUFFIX))
        for name, file in files.items()
        if file != out and file.resolve().is_relative_to(folder)
    }
    found = dict[str, Picks]()
    for name, stem in stems.items():
        try:
            detections = find_detections(folder, stem)
        except UsageError as error:
            faults[name] = str(error)
        else:
            found |= {} if detections is None else {name: detections}
    return found


def _alone(files: Mapping[str, Path], source: CoordinateFiles, known: Set[str]) -> list[str]:
    names = sorted(files.keys() - known)
    return [f"{name} in {files[name]}" if source.is_list else str(files[name]) for name in names]
