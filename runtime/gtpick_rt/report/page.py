"""The report: one HTML file with everything inside, that needs neither a script nor a network."""

import hashlib
import time
from base64 import b64encode
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from gtpick_rt.errors import UsageError
from gtpick_rt.following.charts import Histograms, Sampler, trends
from gtpick_rt.following.history import History
from gtpick_rt.following.particles import particle_groups
from gtpick_rt.following.records import Entry
from gtpick_rt.following.status import Status
from gtpick_rt.following.throughput import Pace
from gtpick_rt.output.layout import log_path, shards_folder
from gtpick_rt.output.summary import Outcome
from gtpick_rt.records import counted
from gtpick_rt.report import facts, figures, gallery, particles

_THRESHOLD = 0.5
"""Where the run has not told its own."""
_MOST_FAILURES = 200


def make_report(out: Path, clock: Callable[[], float] = time.time) -> bytes:
    """Make the report of a run, finished or not, from its output folder; nothing there is changed
    or waited for.

    Raises UsageError where `out` is no output folder, or nothing has been done in it yet.
    """
    if not (log_path(out).is_file() or shards_folder(out).is_dir()):
        raise UsageError(f"{out}: no output folder of pick: {log_path(out)} is not there; give the OUT of a run")
    history = History(out, clock)
    history.catch_up()
    status = history.status()
    if status.average is None or not (history.entries or history.failures):
        raise UsageError(f"{out}: no micrograph is done yet; make the report when some are")
    style = Markup((files("gtpick_rt.report") / "templates" / "report.css").read_text(encoding="utf-8"))  # noqa: S704
    pages = Environment(
        loader=PackageLoader("gtpick_rt.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = pages.get_template("report.html").render(
        style=style,
        style_hash=b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        out=out.absolute().name,
        counted=counted,
        **_words(history, status, status.average, clock()),
        **_figures(history),
    )
    return text.encode("utf-8", "replace")  # a file name need not be text


def _words(history: History, status: Status, pace: Pace, now: float) -> dict[str, object]:
    failures = history.failures
    card = facts.model_card(history.summary)
    return {
        "status": status,
        "headline": facts.headline(status, history.entries, pace),
        "first": pace.first,
        "last": pace.last,
        "failures": failures[:_MOST_FAILURES],
        "moment": facts.moment,
        "parameters": facts.parameters(history.summary),
        "commands": facts.commands(history.summary),
        "versions": facts.versions(status, history.summary, now),
        "stages": [(each, figures.stage_bar(each.share)) for each in facts.stages(status)],
        "workers": facts.workers(status),
        "card": None if card is None else _rendered(card),
    }


def _rendered(card: str) -> Markup:
    """Its own HTML would be shown, not obeyed; its title goes below that of the page."""
    written = MarkdownIt("js-default").render(card)
    return Markup(written.replace("<h1>", "<h2>").replace("</h1>", "</h2>"))  # noqa: S704


def _figures(history: History) -> dict[str, object]:
    entries, status = history.entries, history.status()
    threshold = _THRESHOLD if status.threshold is None else status.threshold
    found = particle_groups(history, entries, threshold, status.diameter_A)
    return {
        "trends": _trends(entries) if entries else None,
        "adaptation": _adaptation(status.adaptation),
        "histograms": _histograms(Sampler(history).histograms(entries, threshold)),
        "particles": [(each, particles.picture(each), particles.profile(each, found)) for each in found],
        "gallery": [
            (group, [gallery.card(history, entry, threshold, status.diameter_A) for entry in group.entries])
            for group in gallery.choose(entries)
        ],
        "legend": [(f"{score:.1f}", figures.swatch(gallery.colour(score))) for score in gallery.SCORES],
    }


def _trends(entries: list[Entry]) -> dict[str, object]:
    found = trends(entries)
    return {
        "found": found,
        "alone": len(entries) <= figures.MOST_ALONE,
        "picks": figures.trend_of_picks(found, entries),
        "score": figures.trend_of_scores(found),
        "flags": figures.trend_of_flags(found),
    }


def _adaptation(found: Outcome | None) -> dict[str, object] | None:
    if found is None:
        return None
    shown = {"picks": figures.picks_changed(found), "score": figures.scores_changed(found)} if found.changes else {}
    return {"told": found.sentence, "figures": shown}


def _histograms(found: Histograms) -> dict[str, object] | None:
    if not found.micrographs:
        return None
    return {
        "found": found,
        "score": figures.score_histogram(found),
        "left": figures.picks_left(found),
        "diameter": figures.length_histogram(found.diameter_A, "the diameters of the picks"),
        "neighbour": figures.length_histogram(found.neighbour_A, "the distances to the nearest pick"),
    }
