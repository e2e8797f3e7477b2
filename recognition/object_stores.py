"""Files in object stores: list, read and write them; what goes wrong is told in one line.

An address is ``s3://bucket/key``, ``gs://`` or ``abfs://`` (pyarrow's own drivers), or any other
that fsspec has a package for. Credentials are taken from where the store's own tools take them:
environment, configuration files, the machine's role. ``AWS_ENDPOINT_URL`` names an S3-compatible
server.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import audio_io
import config

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
"""pathlib leaves one slash of s3://; a drive of Windows has one letter only."""
SECRETS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws/credentials",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or gcloud auth application-default login",
}
DENIED = ("ACCESS_DENIED", "credential", "INVALID_ACCESS_KEY_ID", "SIGNATURE", "Forbidden")
ABSENT = ("NO_SUCH_BUCKET", "Bucket '", "bucket does not exist", "RESOURCE_NOT_FOUND")


def address_of(word: Path | str) -> str | None:
    """The address that a word is, whole again after pathlib; None for a path and ``file:``."""
    match = ADDRESS.fullmatch(word.as_posix() if isinstance(word, Path) else word)
    if match is None or match[1].lower() == "file" or os.path.lexists(word):
        return None
    return f"{match[1].lower()}://{match[2]}"


def opened(address: str) -> tuple[Any, str]:
    """The pyarrow file system of an address, and the path in it.

    Raises
    ------
    UserError : no such kind of store, no such bucket, no answer
    """
    scheme, _, path = address.partition("://")
    return _file_system(scheme, path.split("/")[0]), path.rstrip("/")


@functools.cache
def _file_system(scheme: str, bucket: str) -> Any:
    from pyarrow import fs

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    with told(f"{scheme}://{bucket}"):
        if scheme == "s3" and endpoint:
            server = urllib.parse.urlsplit(endpoint)
            region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            return fs.S3FileSystem(
                endpoint_override=server.netloc, scheme=server.scheme, region=region or "us-east-1"
            )
        if scheme in ("s3", "gs", "gcs", "abfs", "abfss", "hdfs"):
            return fs.FileSystem.from_uri(f"{scheme}://{bucket}")[0]
        return _by_fsspec(scheme)


def _by_fsspec(scheme: str) -> Any:
    from pyarrow import fs

    try:
        import fsspec

        return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme)))
    except (ImportError, ValueError) as error:  # fsspec says which package it wants
        raise config.UserError(f"{scheme}://: {error}") from None


@contextlib.contextmanager
def told(address: str) -> Iterator[None]:
    """Around what asks a store: what it answers becomes one line for people.

    Raises
    ------
    UserError : instead of the store's own error
    """
    try:
        yield
    except FileNotFoundError:
        raise config.UserError(f"{address}: no such file or folder") from None
    except OSError as error:
        raise config.UserError(f"{address}: {reason(error, address)}") from None


def reason(error: Exception, address: str) -> str:
    """Why a store refused, in one line."""
    text, scheme = str(error), address.split("://")[0]
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError) or any(word in text for word in DENIED):
        where = SECRETS.get(scheme, "credentials as the store's own tools take them")
        return f"access denied: give {where}"
    if any(word in text for word in ABSENT):
        return "no such bucket"
    if "NETWORK_CONNECTION" in text or "onnect" in text:
        return "no answer from the store: is the network up, and AWS_ENDPOINT_URL right?"
    lines = text.splitlines()
    return lines[0][:300] if lines else type(error).__name__


def list_audio(address: str) -> list[tuple[str, list[int]]]:
    """Sound files at an address, each with its stamp [bytes, ns], sorted.

    The address is a file, a folder (searched to the bottom) or a wildcard.

    Raises
    ------
    UserError : nothing there, or the store refuses
    """
    from pyarrow import fs

    system, path = opened(address)
    scheme = address.split("://")[0]
    wildcard = re.search(r"[*?\[]", path)
    with told(address):
        if not wildcard:
            facts = system.get_file_info(path)
            if facts.type == fs.FileType.File:
                return [(f"{scheme}://{facts.path}", stamp_of(facts))]
        folder = path[: wildcard.start()].rpartition("/")[0] if wildcard else path
        found = system.get_file_info(fs.FileSelector(folder, recursive=True))
    fits = _translated(path.lstrip("/")).fullmatch if wildcard else _is_sound
    return sorted(
        (f"{scheme}://{facts.path}", stamp_of(facts))
        for facts in found
        if facts.type == fs.FileType.File and _is_sound(facts.path) and fits(facts.path.lstrip("/"))
    )


def _translated(pattern: str) -> re.Pattern[str]:
    from fsspec.utils import glob_translate

    return re.compile(glob_translate(pattern))


def _is_sound(path: str) -> bool:
    name = path.rpartition("/")[2]
    return not name.startswith(".") and Path(name).suffix.lower() in audio_io.AUDIO_SUFFIXES


def stamp_of(facts: Any) -> list[int]:
    """Size in bytes and time in ns of a file in a store."""
    return [facts.size or 0, facts.mtime_ns or 0]


def read(address: str, most: int | None = None) -> bytes:
    """A file's bytes, the first `most` of them.

    Raises
    ------
    OSError : as the store says it; see :func:`reason`
    """
    system, path = opened(address)
    with system.open_input_stream(path) as stream:
        return stream.read(most)
