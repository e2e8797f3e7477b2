"""Protocol formats: what phones, browsers, recorders and editors make of the same clips."""

from __future__ import annotations

import dataclasses
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import audio_io
import config
from corpora.clips import Clips, concatenate
from protocols import metrics, scoring, tables
from protocols.common import (
    EvaluationSettings,
    ProtocolReport,
    about,
    load_unseen_speakers,
    synthetic_speakers,
    trained_on,
)
from protocols.scoring import ClipResults
from recognition.predictor import Predictor
from recognition.recognizer import Recognizer

logger = logging.getLogger(__name__)
N_CLIPS = 72
"""Clips sent through every format."""
PADDING_S = 0.3
"""s of room before and after each clip: nobody's recorder starts with the word."""
ROOM_DBFS = -65.0
"""dBFS of the room's noise in that padding, white: digital silence would flatter a codec."""

Maker = Callable[[np.ndarray, int, np.random.Generator], bytes]
"""Encodes float32 (samples,) at a rate; the generator rules what is random."""


def with_libsndfile(
    samples: np.ndarray, rate: int, container: str = "WAV", subtype: str = "PCM_16"
) -> bytes:
    """Encode float (samples,) or (samples, channels) with libsndfile."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def with_pyav(
    waveform: np.ndarray,
    rate: int,
    container: str,
    codec: str,
    bit_rate: int = 32000,
    options: Mapping[str, str] | None = None,
) -> bytes:
    """Encode float32 (samples,) with FFmpeg."""
    import av

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "encoded")  # an index at the beginning needs a file to go back in
        with av.open(str(path), "w", format=container, options=dict(options or {})) as output:
            track: Any = output.add_stream(codec, rate=rate, layout="mono")
            track.bit_rate = bit_rate
            frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
            frame.rate = rate
            output.mux(track.encode(frame) + track.encode(None))
        return path.read_bytes()


def libsndfile_format(
    container: str, subtype: str, rate: int | None = None, gain: float = 1.0
) -> Maker:
    """A maker of one of libsndfile's formats, at a rate of its own if need be."""

    def make(waveform: np.ndarray, own_rate: int, random: np.random.Generator) -> bytes:
        resampled = audio_io.resample(waveform, own_rate, rate or own_rate)
        return with_libsndfile(gain * resampled, rate or own_rate, container, subtype)

    return make


def pyav_format(
    container: str, codec: str, rate: int | None = None, bit_rate: int = 32000, **options: str
) -> Maker:
    """A maker of one of FFmpeg's formats."""

    def make(waveform: np.ndarray, own_rate: int, random: np.random.Generator) -> bytes:
        resampled = audio_io.resample(waveform, own_rate, rate or own_rate)
        return with_pyav(resampled, rate or own_rate, container, codec, bit_rate, options)

    return make


def channels(mix: Callable[[np.ndarray, np.random.Generator], list[np.ndarray]]) -> Maker:
    """A maker of a 16-bit WAV with the channels that `mix` makes of the waveform."""

    def make(waveform: np.ndarray, rate: int, random: np.random.Generator) -> bytes:
        return with_libsndfile(np.stack(mix(waveform, random), axis=1), rate)

    return make


def patched(change: Callable[[bytes], bytes]) -> Maker:
    """A maker of a 16-bit WAV whose bytes are then changed."""
    return lambda waveform, rate, random: change(with_libsndfile(waveform, rate))


def in_float(scale: Callable[[np.ndarray], float]) -> Maker:
    """A maker of a floating-point WAV, scaled by what `scale` makes of the waveform."""
    return lambda waveform, rate, random: with_libsndfile(
        waveform * scale(waveform), rate, "WAV", "FLOAT"
    )


def _noise_like(waveform: np.ndarray, random: np.random.Generator, level: float) -> np.ndarray:
    return level * audio_io.rms(waveform) * random.standard_normal(len(waveform))


def _without_length(content: bytes) -> bytes:
    return content[:4] + bytes(4) + content[8:40] + bytes(4) + content[44:]


def _promising_more(content: bytes) -> bytes:
    return content[:40] + (4 * len(content)).to_bytes(4, "little") + content[44:]


