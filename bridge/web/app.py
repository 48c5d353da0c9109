"""The routes of the web page as a Starlette application. No threads and no sockets in here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bridge.web.admission import Admission
from bridge.web.page import compose_page
from bridge.web.preview import Preview
from engine.control.live_values import LiveValues
from engine.control.parameter import BadValue, Kind
from engine.control.table import BY_NAME, TABLE, UnknownParameter, find

MAX_BODY = 64 * 1024
"""Bytes a request may carry."""
MAX_WATCHERS = 8
COOKIE = "phosphene_token"
FIRST_PICTURE_SECONDS = 3.0
END_SECONDS = 0.5
STUCK_SECONDS = 10.0
"""A browser that takes no bytes for this long is let go."""

Facts = Callable[[], Mapping[str, object]]


def build_app(*, values: LiveValues, preview: Preview, facts: Facts, admission: Admission) -> ASGIApp:
    """The application: page, preview, state and values, behind the admission rules."""
    site = Site(values=values, preview=preview, facts=facts)
    routes = [
        Route("/", site.page),
        Route("/api/state", site.state),
        Route("/api/values", site.read_values, methods=["GET"]),
        Route("/api/values", site.write_values, methods=["POST"]),
        Route("/preview.jpg", site.picture),
        Route("/preview.mjpg", site.pictures),
    ]
    return Gate(Starlette(routes=routes), admission)


class Site:
    """What is answered at each address."""

    def __init__(self, *, values: LiveValues, preview: Preview, facts: Facts) -> None:
        self._values, self._preview, self._facts = values, preview, facts

    async def page(self, request: Request) -> Response:
        """The HTML page."""
        html, policy = compose_page()
        return HTMLResponse(html, headers=_FRESH | {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"})

    async def state(self, request: Request) -> Response:
        """Readouts and facts as JSON."""
        readouts = {row.name: self._values.get(row.name) for row in TABLE if row.read_only}
        return _json({"readouts": readouts, "facts": _plain(self._facts()), "watchers": self._preview.watchers})

    async def read_values(self, request: Request) -> Response:
        """The values asked for (not the smoothed ones) as JSON."""
        version, targets = self._values.version, self._values.targets()
        settable = {name: value for name, value in targets.items() if not BY_NAME[name].read_only}
        return _json({"version": version, "values": settable})

    async def write_values(self, request: Request) -> Response:
        """Set all values of a JSON object, or none and say why."""
        try:
            raws = _without_released_triggers(await _json_body(request))
            return _json({"values": self._values.set_many(raws, origin="web")})
        except (BadRequest, UnknownParameter, BadValue) as error:
            return PlainTextResponse(str(error), status_code=400)

    async def picture(self, request: Request) -> Response:
        """One JPEG picture of now."""
        try:
            async with self._preview.watching(), asyncio.timeout(FIRST_PICTURE_SECONDS):
                _, jpeg = await self._preview.next_picture(0)
        except TimeoutError:
            return PlainTextResponse("there is no picture yet", status_code=503)
        return Response(jpeg, media_type="image/jpeg", headers=_FRESH)

    async def pictures(self, request: Request) -> Response:
        """Moving pictures."""
        if self._preview.watchers >= MAX_WATCHERS:
            return PlainTextResponse(f"{MAX_WATCHERS} others are watching, which is the most", status_code=503)
        return PictureStream(self._preview) if request.method == "GET" else Response(headers=_FRESH)


class BadRequest(ValueError):
    """A request that cannot be understood; the text says what was expected."""


class PictureStream(Response):
    """Motion JPEG: always the newest picture, until the browser leaves or takes nothing any more."""

    def __init__(self, preview: Preview) -> None:
        super().__init__(media_type="multipart/x-mixed-replace; boundary=picture", headers=_FRESH)
        self._preview = preview
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until one side ends it."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with self._preview.watching():
            tasks = [
                asyncio.create_task(_until_disconnect(receive)),
                asyncio.create_task(self._send_pictures(send)),
                asyncio.create_task(self._preview.ended.wait()),
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):  # who takes nothing does not take the end either
            async with asyncio.timeout(END_SECONDS):
                await send({"type": "http.response.body", "body": b""})

    async def _send_pictures(self, send: Send) -> None:
        number = 0
        await send(_part(b"--picture\r\n"))
        while True:
            number, jpeg = await self._preview.next_picture(number)
            head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
            # Browsers show a picture when the boundary after it has arrived, so it follows at once.
            async with asyncio.timeout(STUCK_SECONDS):
                await send(_part(head + jpeg + b"\r\n--picture\r\n"))


class Gate:
    """Lets requests through to the application that the admission rules allow."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refused request with one plain sentence."""
        request = Request(scope, receive)
        headers = request.headers
        refusal = self._admission.refusal(
            host=headers.get("host", ""),
            origin=headers.get("origin", ""),
            writes=request.method not in ("GET", "HEAD"),
        )
        if refusal:
            await PlainTextResponse(refusal, status_code=403)(scope, receive, send)
            return
        in_link = parse_qs(request.url.query).get("token", [""])[0]
        if not self._admission.knows(in_link, request.cookies.get(COOKIE, "")):
            sentence = "open the link with the token that Phosphene printed when it started"
            await PlainTextResponse(sentence, status_code=401)(scope, receive, send)
            return
        await self._app(scope, receive, _with_cookie(send, in_link) if in_link and self._admission.token else send)


_FRESH = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def _with_cookie(send: Send, token: str) -> Send:
    async def send_with_cookie(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            cookie = f"{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/"
            message = {**message, "headers": [*message["headers"], (b"set-cookie", cookie.encode())]}  # type: ignore[misc]
        await send(message)

    return send_with_cookie  # type: ignore[return-value]


def _part(body: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _until_disconnect(receive: Callable[[], Awaitable[Mapping[str, object]]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _json_body(request: Request) -> dict[str, object]:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise BadRequest("send the values as a JSON object, with the content type application/json")
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise BadRequest(f"a request may carry {MAX_BODY} bytes at most")
        document = json.loads(body)
    except ClientDisconnect:
        raise BadRequest("the request was not finished") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("this is not JSON") from None
    if not isinstance(document, dict):
        raise BadRequest("send a JSON object with parameter names and their values")
    return document


def _without_released_triggers(raws: dict[str, object]) -> dict[str, object]:
    return {name: raw for name, raw in raws.items() if raw or find(name).kind is not Kind.TRIGGER}


def _json(document: Mapping[str, object]) -> Response:
    return Response(json.dumps(document, default=str), media_type="application/json", headers=_FRESH)


def _plain(value: object) -> object:
    """The same as JSON can carry it: numbers that are none become null, unknown things their text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
