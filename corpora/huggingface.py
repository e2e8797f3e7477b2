"""Recordings in parquet files: found on the Hugging Face hub, fetched, and taken out.

``huggingface_hub`` says which files a pinned revision has, how large they are and what their
SHA-256 is; :mod:`corpora.download` fetches them as it does everything else. ``HF_ENDPOINT`` names
another hub, as it does for the library.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from corpora import archives, download
from corpora.download import DownloadError, Expected

if TYPE_CHECKING:
    import pyarrow

MAX_FILES = 100
"""Parquet files of one data set at most; FSDD's copies have one or two."""
BATCH_ROWS = 256
"""Rows that are unpacked at a time."""


@dataclass(frozen=True)
class HubDataset:
    """A data set on the hub, as it was at one revision."""

    name: str
    """Owner and name."""
    revision: str = "main"
    """A commit; or a branch, where what it holds is verified by other means."""

    def __str__(self) -> str:
        return f"hugging face, {self.name}"


@dataclass(frozen=True)
class HubFile:
    """A file of a data set: its address and what the hub says of it."""

    url: str
    expected: Expected


def fetch_parquet(dataset: HubDataset, folder: Path) -> list[Path]:
    """Fetch the parquet files of a data set into `folder`, under numbers for names.

    Raises
    ------
    DownloadError : no such data set, no parquet files in it, or as in :func:`download.fetch`
    """
    files = download.try_repeatedly(str(dataset), lambda: list_parquet(dataset))
    return [
        download.fetch(file.url, folder / f"{number:03d}.parquet", file.expected)
        for number, file in enumerate(files)
    ]


def list_parquet(dataset: HubDataset) -> list[HubFile]:
    """The parquet files of a data set, sorted by name.

    Raises
    ------
    DownloadError : there are none, or the hub answers with something else
    Interrupted : the hub can't be reached, or not now
    """
    try:
        from huggingface_hub import HfApi, hf_hub_url
    except ImportError as error:
        raise DownloadError(f"{dataset}: {error}; pip install -r requirements.txt") from None
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        info = HfApi(endpoint=endpoint, token=False).dataset_info(
            dataset.name,
            revision=dataset.revision,
            files_metadata=True,
            timeout=download.CONNECT_SECONDS,
        )
        siblings = sorted(info.siblings or [], key=lambda item: item.rfilename)
        files = [item for item in siblings if item.rfilename.endswith(".parquet")]
        found = [
            HubFile(
                hf_hub_url(
                    dataset.name,
                    item.rfilename,
                    repo_type="dataset",
                    revision=info.sha or dataset.revision,
                    endpoint=endpoint,
                ),
                Expected(size=item.size, sha256=item.lfs.sha256 if item.lfs else None),
            )
            for item in files
        ]
    except Exception as error:  # the library's and its HTTP client's errors have no common base
        raise _told(dataset, error) from None
    if not 0 < len(found) <= MAX_FILES:
        raise DownloadError(f"{dataset}: {len(found)} parquet files in it")
    return found


def _told(dataset: HubDataset, error: Exception) -> Exception:
    """What the hub's library raised as one of ours, in one line."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    reason = f"HTTP status {status}" if status else str(error).split("\n")[0][:120]
    reason = reason or type(error).__name__
    if response is not None and status in download.PASSING_STATUS:
        seconds = download.retry_after(response.headers.get("Retry-After"))
        return download.Interrupted(reason, seconds)
    if "Connect" in type(error).__name__ or "Timeout" in type(error).__name__:
        return download.Interrupted(f"the hub can't be reached ({reason})")
    return DownloadError(f"{dataset}: {reason}")


def parquet_files(source: Path) -> list[Path]:
    """`source` itself, or the parquet files in it and in its folder ``data``, sorted."""
    if source.is_file():
        return [source] if source.suffix.lower() == ".parquet" else []
    return sorted([*source.glob("*.parquet"), *source.glob("data/*.parquet")])


def read_sounds(paths: Sequence[Path]) -> list[bytes]:
    """The sound files in the audio column of parquet files, in their order.

    The hub's audio column is a structure of the file's bytes and a path, which may be anything.

    Raises
    ------
    DataError : no such column, damaged, too many rows or too large
    """
    sounds: list[bytes] = []
    total = 0
    for path in paths:
        for content in _sounds(path):
            total += len(content)
            if len(sounds) >= archives.MAX_MEMBERS or total > archives.MAX_TOTAL_BYTES:
                raise archives.too_large(path)
            sounds.append(content)
    return sounds


def _sounds(path: Path) -> Iterator[bytes]:
    """The sound files of one parquet file, unpacked batch by batch."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as opened:
            groups = [opened.metadata.row_group(i) for i in range(opened.metadata.num_row_groups)]
            if sum(group.total_byte_size for group in groups) > archives.MAX_TOTAL_BYTES:
                raise archives.too_large(path)
            column = _audio_column(opened.schema_arrow, path)
            for batch in opened.iter_batches(BATCH_ROWS, columns=[column]):
                values = batch.column(0)
                if pyarrow.types.is_struct(values.type):
                    values = values.field("bytes")
                for value in values:
                    yield value.as_py() or b""
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).split("\n")[0][:120]
        raise archives.DataError(f"{path}: not a whole parquet file ({reason})") from None


def _audio_column(schema: pyarrow.Schema, path: Path) -> str:
    """The column of sound files: a structure with bytes in it, or bytes alone."""
    import pyarrow

    def holds_bytes(kind: pyarrow.DataType) -> bool:
        if pyarrow.types.is_struct(kind):
            return any(field.name == "bytes" and holds_bytes(field.type) for field in kind)
        return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)

    for field in schema:
        if holds_bytes(field.type):
            return field.name
    raise archives.DataError(f"{path}: no column of sound files ({', '.join(schema.names)[:100]})")
