"""Nobody gets an answer who should not, and every answer protects the page."""

import socket
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from gtpick_rt.monitor import access as guard
from gtpick_rt.monitor.access import split_host
from gtpick_rt.output.layout import retry_folder

TOKEN = "t0ken" * 8
PATHS = ("/", "/static/main.js", "/api/status", "/api/micrographs/0/preview.jpg", "/metrics", "/nothing", "/api/events")
RETRY = "/api/failures/2/retry"
OURS = {"X-Gtpick": "1", "Origin": "http://127.0.0.1:8470"}


@pytest.fixture
def locked(run: Any, ask: Callable[..., TestClient]) -> TestClient:
    """A client without the token that is asked for."""
    return ask(run.out, known=4, token=TOKEN, hosts=["scope.example"])


@pytest.mark.parametrize("path", [*PATHS[:6], "/nothing"])
def test_every_answer_protects_the_page(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert not {"script-src", "style-src"} & policy.keys()
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "no-store" in headers["cache-control"] or "no-cache" in headers["cache-control"]
    assert "access-control-allow-origin" not in headers


def test_an_error_of_ours_protects_the_page_too(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gtpick_rt.monitor.app.status_row", lambda status: 1 / 0)  # of requests alone, not of the feed
    answer = client.get("/api/status")
    assert answer.status_code == 500
    assert "ZeroDivisionError" not in answer.text
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize("host", ["127.0.0.1:8470", "localhost:8470", "LOCALHOST", "[::1]:8470", "127.0.0.1"])
def test_this_machine_may_ask_by_its_own_names(client: TestClient, host: str) -> None:
    assert client.get("/api/status", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8470", "127.0.0.1.evil.example", "localhost.evil.example", "evil@127.0.0.1"),
        *("", "127.0.0.1:x", "127.0.0.2", "10.0.0.1", "testserver", "localhost:8470:8470", "0.0.0.0", "[::1", "::1:80"),
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/status", "/static/main.js", "/metrics"])
def test_a_name_that_somebody_elses_dns_lets_point_here_is_refused(client: TestClient, host: str, path: str) -> None:
    assert client.get(path, headers={"Host": host}).status_code == 403


def test_names_that_were_given_may_be_asked_for(locked: TestClient) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert locked.get("/api/status", headers=headers | {"Host": "scope.example:8470"}).status_code == 200
    assert locked.get("/api/status", headers=headers | {"Host": "other.example"}).status_code == 403


def test_the_address_at_which_one_was_reached_may_be_asked_for(run: Any, ask: Callable[..., TestClient]) -> None:
    client = ask(run.out)
    client.base_url = "http://192.0.2.7:8470"  # the client says that it has reached that
    assert client.get("/api/status").status_code == 200
    assert client.get("/api/status", headers={"Host": "192.0.2.8:8470"}).status_code == 403


@pytest.mark.parametrize(
    ("host", "parts"),
    [
        ("Localhost:80", ("localhost", "80")),
        ("[::1]:80", ("::1", "80")),
        ("[::1]", ("::1", "")),
        ("name", ("name", "")),
        ("", ("", "")),
        ("a:b:1", ("", "")),
        ("::1", ("", "")),
    ],
)
def test_a_host_is_split_into_name_and_port(host: str, parts: tuple[str, str]) -> None:
    assert split_host(host) == parts


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer "},
        {"Cookie": "gtpick-8470=wrong"},
        {"Cookie": f"gtpick-9999={TOKEN}"},
        {"Cookie": "gtpick-8470"},
        {"Cookie": 'a="\\'},
    ],
)
def test_without_the_token_there_is_nothing(locked: TestClient, path: str, headers: dict[str, str]) -> None:
    assert locked.get(path, headers=headers).status_code == 401


@pytest.mark.parametrize("query", ["?token=", "?token=wrong", "?Token=" + TOKEN, "?token=%ff", f"?x={TOKEN}"])
def test_a_wrong_link_opens_nothing(locked: TestClient, query: str) -> None:
    answer = locked.get(f"/{query}")
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_the_link_opens_the_page_only(locked: TestClient) -> None:
    assert locked.get(f"/api/status?token={TOKEN}").status_code == 401
    assert locked.post(f"/?token={TOKEN}").status_code == 401


def test_the_link_is_exchanged_for_a_cookie_and_leaves_the_address(locked: TestClient) -> None:
    answer = locked.get(f"/?token={TOKEN}")
    assert answer.status_code == 200
    assert 'content="0; url=/"' in answer.text
    assert TOKEN not in answer.text
    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith("gtpick-8470=")
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip() for part in cookie.split(";")}
    assert answer.headers["cache-control"] == "no-store"
    assert locked.get("/api/status").status_code == 200  # the client keeps the cookie
    assert locked.get("/").status_code == 200


def test_prometheus_can_send_the_token(locked: TestClient) -> None:
    assert locked.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_a_wrong_host_is_refused_even_with_the_token(locked: TestClient) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Host": "evil.example"}
    assert locked.get("/api/status", headers=headers).status_code == 403
    assert locked.get(f"/?token={TOKEN}", headers={"Host": "evil.example"}).status_code == 403


def test_tokens_are_compared_in_constant_time(locked: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    monkeypatch.setattr(guard, "compare_digest", lambda a, b: compared.append(a) or False)
    for headers in ({"Authorization": f"Bearer {TOKEN}"}, {"Cookie": f"gtpick-8470={TOKEN}"}):
        compared.clear()
        assert locked.get("/api/status", headers=headers).status_code == 401
        assert TOKEN.encode() in compared
    compared.clear()
    assert locked.get(f"/?token={TOKEN}").status_code == 401
    assert TOKEN.encode() in compared


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Gtpick": "1"},
        {"Origin": "http://127.0.0.1:8470"},
        OURS | {"X-Gtpick": "0"},
        OURS | {"Origin": "http://evil.example"},
        OURS | {"Origin": "https://127.0.0.1:8470"},
        OURS | {"Origin": "http://127.0.0.1:9999"},
        OURS | {"Origin": "http://localhost:8470"},
        OURS | {"Origin": "null"},
        OURS | {"Origin": "http://127.0.0.1:8470.evil.example"},
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_another_sites_request_changes_nothing(
    client: TestClient, run: Any, headers: dict[str, str], method: str
) -> None:
    assert client.request(method, RETRY, headers=headers).status_code == 403
    assert not retry_folder(run.out).exists()


def test_a_cookie_alone_does_not_let_another_site_change_anything(locked: TestClient, run: Any) -> None:
    locked.get(f"/?token={TOKEN}")
    assert locked.post(RETRY, headers={"Origin": "http://evil.example", "X-Gtpick": "1"}).status_code == 403
    assert locked.post(RETRY, headers=OURS).status_code == 202
    assert len(list(retry_folder(run.out).iterdir())) == 1


def test_a_preflight_allows_nothing(client: TestClient) -> None:
    headers = {
        "Origin": "http://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-gtpick",
    }
    answer = client.options(RETRY, headers=headers)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_websocket_is_not_answered(client: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/api/events"):
        pass


def test_a_request_without_a_host_is_refused(run: Any, served: Callable[..., Any]) -> None:
    from gtpick_rt.monitor.app import make_app

    with served(make_app(run.out)) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(b"GET /api/status HTTP/1.0\r\n\r\n")
            assert b" 403 " in connection.recv(100)
