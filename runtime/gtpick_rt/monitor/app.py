"""The monitor's answers: a page, and the JSON that it shows."""

import hashlib
import re
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gtpick_rt.errors import UsageError
from gtpick_rt.following.history import History
from gtpick_rt.following.images import detections_of, preview_of
from gtpick_rt.following.particles import Group
from gtpick_rt.following.records import Entry, Problem
from gtpick_rt.monitor.access import AccessControl
from gtpick_rt.monitor.cache import ResultCache
from gtpick_rt.monitor.feed import Feed
from gtpick_rt.monitor.figures import Figures
from gtpick_rt.monitor.placeholder import placeholder
from gtpick_rt.monitor.prometheus import exposition
from gtpick_rt.monitor.rows import particle_rows, picks_of, problem_row, row_of, status_row, to_json
from gtpick_rt.output.retrying import ask_again
from gtpick_rt.version import __version__

_STATIC = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".png": "image/png"}
"""What is served, from the one folder where it lies, by its suffix."""
_MOST_ROWS = 200
_KEPT = 64
"""Micrographs whose picks and pictures are kept in memory: all who watch look at the newest
ones."""
_THRESHOLD = 0.5
"""Until the run has told its own."""
_NUMBER = re.compile(r"[0-9]{1,9}")


def make_app(out: Path, token: str | None = None, hosts: Collection[str] = ()) -> ASGIApp:
    """Make the web application that shows what happens in the output folder `out`, which may come
    later.

    Args:
        out: output folder of a run of pick.
        token: without which nobody gets an answer; None asks for none.
        hosts: names of this machine, beside "localhost", under which the page may be asked for.

    """
    return AccessControl(_Monitor(out).app(), token, hosts)


