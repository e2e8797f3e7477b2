"""FSDD v1.0.10: found or fetched, checked to the last sample, decoded, kept in a cache.

It comes as a folder, a zip, a tar.gz, or as parquet files of the Hugging Face hub; the recordings
are compared, decoded, with the digests of the published release. Z. Jackson et al., "Free Spoken
Digit Dataset" v1.0.10, https://doi.org/10.5281/zenodo.1342401, CC BY-SA 4.0.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

import audio_io
import config
import utils
from corpora import archives, download, huggingface
from corpora.clips import Clips
from corpora.fsdd_files import find_recordings, is_sound, read_files
from corpora.huggingface import HubDataset
from corpora.registry import Request, Unavailable, register

SAMPLE_RATE = 8000
"""Hz, of every recording."""
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TAKES = 50
"""Recordings of each digit by each speaker."""
NAMES = tuple(
    sorted(
        f"{digit}_{speaker}_{take}"
        for digit in config.DIGITS
        for speaker in SPEAKERS
        for take in range(TAKES)
    )
)
"""The 3,000 recordings, without suffix."""
CONTENT_SHA256 = "fbf77c5e2e80e5dacab77db4063117dc77b573a60babb054408d7d40fc993eb4"
"""SHA-256 of :func:`content_digest` over the release."""
DIGEST_TABLE = Path(__file__).with_name("fsdd_digests.txt")
"""The first six hexadecimal digits of each recording's own digest: they name what was altered."""
FSDD_FOLDER = "free-spoken-digit-dataset-1.0.10"
"""Where a downloaded archive is unpacked, below the data folder."""
ARCHIVE_NAME = "fsdd-1.0.10.zip"
"""What GitHub's archive is called until it is unpacked."""
MIRRORS = (
    HubDataset("mteb/free-spoken-digit-dataset", "c34455c99604d35cb8d27328c267be1478efc903"),
    HubDataset("Matthijs/free-spoken-digit-dataset"),
)
"""Copies that are tried in turn where GitHub doesn't give it; each is verified by its samples."""
MAX_SECONDS = 5.0
"""s. The longest recording has 2.3; what is longer is not decoded."""
CACHE_VERSION = 1
"""Counted up whenever decoding or resampling changes, so that old caches are not used."""
NAMED_FILES = 5
"""Files named in a message; the rest is counted."""
THREE_WAYS = (
    "three ways to get FSDD: connect to the internet and run this again; or fetch {url} "
    "elsewhere and name the archive or folder with FSDD_ARCHIVE or --data.fsdd-archive; "
    "or unpack it below {root}"
)


@register(
    "fsdd",
    licence="CC BY-SA 4.0",
    about="Free Spoken Digit Dataset v1.0.10, every sample verified",
    place=lambda request: find_fsdd(request.data),
)
def _load(request: Request) -> Clips:
    return load_fsdd(request.data, request.audio)


def load_fsdd(data: config.DataSettings, audio: config.AudioSettings) -> Clips:
    """The 3,000 clips of FSDD v1.0.10, sorted by name, verified to the last sample.

    The first load decodes everything into one cache file below ``data.root``; later ones take
    that, unless the recordings or the sample rate have changed.

    Raises
    ------
    UserError : no way to get the data, or the data are not those of the release
    """
    source = find_fsdd(data)
    cache = data.root / "cache" / f"fsdd-{audio.sample_rate}.npz"
    key = f"{CACHE_VERSION} {audio.sample_rate} {CONTENT_SHA256} {_state(source)}"
    return Clips.cached(cache, key, lambda: _clips(read_verified(source), audio.sample_rate))


def _clips(recordings: Mapping[str, np.ndarray], sample_rate: int) -> Clips:
    """The recordings as clips of a rate; their names tell digit, speaker and take."""
    waveforms = [
        audio_io.resample(audio_io.to_float(samples), SAMPLE_RATE, sample_rate)
        for samples in recordings.values()
    ]
    digits, speakers, takes = zip(*(name.split("_") for name in recordings), strict=True)
    return Clips.from_waveforms(
        waveforms,
        [int(digit) for digit in digits],
        speakers,
        list(recordings),
        [int(take) for take in takes],
        "fsdd",
        sample_rate,
    )


