"""The door before FiftyOne's server: it lets in whoever has the App's link, and no other page, program or user.

FiftyOne answers every request that reaches its port, and reads any file of the user's for it. A page of another site
reaches 127.0.0.1 by a form or, with a name that it points there, by DNS rebinding; so do other users of the machine.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from html import escape
from urllib.parse import quote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN = "token"
"""Parameter of the App's link, which lets its browser in."""

LOOPBACK = ("127.0.0.1", "localhost")
"""Names of this machine. Their port is free, so that a port which is forwarded may have another number."""

BODIES = ("application/json", "application/json-patch+json", "text/event-stream")
"""What FiftyOne's page sends. A page of another site can send none of them without asking first."""

PAGES = (
    "default-src 'self'; "
    # Plotly makes its WebGL code with Function; FiftyOne decodes heatmaps in workers that it makes from blobs.
    "script-src 'self' 'unsafe-eval' blob:; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of the App: its page loads from this server alone."""

FILES = "sandbox; default-src 'none'; style-src 'unsafe-inline'"
"""The same of a sample's file that is opened by itself: a drawing (SVG) runs no script."""


class Door:
    """An ASGI application that passes on to ``app`` the requests of those who know ``token``.

    ``port`` is the server's own, and tells its cookie from that of another App. ``may_be_read`` says of a path whether
    ``/media`` may answer with that file; it is called in a thread.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int, may_be_read: Callable[[str], bool]) -> None:
        self.app, self.token, self.cookie, self.may_be_read = app, token, f"sightline-{port}", may_be_read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on. FiftyOne has no websockets, so none is passed on."""
        if scope["type"] == "http":
            answer = await self._answer(Request(scope))
            if answer is None:
                await self.app(scope, receive, _with_headers(send, scope["path"]))
            else:
                await answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, request: Request) -> Response | None:
        """The door's own answer; None for a request that is passed on."""
        foreign = _foreign(request)
        if foreign is not None:
            return _refuse(403, foreign)
        if request.method == "GET" and self._is_token(request.query_params.get(TOKEN)):
            return self._let_in(request)
        if not self._is_token(request.cookies.get(self.cookie)) and not self._is_token(_bearer(request)):
            return _refuse(
                403, "open the link that `sightline app` printed: it ends in ?token=... and changes each time"
            )
        if request.method in ("POST", "PUT", "PATCH") and _content_type(request) not in BODIES:
            return _refuse(415, f"a body of type {_content_type(request) or 'unknown'}; send application/json")
        path = request.query_params.get("filepath")
        if request.scope["path"] == "/media" and path and not await run_in_threadpool(self.may_be_read, path):
            return _refuse(403, f"{path} is no image of a dataset and no heatmap of a run")
        return None

    def _is_token(self, given: str | None) -> bool:
        return given is not None and secrets.compare_digest(given.encode(), self.token.encode())

    def _let_in(self, request: Request) -> Response:
        """A page that takes the cookie and goes on to the same address without the token.

        It is no redirect: a browser that came by a link on another site follows one without the cookie, since that is
        SameSite=Strict.
        """
        rest = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != TOKEN])
        place = "/" + quote(request.scope["path"].lstrip("/")) + (f"?{rest}" if rest else "")
        answer = HTMLResponse(
            f'<!doctype html><meta charset="utf-8"><title>Sightline</title>'
            f'<meta http-equiv="refresh" content="0;url={escape(place)}"><a href="{escape(place)}">to the App</a>',
            headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"},
        )
        answer.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")
        return answer


def _foreign(request: Request) -> str | None:
    """Why a request is not one of the App's own page, of the address bar or of a link; None for one that is."""
    host = request.headers.get("host", "")
    if host.rpartition(":")[0] not in LOOPBACK and host not in LOOPBACK:
        return f"the name {host!r} is none of this machine's own ({', '.join(LOOPBACK)})"
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "none")
    if origin is not None and origin != f"http://{host}":
        return f"the request is of a page of {origin}, not of the App"
    opens_a_page = request.method == "GET" and request.headers.get("sec-fetch-dest") == "document"
    if site not in ("same-origin", "none") and not opens_a_page:
        return f"the request is of a page of another place ({site}), not of the App"
    return None


def _bearer(request: Request) -> str | None:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token if kind == "Bearer" else None


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _refuse(status: int, why: str) -> Response:
    return PlainTextResponse(f"Sightline refused this request: {why}\n", status, {"Cache-Control": "no-store"})


def _with_headers(send: Send, path: str) -> Send:
    """``send``, with what a browser is told about an answer of FiftyOne's."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Content-Security-Policy"] = FILES if path == "/media" else PAGES
            headers["Cross-Origin-Resource-Policy"] = "same-origin"
            headers["X-Content-Type-Options"] = "nosniff"
            if path.startswith("/plugins"):
                # Else a browser goes on with the panel of an earlier version.
                headers["Cache-Control"] = "no-cache"
        await send(message)

    return send_with_headers
