"""Fetch one file over HTTP: progress in bytes, time limits, three tries, resume."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import config

if TYPE_CHECKING:
    from requests import Response

CONNECT_SECONDS = 10.0
"""s until a server must have answered the connection."""
STALL_SECONDS = 30.0
"""s without a single byte after which a connection counts as stalled."""
TRIES = 3
"""Attempts at most; each goes on where the one before broke off."""
BACK_OFF_SECONDS = 2.0
"""s before the second attempt; doubled before each further one."""
LONGEST_PAUSE_SECONDS = 120.0
"""s. A server that asks to be left alone for longer (Retry-After) counts as failed."""
CHUNK_BYTES = 1 << 14
"""Bytes between two writes; as much is lost at most where a connection breaks."""
MAX_BYTES = 1 << 28
"""256 MB, unless a corpus says more. Whatever is larger isn't FSDD, which has 16 MB."""
PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)
"""HTTP answers that may be different a moment later."""

Result = TypeVar("Result")


class DownloadError(config.UserError):
    """A file that couldn't be fetched; the text says from where and why."""


class DiskError(DownloadError):
    """A file that couldn't be written here: no other server can help."""


class Interrupted(Exception):
    """An attempt that failed for a reason that may pass, perhaps after some seconds."""

    def __init__(self, reason: str, seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.seconds = seconds


@dataclass(frozen=True)
class Expected:
    """What is known of a file before it is fetched."""

    max_bytes: int = MAX_BYTES
    """What is larger is refused."""
    size: int | None = None
    """Bytes, where it was published."""
    sha256: str | None = None
    """Of the content, hexadecimal, where it was published."""


def fetch(url: str, path: Path, expected: Expected | None = None) -> Path:
    """Fetch `url` into `path`.

    What has arrived lies in ``path.part`` until it is complete, and is then renamed; after a broken
    connection, a crash or Ctrl-C the next attempt asks only for the rest (RFC 9110, section 14).

    Parameters
    ----------
    url : http or https address
    path : the finished file; its folder is made
    expected : what was published of the file, which is checked before it gets its name

    Raises
    ------
    DownloadError : wrong address, refused, stalled or broken connection, other content
    DiskError : full or read-only disk
    """
    facts = expected or Expected(MAX_BYTES)
    partial = path.with_name(path.name + ".part")

    def attempt() -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        resumed = partial.exists()
        _fetch(url, partial, facts)
        _check_content(url, partial, facts, resumed)
        os.replace(partial, path)
        return path

    try:
        return try_repeatedly(url, attempt)
    except OSError as error:
        raise DiskError(
            f"can't write {partial}: {error.strerror or error}; {_remedy(facts.size)}"
        ) from None


def try_repeatedly(what: str, attempt: Callable[[], Result]) -> Result:
    """Call `attempt` until it is not interrupted, with a pause that the server may ask for.

    Raises
    ------
    DownloadError : interrupted each time, or asked to wait for too long
    """
    for number in range(1, TRIES + 1):
        try:
            return attempt()
        except Interrupted as error:
            if number == TRIES:
                raise DownloadError(f"{what} failed {TRIES} times, last: {error}") from None
            if error.seconds > LONGEST_PAUSE_SECONDS:
                raise DownloadError(
                    f"{what}: {error}, and asks to wait {error.seconds:.0f} s"
                ) from None
            pause = max(BACK_OFF_SECONDS * 2 ** (number - 1), error.seconds)
            print(f"download: {error}; try {number + 1} of {TRIES} in {pause:g} s", file=sys.stderr)
            time.sleep(pause)
    raise AssertionError("unreachable")


def retry_after(value: str | None) -> float:
    """Seconds that a Retry-After header asks for, a number or a date; 0 where it says nothing."""
    if value and value.strip().isdecimal():
        return float(value)
    with contextlib.suppress(TypeError, ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(value or "").timestamp() - time.time())
    return 0.0


def _remedy(size: int | None) -> str:
    megabytes = 50 if size is None else round(size / 1e6) + 1
    return f"free {megabytes} MB, or choose another folder with --data.root"


def _check_content(url: str, partial: Path, expected: Expected, resumed: bool) -> None:
    """Refuse what isn't what was published, and drop it, so that it is never gone on with."""
    size, problem = partial.stat().st_size, ""
    if expected.size is not None and size < expected.size:
        raise Interrupted(f"the connection ended after {size} of {expected.size} bytes")
    if expected.size is not None and size > expected.size:
        problem = f"has {size} bytes, not the {expected.size} that were published"
    elif expected.sha256 is not None:
        with open(partial, "rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != expected.sha256:
                problem = "has other content than was published"
    if problem:
        partial.unlink()
        if resumed:  # its beginning may have come from elsewhere
            raise Interrupted(f"{problem}; starting anew")
        raise DownloadError(f"{url} {problem}")


def _fetch(url: str, partial: Path, expected: Expected) -> None:
    """One attempt: append to `partial` what it still lacks."""
    import requests

    have = partial.stat().st_size if partial.is_file() else 0
    have = have if have <= expected.max_bytes else 0
    headers = {"Accept-Encoding": "identity"}  # so that lengths count the file's own bytes
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with requests.get(
            url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, STALL_SECONDS)
        ) as response:
            start = _first_byte(response, partial, have)
            if start is not None:
                _receive(response, partial, start, expected)
    except (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
    ) as error:
        raise Interrupted(_reason(error)) from None
    except requests.RequestException as error:
        raise DownloadError(f"{url}: {_reason(error)}") from None


def _first_byte(response: Response, partial: Path, have: int) -> int | None:
    """Where in the file the answer's body begins; None where `partial` is complete already."""
    status = response.status_code
    if status == 200:
        return 0
    if have and status in (206, 416):
        place = re.match(
            r"bytes (\d+|\*)(?:-\d+)?/(\d+|\*)", response.headers.get("Content-Range", "")
        )
        if place and status == 206 and place[1] == str(have):
            return have
        if place and status == 416 and place[2] == str(have):
            return None
        partial.unlink()  # it belongs to another version of the file
        raise Interrupted("the server can't go on with the partial file; starting anew")
    message = f"HTTP status {status} {response.reason or ''}".rstrip()
    if status in PASSING_STATUS:
        raise Interrupted(message, retry_after(response.headers.get("Retry-After")))
    raise DownloadError(f"{response.url}: {message}")


def _receive(response: Response, partial: Path, start: int, expected: Expected) -> None:
    """Write the answer's body behind the first `start` bytes of `partial`, with a progress bar."""
    from tqdm import tqdm

    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() and len(length) < 20 else None
    _check_room(response.url, partial, start, total or expected.size, expected)
    with (
        open(partial, "ab" if start else "wb") as output,
        tqdm(desc="download", total=total, initial=start, unit="B", unit_scale=True) as bar,
    ):
        received = start
        for chunk in response.iter_content(CHUNK_BYTES):
            received += len(chunk)
            if received > expected.max_bytes:
                raise _too_large(response.url, expected)
            output.write(chunk)
            bar.update(len(chunk))
    if total is not None and received != total:
        raise Interrupted(f"the connection ended after {received} of {total} bytes")


def _check_room(url: str, partial: Path, start: int, total: int | None, expected: Expected) -> None:
    """Refuse what is announced to be too large for a limit or for the disk."""
    if total is None:
        return
    if total > expected.max_bytes:
        raise _too_large(url, expected)
    free = shutil.disk_usage(partial.parent).free
    if total - start > free:
        raise DiskError(
            f"{url} has {total / 1e6:.0f} MB, and {partial.parent} has room for {free / 1e6:.0f}; "
            + _remedy(total - start)
        )


def _too_large(url: str, expected: Expected) -> DownloadError:
    return DownloadError(f"{url}: more than {expected.max_bytes / 1e6:.0f} MB")


def _reason(error: Exception) -> str:
    """The kernel of a requests error, which wraps one urllib3 error in another."""
    import requests

    text = str(error)
    if isinstance(error, requests.Timeout) or "timed out" in text:
        return "no answer in time (stalled or slow connection)"
    if re.search(r"resolve|resolution|getaddrinfo|Name or service", text):
        return "the server's name can't be found (no network?)"
    if isinstance(error, requests.exceptions.SSLError):
        return "no secure connection (certificate refused)"
    if isinstance(error, (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        broken = re.search(r"refused|unreachable|reset|IncompleteRead|aborted", text)
        return f"the connection broke ({broken[0] if broken else type(error).__name__})"
    return re.sub(r"\s+", " ", text)[:120] or type(error).__name__
