"""Who may ask: no other site through a browser, and beyond this machine nobody
without the token.
"""

import ipaddress
import re
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from secrets import compare_digest
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
HEADER = "X-Gtpick"
"""Only a script of our own page sends it: another site would have to be allowed to by us first."""
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+))(?::([0-9]{1,5}))?")
_COOKIE_S = 30 * 24 * 3600
_WELCOME = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=/"><title>gtpick-rt</title>'
"""A redirect would not do: after a link on another site the browser would follow it without the new
cookie."""


class AccessControl:
    """Lets requests through to `app`, or refuses them; every answer gets the headers that protect
    the page.

    Args:
        app: what answers.
        token: without which nobody gets an answer; None asks for none.
        hosts: names under which the page may be asked for, beside those of this machine for itself.
            A name that somebody else's DNS lets point here is refused.

    """

    def __init__(self, app: ASGIApp, token: str | None, hosts: Collection[str]) -> None:
        self._app, self._token = app, token
        self._hosts = LOCAL | {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI defines it."""

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            answer = self._answer(scope)
            await (self._app if answer is None else answer)(scope, receive, protected)

    def _answer(self, scope: Scope) -> Response | None:
        """What is answered at once; None lets the request through."""
        headers = Headers(scope=scope)
        name, port = split_host(headers.get("host", ""))
        if not self._is_ours(name, scope):
            return PlainTextResponse("this host name is not one of the monitor's\n", 403)
        if self._token is not None:
            cookie = f"gtpick-{port}"  # browsers keep one set for all ports of a machine
            if self._has_link(scope):
                return self._welcome(cookie)
            if not self._knows(headers, cookie):
                return PlainTextResponse("open the link that `gtpick-rt monitor` has printed: it has the token\n", 401)
        if scope["method"] not in SAFE_METHODS and not _is_from_our_page(headers, scope):
            return PlainTextResponse("only the monitor's own page may ask for that\n", 403)
        return None

    def _is_ours(self, name: str, scope: Scope) -> bool:
        # An address, unlike a name, cannot be made to point elsewhere.
        here = (scope.get("server") or ("",))[0]
        return name in self._hosts or (name == here and _is_address(name))

    def _knows(self, headers: Headers, cookie: str) -> bool:
        """Whether the token is in the cookie or, for Prometheus, in the header that is
        made for it.
        """
        given = [headers.get("authorization", "").removeprefix("Bearer ")]
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(cookie)
        except CookieError:
            morsel = None
        given += [morsel.value] if morsel is not None else []
        return any(self._is_token(each) for each in given)

    def _is_token(self, given: str) -> bool:
        return self._token is not None and compare_digest(given.encode("utf-8", "replace"), self._token.encode())

    def _has_link(self, scope: Scope) -> bool:
        """Whether this is the link that was printed."""
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return scope["path"] == "/" and scope["method"] == "GET" and self._is_token(token)

    def _welcome(self, cookie: str) -> Response:
        """Exchange the token of the link for a cookie, so that it stands in no address any more."""
        answer = HTMLResponse(_WELCOME)
        answer.set_cookie(cookie, self._token or "", max_age=_COOKIE_S, httponly=True, samesite="strict")
        return answer


def split_host(header: str) -> tuple[str, str]:
    """Name and port of a Host header, in lower case; an IPv6 address without its brackets.

    Empty where it is none.
    """
    found = _HOST.fullmatch(header.lower())
    return (found[1] or found[2], found[3] or "") if found else ("", "")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_from_our_page(headers: Headers, scope: Scope) -> bool:
    ours = f"{scope.get('scheme', 'http')}://{headers.get('host', '')}"
    return headers.get(HEADER) == "1" and headers.get("origin", "").lower() == ours.lower()
