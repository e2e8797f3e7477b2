"""Fetch one file over HTTP: progress in bytes, time limits, three tries, resume."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

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
CHUNK_BYTES = 1 << 14
"""Bytes between two writes; as much is lost at most where a connection breaks."""
MAX_BYTES = 1 << 28
"""256 MB. Whatever is larger isn't FSDD, which has 16 MB."""
PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)
"""HTTP answers that may be different a moment later."""


class DownloadError(config.UserError):
    """A file that couldn't be fetched; the text says from where and why."""


class _Interrupted(Exception):
    """An attempt that failed for a reason that may pass."""


def fetch(url: str, path: Path) -> Path:
    """Fetch `url` into `path`.

    What has arrived lies in ``path.part`` until it is complete, and is then renamed; after a broken
    connection, a crash or Ctrl-C the next attempt asks only for the rest (RFC 9110, section 14).

    Parameters
    ----------
    url : http or https address
    path : the finished file; its folder is made

    Raises
    ------
    DownloadError : wrong address, refused, stalled or broken connection, full or read-only disk
    """
    partial = path.with_name(path.name + ".part")
    for attempt in range(1, TRIES + 1):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _fetch(url, partial)
            os.replace(partial, path)
            return path
        except _Interrupted as error:
            if attempt == TRIES:
                raise DownloadError(f"{url} failed {TRIES} times, last: {error}") from None
            pause = BACK_OFF_SECONDS * 2 ** (attempt - 1)
            print(
                f"download: {error}; try {attempt + 1} of {TRIES} in {pause:g} s", file=sys.stderr
            )
            time.sleep(pause)
        except OSError as error:
            raise DownloadError(
                f"can't write {partial}: {error.strerror or error}; free 50 MB, or "
                "choose another folder with --data.root"
            ) from None
    raise AssertionError("unreachable")


def _fetch(url: str, partial: Path) -> None:
    """One attempt: append to `partial` what it still lacks."""
    import requests

    have = partial.stat().st_size if partial.is_file() else 0
    have = have if have <= MAX_BYTES else 0
    headers = {"Accept-Encoding": "identity"}  # so that lengths count the file's own bytes
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with requests.get(
            url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, STALL_SECONDS)
        ) as response:
            start = _first_byte(response, partial, have)
            if start is not None:
                _receive(response, partial, start)
    except (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
    ) as error:
        raise _Interrupted(_reason(error)) from None
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
        raise _Interrupted("the server can't go on with the partial file; starting anew")
    message = f"HTTP status {status} {response.reason or ''}".rstrip()
    if status in PASSING_STATUS:
        raise _Interrupted(message)
    raise DownloadError(f"{response.url}: {message}")


def _receive(response: Response, partial: Path, start: int) -> None:
    """Write the answer's body behind the first `start` bytes of `partial`, with a progress bar."""
    from tqdm import tqdm

    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else None
    with (
        open(partial, "ab" if start else "wb") as output,
        tqdm(desc="download", total=total, initial=start, unit="B", unit_scale=True) as bar,
    ):
        received = start
        for chunk in response.iter_content(CHUNK_BYTES):
            received += len(chunk)
            if received > MAX_BYTES:
                raise DownloadError(f"{response.url}: more than {MAX_BYTES / 1e6:.0f} MB")
            output.write(chunk)
            bar.update(len(chunk))
    if total is not None and received != total:
        raise _Interrupted(f"the connection ended after {received} of {total} bytes")


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