def find_fsdd(data: config.DataSettings) -> Path:
    """The folder or archive with FSDD: what the user names, else what is unpacked, else a download.

    Raises
    ------
    UserError : what the user names doesn't exist
    Unavailable : nothing is there, and the download fails or brings something else
    """
    ways = THREE_WAYS.format(url=data.fsdd_url, root=data.root)
    if data.fsdd_archive is not None:
        if not data.fsdd_archive.exists():
            raise config.UserError(f"{data.fsdd_archive}: no such archive or folder; {ways}")
        return data.fsdd_archive
    with utils.locked(data.root / "fsdd"):
        return find_recordings(data.root) or _fetch(data, ways)


def _fetch(data: config.DataSettings, ways: str) -> Path:
    """Fetch, verify and unpack FSDD from the first source that has it."""
    sources = {data.fsdd_url: _fetch_archive} | {
        str(mirror): functools.partial(_fetch_mirror, mirror) for mirror in MIRRORS
    }
    reasons: list[str] = []
    for name, fetch in sources.items():
        if reasons:
            print(f"FSDD: {reasons[-1]}; next source: {name}", file=sys.stderr)
        try:
            fetch(data)
            _remove_leftovers(data)
            return data.root / FSDD_FOLDER / "recordings"
        except download.DiskError as error:
            raise Unavailable(f"{error}; {ways}") from None
        except (download.DownloadError, archives.DataError) as error:
            reasons.append(str(error))
        except OSError as error:
            raise Unavailable(
                f"can't unpack FSDD below {data.root}: {error.strerror or error}; {ways}"
            ) from None
    raise Unavailable(f"{'; '.join(reasons)}; {ways}")


def _fetch_archive(data: config.DataSettings) -> None:
    """Download and unpack the release's own archive, unless it lies there already."""
    archive = data.root / ARCHIVE_NAME
    if not archive.exists():
        download.fetch(data.fsdd_url, archive)
    try:
        unpack(archive, data.root / FSDD_FOLDER)
    except archives.DataError:
        archive.unlink()  # so that the next attempt fetches it anew
        raise
    archive.unlink()


def _fetch_mirror(mirror: HubDataset, data: config.DataSettings) -> None:
    """Download a copy's parquet files and write its recordings under their own names."""
    folder = _mirror_folder(mirror, data)
    files = huggingface.fetch_parquet(mirror, folder)
    try:
        recordings = verify(_identified(huggingface.read_sounds(files)), mirror)
        write_recordings(recordings, data.root / FSDD_FOLDER)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _mirror_folder(mirror: HubDataset, data: config.DataSettings) -> Path:
    return data.root / f".{mirror.name.replace('/', '-')}"


def _remove_leftovers(data: config.DataSettings) -> None:
    """Remove what sources that broke off have left, once another has given all."""
    (data.root / f"{ARCHIVE_NAME}.part").unlink(missing_ok=True)
    for mirror in MIRRORS:
        shutil.rmtree(_mirror_folder(mirror, data), ignore_errors=True)


def _state(source: Path) -> str:
    """A digest that changes when a file of `source` is added, removed, renamed or written to."""
    place = find_recordings(source) if source.is_dir() else source
    paths = huggingface.parquet_files(source) or [source]
    if place is not None and place.is_dir():
        paths = sorted(path for path in place.iterdir() if is_sound(path.name))
    digest = hashlib.sha256(str(source.resolve()).encode())
    for path in paths:
        facts = path.stat()
        digest.update(
            f"{path.name} {facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}\n".encode()
        )
    return digest.hexdigest()


def read_verified(source: Path) -> dict[str, np.ndarray]:
    """Read FSDD from a folder, an archive or parquet files and check every sample of it.

    Returns
    -------
    recordings : name without suffix -> int16 (samples,) at 8 kHz, sorted by name

    Raises
    ------
    DataError : unsafe or damaged archive; missing, stray or altered recordings, by name
    """
    parquet = huggingface.parquet_files(source)
    if parquet and (source.is_file() or find_recordings(source) is None):
        return verify(_identified(huggingface.read_sounds(parquet)), source)
    return verify(decode(read_files(source)), source)