FORMATS: dict[str, Maker] = {
    "WAV 16 bit (unaltered)": libsndfile_format("WAV", "PCM_16"),
    "WAV 8 bit": libsndfile_format("WAV", "PCM_U8"),
    "WAV 24 bit": libsndfile_format("WAV", "PCM_24"),
    "WAV float": libsndfile_format("WAV", "FLOAT"),
    "WAV mu-law, 8 kHz": libsndfile_format("WAV", "ULAW", 8000),
    "WAV GSM 6.10 (voicemail)": libsndfile_format("WAV", "GSM610", 8000),
    "WAV G.721 32 kbit/s": libsndfile_format("WAV", "G721_32", 8000),
    "AU G.723 24 kbit/s": libsndfile_format("AU", "G723_24", 8000),
    "WAV NMS ADPCM 24 kbit/s": libsndfile_format("WAV", "NMS_ADPCM_24", 8000),
    "WAV IMA ADPCM": libsndfile_format("WAV", "IMA_ADPCM"),
    "XI (16-bit DPCM)": libsndfile_format("XI", "DPCM_16", 44100),
    "AIFF": libsndfile_format("AIFF", "PCM_16"),
    "AU": libsndfile_format("AU", "PCM_16"),
    "CAF, ALAC": libsndfile_format("CAF", "ALAC_16"),
    "W64": libsndfile_format("W64", "PCM_16"),
    "RF64": libsndfile_format("RF64", "PCM_16"),
    "SPHERE": libsndfile_format("NIST", "PCM_16"),
    "VOC": libsndfile_format("VOC", "PCM_16"),
    "FLAC": libsndfile_format("FLAC", "PCM_16"),
    "MP3": libsndfile_format("MP3", "MPEG_LAYER_III"),
    "Ogg Vorbis": libsndfile_format("OGG", "VORBIS"),
    "Ogg Opus (Telegram)": libsndfile_format("OGG", "OPUS", 48000),
    "m4a, AAC (iPhone)": pyav_format("ipod", "aac"),
    "m4a, AAC, index first": pyav_format("ipod", "aac", movflags="faststart"),
    "m4a, ALAC": pyav_format("ipod", "alac"),
    "mp4, AAC": pyav_format("mp4", "aac"),
    "3gp, AMR-NB 12.2 kbit/s": pyav_format("3gp", "libopencore_amrnb", 8000, 12200),
    "AMR-NB 7.95 kbit/s": pyav_format("amr", "libopencore_amrnb", 8000, 7950),
    "AAC (ADTS)": pyav_format("adts", "aac"),
    "WebM, Opus (browser)": pyav_format("webm", "libopus", 48000),
    "Matroska, AAC": pyav_format("matroska", "aac"),
    "wma": pyav_format("asf", "wmav2"),
    "WAV 384 kHz": libsndfile_format("WAV", "PCM_16", 384000),
    "WAV whose header says length 0": patched(_without_length),
    "WAV whose header promises more": patched(_promising_more),
    "float, 8 times too loud": in_float(lambda waveform: 8 / np.abs(waveform).max()),
    "float, scaled as 16-bit integers": in_float(lambda waveform: 32767.0),
    "float, peak -80 dBFS": in_float(lambda waveform: 1e-4 / np.abs(waveform).max()),
    "24 bit, peak -80 dBFS": libsndfile_format("WAV", "PCM_24", gain=2e-4),
    "stereo, one phase inverted": channels(lambda waveform, random: [waveform, -waveform]),
    "stereo, one channel noisy": channels(
        lambda waveform, random: [waveform + _noise_like(waveform, random, 2.0), waveform]
    ),
    "stereo, one channel silent": channels(
        lambda waveform, random: [np.zeros_like(waveform), waveform]
    ),
    "5.1, voice in the centre": channels(
        lambda waveform, random: [
            *(_noise_like(waveform, random, 0.03) for _ in range(2)),
            waveform,
            np.zeros_like(waveform),
            *(_noise_like(waveform, random, 0.03) for _ in range(2)),
        ]
    ),
}
"""What people bring, by name, and how it is made of a clip."""


