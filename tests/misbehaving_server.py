"""A real HTTP server that misbehaves in every way servers do, and plays the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = bytes(range(256)) * 2000
HALF = len(CONTENT) // 2
PAGE = b"<html>please log in</html>"


class Handler(BaseHTTPRequestHandler):
    """Answers by the server's plan: one word a request, the last one for all further ones."""

    def do_GET(self) -> None:
        server = self.server
        if self.path.startswith("/api/"):
            server.listings.append(self.path)
            self._answer(server.hub_plan, server.listing(self.path))
            return
        server.requests.append(self.headers.get("Range"))
        content = server.files.get(self.path, server.content)
        self._answer(server.plan, content)

    def _answer(self, plan: list[str], content: bytes) -> None:
        word = plan.pop(0) if len(plan) > 1 else plan[0]
        if word.isdigit():
            self._send_status(int(word))
            return
        getattr(self, f"answer_{word}")(content)

    def _send_status(self, status: int) -> None:
        self.send_response(status)
        if self.server.retry_after:
            self.send_header("Retry-After", self.server.retry_after)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer_whole(self, content: bytes) -> None:
        self._send(200, content, len(content))

    def answer_range(self, content: bytes) -> None:
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
        self._send(
            206,
            content[start:],
            len(content) - start,
            f"bytes {start}-{len(content) - 1}/{len(content)}",
        )

    def answer_rest(self, content: bytes) -> None:
        (self.answer_range if self.headers["Range"] else self.answer_whole)(content)

    def answer_wrongrange(self, content: bytes) -> None:
        self._send(206, content[5:], len(content) - 5, f"bytes 5-{len(content) - 1}/{len(content)}")

    def answer_complete(self, content: bytes) -> None:
        self._send(416, b"", 0, f"bytes */{len(content)}")

    def answer_cut(self, content: bytes) -> None:
        self._send(200, content[: self.server.cut_at], len(content))

    def answer_unannounced(self, content: bytes) -> None:
        """Half of it, and no word of how long it is."""
        self._send(200, content[: self.server.cut_at], None)

    def answer_short(self, content: bytes) -> None:
        """A length that is too small: the end is never read."""
        self._send(200, content, len(content) - 1000)

    def answer_rubbish(self, content: bytes) -> None:
        self._send(200, PAGE, len(PAGE))

    def answer_redirect(self, content: bytes) -> None:
        self._redirect(f"/moved{self.path}")
        self.server.files.setdefault(f"/moved{self.path}", content)

    def answer_loop(self, content: bytes) -> None:
        self._redirect(self.path)

    def answer_elsewhere(self, content: bytes) -> None:
        self._redirect("file:///etc/hostname")

    def _redirect(self, place: str) -> None:
        self.send_response(302)
        self.send_header("Location", place)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer_stall(self, content: bytes) -> None:
        self._send(200, content[: len(content) // 2], len(content))
        self.server.released.wait(20)

    def answer_mute(self, content: bytes) -> None:
        self.server.released.wait(20)

    def _send(self, status: int, body: bytes, length: int | None, place: str | None = None) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if place:
            self.send_header("Content-Range", place)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan, self.requests, self.content = ["whole"], [], CONTENT
        self.cut_at, self.retry_after = HALF, ""
        self.files, self.hub, self.hub_plan, self.listings = {}, {}, ["whole"], []
        self.released = threading.Event()
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.url = f"{self.endpoint}/v1.0.10.zip"

    def publish(self, dataset: str, files: dict[str, bytes], sha: str = "a" * 40) -> None:
        """Let the hub have a data set: its files by name, at one revision."""
        siblings = [
            {
                "rfilename": name,
                "size": len(content),
                "lfs": {
                    "size": len(content),
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "pointerSize": 130,
                },
            }
            for name, content in files.items()
        ]
        self.hub[dataset] = {"id": dataset, "sha": sha, "siblings": siblings}
        for name, content in files.items():
            self.files[f"/datasets/{dataset}/resolve/{sha}/{name}"] = content

    def listing(self, path: str) -> bytes:
        """The hub's answer to the question what a data set consists of."""
        name = path.removeprefix("/api/datasets/").split("/revision/")[0]
        return json.dumps(self.hub.get(name, {"error": "Repository not found"})).encode()
