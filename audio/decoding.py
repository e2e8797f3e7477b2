"""Encoded sound to samples: libsndfile where it can, else FFmpeg by way of PyAV.

What either of them raises ends here, as an :class:`AudioError` with one true line, and what they
print never reaches the terminal. Both decode block by block, so that a recording of hours is
refused before it fills the memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

import config

BLOCK = 65536
"""Samples, over all channels, decoded at a time."""
MAX_VALUES = 120_000_000
"""Samples over all channels: 480 MB, a minute of eight channels at 192 kHz."""
MAX_STREAM_BYTES = 256 * 2**20
"""Bytes read from a pipe, or of a file whose header does not say how long it is."""
WHOLE_BYTES = 2**24
"""Bytes up to which a file that can't be decoded is searched for the reason."""
UNKNOWN_LENGTH = 2**31 - 2**16
"""Bytes from which a header's length means "unknown", as streaming programs write it."""
CHUNKS = {
    b"RIFF": ("little", 4, 12),
    b"RIFX": ("big", 4, 12),
    b"FORM": ("big", 4, 12),
    b"caff": ("big", 8, 8),
}
"""Files made of chunks: how they begin -> byte order, bytes of a length, the first's place."""
CUT_OFF = re.compile(
    r"^(?!RIFF|FORM).+: (\d+) \(should be (\d+)\)|truncated file|lacks an end-of-stream bit",
    re.MULTILINE,
)
"""What libsndfile's log says of W64, RF64, AU, VOC and Ogg whose end is missing."""
HEADER_SLIP = 64
"""Bytes that a header may promise too many: some programs count the header itself."""
UNKNOWN_FRAMES = 2**62
"""Frames from which libsndfile means "unknown": FLAC that was made in a pipe."""
SHORTER = 0.05
"""Share (and s, at least 0.3) by which a file must fall short of its header to be told."""
COARSE = re.compile("PCM_(S8|U8|16)|[UA]LAW|.*ADPCM.*|GSM.*|G72.*|DPCM.*|DWVW.*|VOX.*|ALAC_16")
"""libsndfile's subtypes of 16 bits or fewer; what is quiet in them is lost in rounding."""
END_MISSING = "file shorter than its header says: its end is missing"
MPEG = re.compile(rb"ID3|\xff[\xe0-\xff]|RIFF.{4}WAVEfmt .{4}[\x50\x55]\x00", re.DOTALL)
"""How a file begins that libsndfile gives to libmpg123, which prints notes of its own."""
MPEG_LENGTH = re.compile(rb"Xing|Info|VBRI")
"""What an MP3 says its length after, if it does."""
PYAV_BEGINNINGS = re.compile(
    rb".{4}ftyp|\x1aE\xdf\xa3|#!AMR|0&\xb2u|\xff[\xf0-\xf9]|ADIF|OggS|FLV|.{4}(moov|mdat|wide|free)",
    re.DOTALL,
)
"""mp4 and its kin, WebM and Matroska, AMR, ASF, AAC, what libsndfile does not know of Ogg."""
PYAV_FORMATS = (
    "mov,matroska,asf,amr,amrnb,amrwb,aac,ogg,wav,w64,flac,mp3,aiff,au,caf,avi,flv,mpeg,mpegts,"
    "ac3,eac3,voc,nistsphere,iff,xwma"
)
"""FFmpeg's formats that hold sound themselves: no playlist may open other files or addresses."""
TRUE_DURATIONS = ("mov", "matroska", "asf")
"""FFmpeg's formats whose header says how long they are; of others FFmpeg guesses."""
ENCRYPTED = re.compile(
    rb"enca|drms|\xfb\xb3\x11\x22\x23\xbd\xd2\x11|\x14\xe6\x8a\x29\x22\x26\x17\x4c"
)
"""Marks of encryption in mp4 (ISO 23001-7, iTunes) and ASF."""

_muting = threading.Lock()


class AudioError(config.UserError):
    """A sound file that can't be used; the text names it and says why."""


