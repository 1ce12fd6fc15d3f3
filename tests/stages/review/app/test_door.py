"""The door alone, before an application that answers everything."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from stages.review.app.door import Door

PORT = 5151
HERE = f"http://127.0.0.1:{PORT}"
BEARER = {"Authorization": "Bearer secret"}
JSON = {"Content-Type": "application/json"}


async def _everything(request: Request) -> PlainTextResponse:
    return PlainTextResponse("the App")


@pytest.fixture
def client() -> TestClient:
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    routes = [Mount("/plugins", Starlette(routes=[Route("/{rest:path}", _everything)]))]
    app = Starlette(routes=[*routes, Route("/{rest:path}", _everything, methods=methods)])
    door = Door(app, token="secret", port=PORT, may_be_read=lambda path: path == "/data/a.png")
    return TestClient(door, base_url=HERE, follow_redirects=False)


def test_the_link_gives_a_cookie_that_no_script_and_no_other_site_has(client: TestClient) -> None:
    page = client.get("/datasets/demo?view=worst&token=secret")
    assert page.status_code == 200
    assert 'content="0;url=/datasets/demo?view=worst"' in page.text
    assert "secret" not in page.text
    assert page.headers["set-cookie"] == f"sightline-{PORT}=secret; HttpOnly; Path=/; SameSite=strict"
    assert client.get("/").text == "the App", "the client now has the cookie"


def test_the_link_leads_to_this_server_alone(client: TestClient) -> None:
    page = client.get(f"{HERE}//evil.example/%22%3E%3Cscript%3E?token=secret")
    assert 'content="0;url=/evil.example/%22%3E%3Cscript%3E"' in page.text


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer Secret"}, {"Authorization": "Basic secret"}, {"Cookie": "sightline-1=secret"}],
)
@pytest.mark.parametrize("path", ["/", "/fiftyone", "/media?filepath=/data/a.png", "/?token=wrong", "/?token="])
def test_without_the_token_nothing_is_answered(client: TestClient, headers: Mapping[str, str], path: str) -> None:
    refused = client.get(path, headers=headers)
    assert refused.status_code == 403
    assert "open the link that `sightline app` printed" in refused.text


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", f"127.0.0.1.evil.example:{PORT}", "10.0.0.1", ""]
)
def test_a_name_that_is_not_this_machines_is_refused_even_with_the_token(client: TestClient, host: str) -> None:
    for path in ("/?token=secret", "/media?filepath=/data/a.png"):
        refused = client.get(path, headers={**BEARER, "Host": host})
        assert (refused.status_code, "set-cookie" in refused.headers) == (403, False)
        assert "none of this machine's own" in refused.text


@pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}", "localhost:8000", "localhost"])
def test_this_machines_names_are_served_also_through_a_forwarded_port(client: TestClient, host: str) -> None:
    for origin in ({}, {"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}):
        assert client.post("/event", json={}, headers={**BEARER, "Host": host, **origin}).text == "the App"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": f"http://localhost:{PORT}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_other_places_are_refused_whatever_they_have(client: TestClient, headers: Mapping[str, str]) -> None:
    for method in ("POST", "PATCH", "DELETE", "GET"):
        refused = client.request(method, "/operators/execute", headers={**BEARER, **JSON, **headers})
        assert (refused.status_code, "not of the App" in refused.text or "not the App" in refused.text) == (403, True)


def test_a_link_on_another_site_opens_the_app_but_posts_nothing(client: TestClient) -> None:
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/?token=secret", headers=followed).status_code == 200
    assert client.post("/operators/execute", headers={**BEARER, **JSON, **followed}).status_code == 403


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("application/json-patch+json", 200),
        ("text/event-stream", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        (None, 415),
    ],
)
def test_a_body_must_say_that_it_is_json(client: TestClient, kind: str | None, status: int) -> None:
    headers = {**BEARER, **({"Content-Type": kind} if kind else {})}
    for method in ("POST", "PUT", "PATCH"):
        assert client.request(method, "/event", content=b"{}", headers=headers).status_code == status


def test_media_are_files_of_the_dataset(client: TestClient) -> None:
    def asked(query: str) -> int:
        return int(client.get(f"/media?{query}", headers=BEARER).status_code)

    assert asked("filepath=/data/a.png") == 200
    assert asked("filepath=/etc/passwd") == 403
    assert asked("filepath=/data/a.png&filepath=/etc/passwd") == 403
    assert asked("filepath=/data/../etc/passwd") == 403


def test_pages_load_from_this_server_alone_and_files_run_no_script(client: TestClient) -> None:
    page = client.get("/", headers=BEARER).headers["content-security-policy"]
    assert not any(source in page for source in ("http:", "https:", "*"))
    assert "default-src 'self'" in page
    assert "frame-ancestors 'none'" in page
    picture = client.get("/media?filepath=/data/a.png", headers=BEARER).headers
    assert "sandbox" in picture["content-security-policy"]
    assert picture["x-content-type-options"] == "nosniff"
    assert picture["cross-origin-resource-policy"] == "same-origin"


def test_a_browser_asks_for_the_panel_again_after_an_update(client: TestClient) -> None:
    assert client.get("/plugins/sightline/panel/panel.js", headers=BEARER).headers["cache-control"] == "no-cache"
    assert "cache-control" not in client.get("/assets/index.js", headers=BEARER).headers


def test_there_are_no_websockets(client: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/", headers=BEARER):
        pass
