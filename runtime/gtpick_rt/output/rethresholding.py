"""Picks at another threshold, from the detections that an output folder keeps."""

from dataclasses import dataclass, replace
from pathlib import Path

from gtpick_rt.errors import UnwritableError, UsageError
from gtpick_rt.output.conversion import OVERLAYS
from gtpick_rt.output.converting import convert, in_threads, loaded, unwritable
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.layout import summary_path
from gtpick_rt.output.summary import Summary, read_summary
from gtpick_rt.records import Failure, MicrographRecord


@dataclass(frozen=True, kw_only=True)
class Rethresholded:
    """What was rewritten."""

    micrographs: int
    before: int
    """Picks on them before."""
    after: int
    """And now."""
    overlays: int
    """Pictures that were removed, because the folder does not keep overlays."""
    failed: list[Failure]
    """Micrographs whose detections cannot be read."""


def rethreshold(output: OutputFolder, threshold: float) -> Rethresholded:
    """Rewrite all that an output folder holds, at another threshold. Overlays that an older version
    has left are removed; those that the folder keeps are drawn anew.

    A micrograph is done when its STAR file is rewritten; what an interruption leaves is done when
    this is called again. Raises UsageError when there are no picks, or the threshold is below the
    scores that are kept; BlockedError or UnwritableError.
    """
    settings = output.go_on(threshold)
    summary = _last_summary(output.path)
    floor = summary.model.floor
    if not floor <= threshold <= 1:
        raise UsageError(f"threshold {threshold:g}: scores from {floor:g} to 1 are kept; choose one of them")
    todo = output.begin_rewriting()

    def rewrite(record: MicrographRecord) -> tuple[MicrographRecord, bool] | Failure:
        done = loaded(output, record)
        if isinstance(done, Failure):
            return done
        try:
            return done.record, output.files.rewrite(done)
        except UnwritableError as error:
            return unwritable(record, error)

    before = {record.stem: record.picks for record in todo}
    done: list[tuple[int, int, bool]] = []
    failed: list[Failure] = []
    for outcome in in_threads(rewrite, todo):
        if isinstance(outcome, Failure):
            output.report(outcome)
            failed.append(outcome)
        else:
            record, overlaid = outcome
            output.note(record)
            output.log(state="rethresholded", stem=record.stem, picks=record.picks, median_score=record.median_score)
            done.append((before[record.stem], record.picks, overlaid))
    try:
        failed += convert(output)
    finally:
        output.write_lists(replace(summary.at_threshold(settings.threshold), totals=output.totals))
    return Rethresholded(
        micrographs=len(done),
        before=sum(count for count, _, _ in done),
        after=sum(count for _, count, _ in done),
        overlays=0 if OVERLAYS in output.conversion.formats else sum(overlaid for _, _, overlaid in done),
        failed=failed,
    )


def _last_summary(out: Path) -> Summary:
    """Read what the last run says of itself. Raises UsageError."""
    path = summary_path(out)
    found = read_summary(path)
    if found is None:
        raise UsageError(f"{path}: is missing or damaged; run pick once more, which writes it anew")
    return found