@dataclass(frozen=True)
class Decoded:
    """What a file holds."""

    samples: np.ndarray
    """float32 (frames, channels); beyond [-1, 1] where a floating-point file goes there."""
    sample_rate: int
    """Hz."""
    fine: bool
    """Finer than 16 bits: quiet sound in it is not lost."""
    remarks: tuple[str, ...] = ()

    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / self.sample_rate


class Source:
    """A binary file that can seek, read from its start.

    A damaged header's seek to before the start stops at the start: libsndfile then finds nothing
    and says so; an exception could not pass through it, and would be printed with its traceback.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, io.SEEK_END)
        self.read, self.tell = file.read, file.tell
        file.seek(0)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self.size}[whence]
        return self.file.seek(max(0, start + offset))

    def beginning(self, size: int) -> bytes:
        """The first bytes; reading goes on from the start."""
        self.seek(0)
        content = self.read(size)
        self.seek(0)
        return content


def decode(file: BinaryIO, max_seconds: float) -> Decoded:
    """Decode a whole file.

    Parameters
    ----------
    file : can seek
    max_seconds : longer recordings are refused before they are decoded whole

    Raises
    ------
    AudioError : why it can't be used, without its name
    """
    source = Source(file)
    remarks: tuple[str, ...] = ()
    if not source.size:
        raise AudioError("empty file")
    lengths = _data_lengths(source)
    if lengths is not None:
        source, remarks = _mend(source, *lengths)
    try:
        decoded = _with_libsndfile(source, max_seconds)
        if not len(decoded.samples) and lengths is not None:
            raise AudioError("holds no samples")  # FFmpeg would take the next chunk for sound
        reason = "" if len(decoded.samples) else "holds no samples"
    except AudioError:
        raise
    except Exception as error:  # whatever it may be, it is this file's error
        reason = f"not a readable sound file ({_text(error)})"
    if reason:
        decoded = _with_pyav(source, max_seconds, reason)
    elif MPEG.match(source.beginning(22)) and not MPEG_LENGTH.search(source.beginning(2**16)):
        decoded = dataclasses.replace(decoded, remarks=())  # libsndfile guesses where it ends
        with contextlib.suppress(AudioError):
            decoded = max(_with_pyav(source, max_seconds, ""), decoded, key=Decoded.seconds)
    return dataclasses.replace(decoded, remarks=remarks or decoded.remarks)


def _text(error: Exception) -> str:
    """The last, most telling part of an exception's text."""
    text = str(getattr(error, "strerror", None) or error).rsplit(":", 1)[-1]
    if "File does not exist" in text or "internal error" in text:
        return "damaged"  # what libsndfile says then is not true
    return " ".join(text.split()).rstrip(".") or type(error).__name__


def _check_length(declared: float, seconds: float, values: int, max_seconds: float) -> None:
    """Refuse what is too long: by its header, or after so many decoded s and samples."""
    if max(declared, seconds) > max_seconds:
        length = f"{declared:.0f}" if declared > max_seconds else f"more than {max_seconds:g}"
        raise AudioError(f"{length} s long; at most {max_seconds:g} s are accepted")
    if values > MAX_VALUES:
        raise AudioError(f"more than {MAX_VALUES / 1e6:.0f} million samples")


def _data_lengths(source: Source) -> tuple[int, int, int] | None:
    """Of a RIFF, AIFF or CAF file: where the sound begins, bytes declared, and bytes there are.

    None for other files, and where the header does not say.
    """
    form = source.beginning(12)
    order, width, place = CHUNKS.get(form[:4], ("", 0, 0))
    if not order or (width == 4 and form[8:] not in (b"WAVE", b"AIFF", b"AIFC")):
        return None
    while place + 4 + width <= source.size:
        source.seek(place)
        head = source.read(4 + width)
        length = int.from_bytes(head[4:], order)  # type: ignore[arg-type]
        place += len(head)
        if head[:4] in (b"data", b"SSND"):
            return None if length >= UNKNOWN_LENGTH else (place, length, source.size - place)
        place += length + (length % 2 if width == 4 else 0)
    return None


