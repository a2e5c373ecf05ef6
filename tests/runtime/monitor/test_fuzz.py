"""Whatever is asked, the server does not fail."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from gtpick_rt.monitor.app import make_app

IDS = st.one_of(st.integers(-2, 5).map(str), st.text(max_size=20), st.sampled_from(["9" * 5000, "..", "0x1", "1e3"]))
PATHS = st.one_of(
    st.sampled_from(["/", "/metrics", "/api/status", "/api/micrographs", "/api/trends", "/api/histograms"]),
    st.builds("/api/micrographs/{}".format, IDS),
    st.builds("/api/micrographs/{}/preview.jpg".format, IDS),
    st.builds("/api/failures/{}/retry".format, IDS),
    st.builds("/static/{}".format, IDS),
    st.text(max_size=40).map("/{}".format),
)
QUERIES = st.dictionaries(
    st.sampled_from(["before", "limit", "flag", "outliers", "token"]) | st.text(max_size=5), IDS, max_size=4
)
METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X"])
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Host", "Origin", "X-Gtpick", "Cookie", "Authorization", "If-None-Match", "Accept", "Range", "Content-Length"]
    ),
    st.one_of(
        st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30),
        st.sampled_from(["1", "*", "http://127.0.0.1:8470", "gtpick-8470=x", "Bearer x", "bytes=0-1", "127.0.0.1"]),
    ),
    max_size=4,
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(METHODS, PATHS, QUERIES, HEADERS, st.binary(max_size=20))
def test_no_request_makes_the_application_fail(
    client: TestClient, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes
) -> None:
    encoded = {name: value.strip().encode("latin-1") for name, value in headers.items()}
    with suppress(httpx.InvalidURL):  # the client's own limit
        answer = client.request(
            method, quote(path, safe="/%.", errors="replace"), params=query, headers=encoded, content=body
        )
        assert answer.status_code < 500
        assert "content-security-policy" in answer.headers


@pytest.fixture
def address(run: Any, served: Callable[..., Any]) -> Iterator[str]:
    with served(make_app(run.out)) as address:
        yield address


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from([b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"POST /"]))
def test_no_bytes_make_the_server_fail(address: str, noise: bytes, start: bytes) -> None:
    import socket

    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(start + noise + b"\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            first = connection.recv(1000).split(b"\r\n", 1)[0]
            assert not first or int(first.split()[1]) < 500
    assert httpx.get(f"{address}/api/status", timeout=20).status_code == 200