class _Monitor:
    """Answers requests."""

    def __init__(self, out: Path) -> None:
        self._history = History(out)
        self._history.catch_up()
        self._feed = Feed(self._history)
        self._figures = Figures(self._history)
        self._details: ResultCache[bytes] = ResultCache(_KEPT)
        self._pictures: ResultCache[tuple[bytes, str]] = ResultCache(_KEPT)
        self._asked: set[Problem] = set()
        self._static = dict(_static_files())
        pages = Environment(
            loader=PackageLoader("gtpick_rt.monitor"), autoescape=True, auto_reload=False, undefined=StrictUndefined
        )
        self._page = pages.get_template("index.html").render(out=str(out), version=__version__)

    def app(self) -> Starlette:
        """All routes, and the task that follows the folder."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            async with self._feed.following():
                yield

        routes = [
            Route("/", self._show_page),
            Route("/static/{name}", self._show_static),
            Route("/api/status", self._show_status),
            Route("/api/micrographs", self._list_micrographs),
            Route("/api/micrographs/{id}", self._show_micrograph),
            Route("/api/micrographs/{id}/preview.jpg", self._show_preview),
            Route("/api/trends", self._show_trends),
            Route("/api/histograms", self._show_histograms),
            Route("/api/particles", self._list_particles),
            Route("/api/particles/{id}.jpg", self._show_particles),
            Route("/api/failures", self._list_failures),
            Route("/api/failures/{id}/retry", self._retry, methods=["POST"]),
            Route("/api/events", self._send_events),
            Route("/metrics", self._show_metrics),
        ]
        return Starlette(routes=routes, lifespan=lifespan)

    async def _show_page(self, request: Request) -> Response:
        return HTMLResponse(self._page)

    async def _show_static(self, request: Request) -> Response:
        found = self._static.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        data, kind = found
        return _cached(request, data, kind, _tag(data))

    async def _show_status(self, request: Request) -> Response:
        return _json(to_json(status_row(self._history.status())))

    async def _list_micrographs(self, request: Request) -> Response:
        query = request.query_params
        limit = min(_number(query.get("limit", "24")), _MOST_ROWS)
        before = _number(query.get("before", "999999999"))
        wanted: Iterable[Entry] = self._history.entries
        if "flag" in query:
            wanted = [entry for entry in wanted if query["flag"] in entry.flags]
        if query.get("outliers") == "1":
            unusual = await self._figures.outliers()
            wanted = [entry for entry in wanted if entry.id in unusual]
        wanted = list(wanted)
        page = islice((entry for entry in reversed(wanted) if entry.id < before), limit)
        return _json(to_json({"micrographs": [row_of(entry) for entry in page], "total": len(wanted)}))

    async def _show_micrograph(self, request: Request) -> Response:
        entry = self._entry(request)
        status = self._history.status()
        try:
            about = (entry, status.diameter_A, status.threshold)
            return _json(await self._details.get(about, lambda: self._read_detail(*about)))
        except UsageError as error:
            raise HTTPException(404, str(error)) from error

    def _read_detail(self, entry: Entry, diameter_A: float | None, threshold: float | None) -> bytes:
        picks = picks_of(entry, detections_of(self._history.out, entry), diameter_A)
        return to_json(row_of(entry) | picks | {"threshold": threshold})

    async def _show_preview(self, request: Request) -> Response:
        entry = self._entry(request)
        try:
            picture, tag = await self._pictures.get(entry, lambda: self._read_picture(entry))
        except UsageError:
            return Response(placeholder(entry.width, entry.height), media_type="image/jpeg")
        return _cached(request, picture, "image/jpeg", tag, keep="t" in request.query_params)

    def _read_picture(self, entry: Entry) -> tuple[bytes, str]:
        """The preview of a micrograph and its tag. Raises UsageError where there is none."""
        picture = preview_of(self._history.out, entry)
        if picture is None:
            raise UsageError(f"{entry.name}: there is no preview; pick it again")
        return picture, _tag(picture)

    async def _show_trends(self, request: Request) -> Response:
        return _json(await self._figures.trends())

    async def _show_histograms(self, request: Request) -> Response:
        threshold = self._history.status().threshold
        return _json(await self._figures.histograms(_THRESHOLD if threshold is None else threshold))

    async def _particles(self) -> list[Group]:
        status = self._history.status()
        threshold = _THRESHOLD if status.threshold is None else status.threshold
        return await self._figures.particles(threshold, status.diameter_A)

    async def _list_particles(self, request: Request) -> Response:
        return _json(to_json(particle_rows(await self._particles())))

    async def _show_particles(self, request: Request) -> Response:
        groups, number = await self._particles(), _id(request)
        if number >= len(groups):
            raise HTTPException(404)
        sheet = groups[number].sheet
        return _cached(request, sheet, "image/jpeg", _tag(sheet))

    async def _list_failures(self, request: Request) -> Response:
        failures = self._history.failures
        self._asked.intersection_update(failures)  # what was picked since, or failed once more, may be asked for again
        rows = [problem_row(each, each in self._asked) for each in failures[-_MOST_ROWS:]]
        return _json(to_json({"failures": rows, "total": len(failures)}))

    async def _retry(self, request: Request) -> Response:
        problem = self._history.failure(_id(request))
        if problem is None:
            raise HTTPException(404)
        try:
            await run_in_threadpool(ask_again, self._history.out, problem.stem)
        except (OSError, ValueError) as error:
            raise HTTPException(409, f"the request cannot be written: {error}") from error
        self._asked.add(problem)
        return _json(to_json({"retry_asked": True}), 202)

    async def _send_events(self, request: Request) -> Response:
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        return EventSourceResponse(self._feed.events())

    async def _show_metrics(self, request: Request) -> Response:
        return Response(exposition(self._history.status()), media_type="text/plain; version=0.0.4; charset=utf-8")

    def _entry(self, request: Request) -> Entry:
        entry = self._history.entry(_id(request))
        if entry is None:
            raise HTTPException(404)
        return entry


def _tag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()[:32]}"'


def _json(data: bytes, status: int = 200) -> Response:
    return Response(data, status, media_type="application/json")


def _static_files() -> Iterable[tuple[str, tuple[bytes, str]]]:
    for each in (files("gtpick_rt.monitor") / "static").iterdir():
        kind = _STATIC.get(Path(each.name).suffix)
        if kind is not None:
            yield each.name, (each.read_bytes(), kind)


def _cached(request: Request, data: bytes, kind: str, tag: str, keep: bool = False) -> Response:
    """Answer with what the browser may keep.

    It must ask about it, for another folder may be shown here tomorrow; but not if the address has
    the time (`keep`).
    """
    control = "private, max-age=86400, immutable" if keep else "private, no-cache"
    headers = {"ETag": tag, "Cache-Control": control}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)


def _id(request: Request) -> int:
    """The id in the address. Raises HTTPException where it is none."""
    text: Any = request.path_params["id"]
    if not _NUMBER.fullmatch(text):
        raise HTTPException(404)
    return int(text)


def _number(text: str) -> int:
    """A number in a query. Raises HTTPException where it is none."""
    if not _NUMBER.fullmatch(text):
        raise HTTPException(400, "a number is wanted")
    return int(text)
