"""What the server does, for those who run it: Prometheus metrics and an access log."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

PARTS = ("/v1/recognize_batch", "/v1/recognize", "/v1/models", "/healthz", "/metrics", "/web")
"""Paths that are counted by name; all others are the pages'."""
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "digits_requests",
            "Requests by part and status",
            ["part", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "digits_request_seconds",
            "Time to answer a request",
            ["part"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.answers = Counter(
            "digits_answers", "Recordings answered", ["kind", "digit"], registry=self.registry
        )
        self.computing = Histogram(
            "digits_computing_seconds",
            "Time to recognise a recording",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "digits_requests_in_flight", "Requests being answered", registry=self.registry
        )

    def answered(self, kind: str, digit: int | None, computing_ms: float) -> None:
        """Count one answer."""
        self.answers.labels(kind, "none" if digit is None else str(digit)).inc()
        self.computing.observe(computing_ms / 1000)

    def requested(self, path: str, status: int, seconds: float) -> None:
        """Count one request."""
        part = next((part for part in PARTS if path.startswith(part)), "pages")
        self.requests.labels(part, str(status)).inc()
        self.seconds.labels(part).observe(seconds)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


class AccessLog:
    """A line of JSON for each request, to a file or standard error; None logs nothing."""

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        if path is None:
            self._file = None
        elif str(path) == "-":
            self._file = sys.stderr
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")

    def write(
        self, client: str, method: str, path: str, status: int, size: int, seconds: float
    ) -> None:
        """Log one request; never its query, its content or a password."""
        if self._file is None:
            return
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "client": client,
            "method": method,
            "path": path[:200],
            "status": status,
            "bytes": size,
            "ms": round(1000 * seconds, 1),
        }
        with self._lock:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