def decode(contents: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    """Sound files to int16 (samples,), by name without suffix; unreadable ones become empty.

    Other rates than 8 kHz count as unreadable. A second file of the same name keeps its suffix, so
    that it shows up as stray.
    """
    recordings = {}
    for name, content in contents.items():
        stem = PurePosixPath(name).stem
        samples = np.zeros(0, np.int16)
        with contextlib.suppress(audio_io.AudioError):
            waveform, rate = audio_io.read_audio(content, max_seconds=MAX_SECONDS)
            samples = audio_io.to_int16(waveform) if rate == SAMPLE_RATE else samples
        recordings[name if stem in recordings else stem] = samples
    return dict(sorted(recordings.items()))


def _identified(contents: Iterable[bytes]) -> dict[str, np.ndarray]:
    """Sound files without names, by the names that the table gives their samples.

    What the table doesn't know, and what comes twice, is called by its place.
    """
    names = {digest: name for name, digest in digest_table(DIGEST_TABLE).items()}
    decoded = decode({f"row {place}": content for place, content in enumerate(contents)})
    recordings: dict[str, np.ndarray] = {}
    for place, samples in decoded.items():
        name = names.get(recording_digest(samples), place)
        recordings[place if name in recordings else name] = samples
    return dict(sorted(recordings.items()))


def verify(
    recordings: Mapping[str, np.ndarray], source: Path | HubDataset
) -> dict[str, np.ndarray]:
    """Return `recordings`, sorted by name, if they are FSDD v1.0.10 to the last sample.

    Raises
    ------
    DataError : names what is missing, stray or altered
    """
    expected = digest_table(DIGEST_TABLE)
    faults = {
        "missing": [name for name in NAMES if name not in recordings],
        "stray": [name for name in recordings if name not in expected],
        "altered or unreadable": [
            name
            for name, samples in recordings.items()
            if name in expected and recording_digest(samples) != expected[name]
        ],
    }
    found = [f"{len(names)} {kind} ({_some(names)})" for kind, names in faults.items() if names]
    if found:
        raise archives.DataError(
            f"{source} isn't FSDD v1.0.10: {'; '.join(found)}. Delete it and get it "
            "again, or name another copy with --data.fsdd-archive or FSDD_ARCHIVE"
        )
    if content_digest(recordings) != CONTENT_SHA256:
        raise archives.DataError(f"{source} isn't FSDD v1.0.10: its samples have another digest")
    return {name: recordings[name] for name in NAMES}


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED_FILES]) + (", ..." if len(names) > NAMED_FILES else "")


def content_digest(recordings: Mapping[str, np.ndarray]) -> str:
    """SHA-256, hexadecimal, over the sorted names, lengths and little-endian int16 samples."""
    digest = hashlib.sha256()
    for name in sorted(recordings):
        samples = recordings[name].astype("<i2", copy=False)
        digest.update(f"{name} {len(samples)}\n".encode())
        digest.update(samples.tobytes())
    return digest.hexdigest()


def recording_digest(samples: np.ndarray) -> str:
    """The first six hexadecimal digits of the SHA-256 of int16 (samples,)."""
    return hashlib.sha256(samples.astype("<i2", copy=False).tobytes()).hexdigest()[:6]


def digest_table(path: Path) -> dict[str, str]:
    """Read name -> digest from the table: a line holds ten takes of a digit by a speaker."""
    table = {}
    for line in path.read_text(encoding="ascii").splitlines():
        first, *digests = line.split()
        stem, take = first.rsplit("_", 1)
        table.update({f"{stem}_{int(take) + i}": digest for i, digest in enumerate(digests)})
    return table


def format_digest_table(recordings: Mapping[str, np.ndarray]) -> str:
    """The text of :data:`DIGEST_TABLE` for `recordings`, which hold all of :data:`NAMES`."""
    lines = []
    for first in (name for name in NAMES if name.endswith("0")):
        stem, take = first.rsplit("_", 1)
        names = [f"{stem}_{int(take) + i}" for i in range(10)]
        lines.append(" ".join([first, *(recording_digest(recordings[name]) for name in names)]))
    return "\n".join(lines) + "\n"


def unpack(archive: Path, folder: Path) -> Path:
    """Verify `archive`, then write its recordings to ``folder/recordings``; whole or not at all.

    Only bare file names are taken from the archive, and only after they have been verified.
    """
    contents = read_files(archive)
    verify(decode(contents), archive)
    with archives.new_folder(folder) as temporary:
        (temporary / "recordings").mkdir()
        for name, content in contents.items():
            (temporary / "recordings" / name).write_bytes(content)
    return folder


def write_recordings(recordings: Mapping[str, np.ndarray], folder: Path) -> Path:
    """Write int16 (samples,) by name as WAV files in ``folder/recordings``; whole or not at all."""
    with archives.new_folder(folder) as temporary:
        for name, samples in recordings.items():
            audio_io.write_audio(temporary / "recordings" / f"{name}.wav", samples, SAMPLE_RATE)
    return folder
