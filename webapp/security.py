"""Who may ask, and how much: password, origin, host, sizes and rates, before anything is read."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webapp.monitoring import AccessLog, Metrics
from webapp.settings import LOOPBACK, ServerSettings

CONTENT_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' "
    "'wasm-unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'self'"
)
"""Nothing from elsewhere is loaded or asked, whatever a page or a library wants."""
HEADERS = {
    b"content-security-policy": CONTENT_POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"DENY",
}
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
WRONG_PASSWORDS = 20
"""Wrong passwords that one address may send in a minute."""
LIMITED = ("/v1/recognize", "/gradio_api/upload")
"""Where what is sent counts against the rate."""
REMEMBERED = 10_000
"""Addresses whose rate is remembered."""


class Rate:
    """A token bucket for each address: `per_minute` of them, all of which may come at once."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute, self._clock = per_minute, clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, address: str) -> bool:
        """Whether one more is allowed; it then counts."""
        if not self.per_minute:
            return True
        left = self.left(address)
        if len(self._buckets) > REMEMBERED:
            self._buckets.clear()
        self._buckets[address] = (max(0.0, left - 1), self._clock())
        return left >= 1

    def left(self, address: str) -> float:
        """How many are allowed now."""
        left, seen = self._buckets.get(address, (float(self.per_minute), self._clock()))
        return min(self.per_minute, left + (self._clock() - seen) * self.per_minute / 60)


@dataclass
class _Exchange:
    """What becomes of one request."""

    received: int = 0
    sent: int = 0
    status: int = 0
    too_large: bool = False


class Guard:
    """Stands before the whole application: refuses, counts, logs.

    Parameters
    ----------
    app : what answers
    settings : limits and password
    """

    def __init__(
        self, app: ASGIApp, settings: ServerSettings, metrics: Metrics, log: AccessLog
    ) -> None:
        self.app, self.settings, self.metrics, self.log = app, settings, metrics, log
        self.credentials = settings.credentials.encode()
        self.rate, self.guesses = Rate(settings.requests_per_minute), Rate(WRONG_PASSWORDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        refusal = self.refusal(scope)
        if scope["type"] == "websocket":
            if refusal is None:
                await self.app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return
        begun, exchange = time.perf_counter(), _Exchange()
        self.metrics.in_flight.inc()
        try:
            await self._answer(scope, receive, send, exchange, refusal)
        finally:
            self.metrics.in_flight.dec()
            seconds = time.perf_counter() - begun
            self.metrics.requested(scope["path"], exchange.status, seconds)
            self.log.write(
                address_of(scope),
                scope["method"],
                scope["path"],
                exchange.status,
                exchange.sent,
                seconds,
            )

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        exchange: _Exchange,
        refusal: Response | None,
    ) -> None:
        async def sending(message: Message) -> None:
            if exchange.too_large and not exchange.status:
                return  # the refusal takes its place
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                present = {name.lower() for name, _ in message["headers"]}
                added = [item for item in HEADERS.items() if item[0] not in present]
                message = {**message, "headers": [*message["headers"], *added]}
            exchange.sent += len(message.get("body", b""))
            await send(message)

        async def receiving() -> Message:
            message = await receive()
            exchange.received += len(message.get("body", b""))
            if exchange.received > self.settings.max_bytes:
                exchange.too_large = True
                return {"type": "http.disconnect"}
            return message

        if refusal is None:
            try:
                await self.app(scope, receiving, sending)
            except Exception:  # of a body that breaks off, which is what it was made to do
                if not exchange.too_large:
                    raise
            if not exchange.too_large or exchange.status:
                return
            refusal, exchange.too_large = self.too_large(), False
        await refusal(scope, receive, sending)

    def refusal(self, scope: Scope) -> Response | None:
        """Why a request is refused before it is read; None where it isn't."""
        headers, address = Headers(scope=scope), address_of(scope)
        if not self.host_allowed(headers.get("host", "")):
            return refused(421, "this server is not called by that name; see --allowed-hosts")
        if not self.password_right(headers, address):
            if self.guesses.left(address) < 1:
                return refused(
                    429, "too many wrong passwords; wait a minute", {"retry-after": "60"}
                )
            challenge = {"www-authenticate": 'Basic realm="digits", charset="UTF-8"'}
            return refused(401, "name and password are needed", challenge)
        if scope["type"] == "http" and scope["method"] in SAFE_METHODS:
            return None
        if cross_origin(headers):
            return refused(403, "requests from other sites' pages are refused")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self.settings.max_bytes:
            return self.too_large()
        if scope["path"].startswith(LIMITED) and not self.rate.take(address):
            return refused(429, "too many requests; wait a little", {"retry-after": "5"})
        return None

    def too_large(self) -> Response:
        """The refusal of a request that is too large."""
        return refused(
            413, f"larger than {self.settings.max_request_mb:g} MB", {"connection": "close"}
        )

    def host_allowed(self, host: str) -> bool:
        """Whether the server answers to that name: another could be a trick to reach it."""
        allowed = self.settings.allowed_hosts
        if "*" in allowed or (self.settings.host not in LOOPBACK and not allowed):
            return True
        name = urlsplit(f"//{host}").hostname
        return name in (*LOOPBACK, *allowed)

    def password_right(self, headers: Headers, address: str) -> bool:
        """Whether the request carries the password, if one is needed."""
        if not self.credentials:
            return True
        if self.guesses.left(address) < 1:
            return False
        scheme, _, given = headers.get("authorization", "").partition(" ")
        with contextlib.suppress(binascii.Error, ValueError):
            if scheme.lower() == "basic":
                right = hmac.compare_digest(base64.b64decode(given), self.credentials)
                if not right:
                    self.guesses.take(address)
                return right
        return False


def address_of(scope: Scope) -> str:
    """The address that a request came from."""
    return (scope.get("client") or ("unknown", 0))[0]


def cross_origin(headers: Headers) -> bool:
    """Whether a page of another site sent this."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


def refused(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """A refusal as JSON, as the API gives all of them."""
    return JSONResponse({"error": message}, status, headers)