def formats(settings: EvaluationSettings) -> ProtocolReport:
    """The same clips in every format, read and recognised as files are."""
    predictor = Predictor(settings.decision)
    clips, origin = brought_clips(settings, predictor)
    recognizer = settings.recognizer(predictor, recording=True)
    results: dict[str, ClipResults] = {}
    read: dict[str, dict[str, Any]] = {}
    for name, make in FORMATS.items():
        try:
            results[name], read[name] = answer(recognizer, clips, make, settings.seed)
        except (ImportError, ValueError, LookupError) as error:
            logger.warning(f"{name}: can't be made here ({error})")
            continue
        logger.info(f"{name}: {metrics.proportion(results[name].right('vote'))}")
    return formats_report(settings, predictor, origin, results, read)


def brought_clips(settings: EvaluationSettings, predictor: Predictor) -> tuple[Clips, str]:
    """:data:`N_CLIPS` clips of many speakers, unseen or synthetic, and which of the two."""
    random = np.random.default_rng(settings.seed)
    if settings.unseen_dir is None:
        made = synthetic_speakers(settings, predictor.audio.sample_rate)
        chosen = np.sort(random.permutation(len(made))[:N_CLIPS])
        return made.subset(chosen), "synthetic speakers (no UNSEEN_SPEAKERS_DIR)"
    audio = dataclasses.replace(predictor.audio, sample_rate=16000)
    corpora = load_unseen_speakers(settings, audio)
    ranks = np.concatenate([random.permutation(len(part)) for part in corpora.values()])
    chosen = np.sort(np.argsort(ranks, kind="stable")[:N_CLIPS])  # as many of each as there are
    return concatenate(list(corpora.values())).subset(chosen), (
        f"unseen speakers ({', '.join(corpora)})"
    )


def in_room(clips: Clips, seed: int) -> Iterator[np.ndarray]:
    """Each clip with a moment of a quiet room on either side, float32 (samples,)."""
    padding = round(PADDING_S * clips.sample_rate)
    for index in range(len(clips)):
        waveform = np.pad(clips.waveform(index), padding)
        room = np.random.default_rng([seed, index]).standard_normal(len(waveform))
        yield (waveform + 10 ** (ROOM_DBFS / 20) * room).astype(np.float32)


def answer(
    recognizer: Recognizer, clips: Clips, make: Maker, seed: int
) -> tuple[ClipResults, dict[str, Any]]:
    """Encode, read and recognise every clip; the answers, and how the reading went."""
    waveforms, errors, remarks = [], [], 0
    for index, waveform in enumerate(in_room(clips, seed)):
        content = make(waveform, clips.sample_rate, np.random.default_rng([seed, index, 1]))
        try:
            recording = audio_io.read_recording(content, clips.sample_rate)
        except config.UserError as error:
            errors.append(str(error))
            recording = audio_io.Recording(np.zeros(800, np.float32), clips.sample_rate)
        waveforms.append(recording.waveform)
        remarks += bool(recording.remarks)
    results = scoring.recognize_waveforms(recognizer, waveforms, clips)
    return results, {"unreadable": len(errors), "with_remark": remarks, "errors": errors[:3]}


def formats_report(
    settings: EvaluationSettings,
    predictor: Predictor,
    origin: str,
    results: Mapping[str, ClipResults],
    read: Mapping[str, dict[str, Any]],
) -> ProtocolReport:
    """One row a format."""
    rows = [
        [
            name,
            f"{np.count_nonzero(part.right('vote'))} of {len(part)}",
            str(np.count_nonzero(part.right("vote") & part.accepted)),
            str(read[name]["unreadable"]),
            str(read[name]["with_remark"]),
        ]
        for name, part in results.items()
    ]
    share = {name: metrics.proportion(part.right("vote")) for name, part in results.items()}
    worst = min(share, key=lambda name: share[name].value)
    title = (
        f"What people bring: {len(rows)} formats, at worst {share[worst].value:.1%} right ({worst})"
    )
    text = "\n".join(
        [
            f"# {title}\n",
            f"{len(next(iter(results.values())))} clips of {origin}, the same in each row.\n",
            tables.table(["format", "right", "of them accepted", "unreadable", "remarks"], rows),
            trained_on(predictor),
        ]
    )
    data = about(settings, predictor) | {
        "formats": {name: read[name] | {"right": share[name]} for name in results}
    }
    groups = {name: {"vote": item} for name, item in share.items()}
    return ProtocolReport("formats", text, data, tables.accuracy_figure(groups, title))