def _mend(
    source: Source, start: int, declared: int, present: int
) -> tuple[Source, tuple[str, ...]]:
    """A file whose data length is not that of its data, as it can be read; and a remark."""
    if declared > present + HEADER_SLIP:
        return source, (END_MISSING,)
    content = source.beginning(0 if declared else MAX_STREAM_BYTES)
    if content[8:12] != b"WAVE" or len(content) <= start or _are_chunks(content[start:]):
        return source, ()
    order = "little" if content[:4] == b"RIFF" else "big"
    length = (len(content) - start).to_bytes(4, order)  # type: ignore[arg-type]
    content = content[: start - 4] + length + content[start:]
    return Source(io.BytesIO(content)), ("header says length 0: read to the end",)


def _are_chunks(content: bytes) -> bool:
    """Whether bytes after an empty data chunk are no sound but further chunks, to the very end."""
    place = 0
    while place + 8 <= len(content) and content[place : place + 4].isascii():
        length = int.from_bytes(content[place + 4 : place + 8], "little")
        place += 8 + length + length % 2
    return len(content) <= place <= len(content) + 1


def _with_libsndfile(source: Source, max_seconds: float) -> Decoded:
    import soundfile

    source.seek(0)
    muted = muted_decoder() if MPEG.match(source.beginning(22)) else contextlib.nullcontext()
    blocks: list[np.ndarray] = []
    remarks: tuple[str, ...] = ()
    with muted, soundfile.SoundFile(source) as sound:
        rate, channels, frames = sound.samplerate, sound.channels, sound.frames
        declared = frames / rate if frames < UNKNOWN_FRAMES else 0.0
        _check_length(declared, 0, round(declared * rate) * channels, max_seconds)
        left = frames if declared else round(max_seconds * rate) + 1
        try:
            while left > 0:
                # how many must be said: what can't seek does not know how many are left
                size = min(left, max(1, BLOCK // channels))
                blocks.append(sound.read(size, dtype="float32", always_2d=True))
                left = left - size if len(blocks[-1]) == size else 0
        except soundfile.SoundFileError as error:
            if not blocks:
                raise
            remarks = (f"damaged: read up to where it can't be decoded ({_text(error)})",)
        fine, log = COARSE.fullmatch(sound.subtype) is None, sound.extra_info
    samples = np.concatenate(blocks) if blocks else np.zeros((0, channels), np.float32)
    _check_length(declared, len(samples) / rate, samples.size, max_seconds)
    remarks = remarks or _shorter(declared, len(samples) / rate) or _cut_off_by_log(log)
    return Decoded(samples, rate, fine, remarks)


def _cut_off_by_log(log: str) -> tuple[str, ...]:
    """A remark where libsndfile's log tells of a missing end."""
    for found in CUT_OFF.finditer(log):
        declared, present = (int(text or 0) for text in found.groups())
        if not declared or present + HEADER_SLIP < declared < UNKNOWN_LENGTH:
            return (END_MISSING if declared else "cut off: its end is missing",)
    return ()


def _shorter(declared: float, decoded: float) -> tuple[str, ...]:
    """A remark where much fewer seconds were there than declared."""
    if declared - decoded <= max(0.3, SHORTER * declared):
        return ()
    return (f"file shorter than its header says: {decoded:.1f} of {declared:.1f} s",)


@contextlib.contextmanager
def muted_decoder() -> Iterator[None]:
    """Keep off the terminal what a C library writes to file descriptor 2 past Python."""
    with _muting, contextlib.ExitStack() as undo:
        try:
            kept = os.dup(2)
        except OSError:  # no standard error at all, as under pythonw
            kept = None
        if kept is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            undo.callback(os.close, kept)
            undo.callback(os.close, nowhere)
            undo.callback(os.dup2, kept, 2)
        yield


def _with_pyav(source: Source, max_seconds: float, reason: str) -> Decoded:
    """Decode with FFmpeg; `reason` is why libsndfile did not."""
    try:
        import av
    except ImportError:
        if PYAV_BEGINNINGS.match(source.beginning(12)):
            reason += "; m4a, mp4, 3gp, AMR, WebM, AAC and wma need PyAV: pip install av"
        raise AudioError(reason) from None
    source.seek(0)
    try:
        with av.open(
            source, metadata_errors="ignore", options={"format_whitelist": PYAV_FORMATS}
        ) as container:
            return _decode_container(container, source, max_seconds)
    except AudioError:
        raise
    except Exception:  # it does not know the format, or not what is in it
        raise AudioError(_cut_off(source) or reason) from None


def _cut_off(source: Source) -> str:
    """A better reason for an mp4 that a recorder never finished; "" for all else."""
    content = source.beginning(WHOLE_BYTES)
    if content[4:8] != b"ftyp" or source.size > WHOLE_BYTES:
        return ""
    place = content.rfind(b"moov") - 4
    if place >= 0 and place + int.from_bytes(content[place : place + 4], "big") <= source.size:
        return ""
    return "cut off before its end: an mp4 or m4a can't be read without its index"


def _decode_container(container: Any, source: Source, max_seconds: float) -> Decoded:
    if container.streams.video and not container.streams.audio:
        raise AudioError("holds video, but no sound")
    track = container.streams.audio[0]
    declared = _declared_seconds(container, track)
    blocks: list[np.ndarray] = []
    kind, damaged, length = None, 0, 0
    for frame in _frames(container, track):
        kind = kind or (frame and _kind(frame))
        if frame is None or _kind(frame) != kind:
            damaged += 1
            continue
        blocks.append(_as_float(frame))
        length += frame.samples
        if length > max_seconds * kind[0]:
            _check_length(declared, length / kind[0], 0, max_seconds)
        _check_length(0, 0, length * kind[1], max_seconds)
    if kind is None or damaged > len(blocks):
        raise AudioError(_undecodable(source, damaged))
    remarks = _shorter(declared, length / kind[0])
    if damaged and not remarks:
        remarks = ("damaged: some of it could not be decoded",)
    return Decoded(np.concatenate(blocks), kind[0], track.format.bytes > 2, remarks)


def _undecodable(source: Source, damaged: int) -> str:
    if ENCRYPTED.search(source.beginning(2**20)) or ENCRYPTED.search(_ending(source)):
        return "encrypted (DRM): only its own player can decode it"
    return "holds no sound that can be decoded" if damaged else "holds no samples"


def _kind(frame: Any) -> tuple[int, int]:
    """Rate in Hz and number of channels, which must stay the same."""
    return frame.sample_rate, len(frame.layout.channels)


def _ending(source: Source) -> bytes:
    source.seek(-min(source.size, 2**20), io.SEEK_END)
    return source.read(2**20)


def _declared_seconds(container: Any, track: Any) -> float:
    """s that the header says; 0 where it doesn't, or FFmpeg would only guess."""
    if not container.format.name.startswith(TRUE_DURATIONS):
        return 0.0
    if track.duration:
        return float(track.duration * track.time_base)
    return (container.duration or 0) / 1e6


def _frames(container: Any, track: Any) -> Iterator[Any]:
    """Frames of sound in order; None for each packet that can't be decoded."""
    import av

    for packet in container.demux(track):
        try:
            yield from packet.decode()
        except av.error.FFmpegError:
            if packet.size:  # the last, empty one only flushes the decoder
                yield None


def _as_float(frame: Any) -> np.ndarray:
    """One frame's sound, float32 (samples, channels)."""
    values, channels = frame.to_ndarray(), len(frame.layout.channels)
    values = values.T if frame.format.is_planar else values.reshape(-1, channels)
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    middle, scale = (128, 128) if values.dtype.kind == "u" else (0, -np.iinfo(values.dtype).min)
    return ((values.astype(np.float64) - middle) / scale).astype(np.float32)
