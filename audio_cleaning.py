"""One way from a raw recording to the speech in it, the same for live, analyser, app and batch.

DC removal -> Butterworth high-pass -> voice activity -> spectral gating (automatic or off) -> trim.
The speech is found before the gate, because the gate learns the noise from what lies outside it.
Level and duration are fitted later, in :mod:`audio_feature_extraction`, for training as well.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

import audio_io
from audio import filtering, voice_activity
from audio.spectral_gating import spectral_gate
from config import CleaningSettings

ANSWER_SPAN_S = 1.2
"""s. Segments within such a span are one word; beyond, the one with the most energy is taken."""
HIGHPASS_ORDER = 4
"""Order of the Butterworth high-pass."""
NOISE_S = 0.1
"""s of sound outside the speech that it takes to know the noise."""
CLIPPED = 0.99
"""Amplitude from which a sample counts as clipped."""
CLIPPED_FRACTION = 1e-3
"""Share of clipped samples from which clipping is heard."""
QUIET_DBFS = -48.0
"""dBFS. Speech below is too near the noise of a microphone's own electronics."""


@dataclass(frozen=True)
class Cleaned:
    """Every stage of a cleaned recording, and what was measured on the way.

    All waveforms are float32 (samples,) at the rate given to :func:`clean`.
    """

    original: np.ndarray
    """As recorded."""
    highpassed: np.ndarray
    """Without DC and rumble."""
    gated: np.ndarray
    """Without steady noise; the same array as `highpassed` where the gate did not run."""
    speech: np.ndarray
    """The part to recognise; empty where there is no speech."""
    speech_start_s: float | None
    """s from the start of the recording; None where there is no speech."""
    speech_end_s: float | None
    """s from the start of the recording; None where there is no speech."""
    segments: list[tuple[float, float]]
    """s. Start and end of each stretch of speech."""
    contrast: np.ndarray
    """dB (frames,). How far each 10 ms stands out of the noise around it, which is followed in
    recordings of more than :data:`voice_activity.FLOOR_SPAN_S`."""
    snr_db: float
    """dB, estimated, from -10 to 80; 0 where there is no speech."""
    level_dbfs: float
    """RMS level of the speech, or of the whole recording where there is none."""
    peak_dbfs: float
    """Largest amplitude as recorded."""
    noise_floor_dbfs: float
    """RMS level outside the speech, or of the quietest tenth where there is no outside."""
    clipped_fraction: float
    """Share of samples at full scale."""
    dc_offset: float
    """Mean amplitude as recorded."""
    stage_ms: dict[str, float] = field(default_factory=dict)
    """ms of computing by stage: highpass, vad, gate, measure."""


def clean(
    waveform: np.ndarray, sample_rate: int, settings: CleaningSettings | None = None
) -> Cleaned:
    """Clean one recording and find the speech in it.

    Parameters
    ----------
    waveform : float32 (samples,), in [-1, 1]
    sample_rate : Hz; 8000, 16000, 32000 or 48000 is quickest, any other works
    settings : which stages run and how; the defaults if None

    Returns
    -------
    Cleaned : all stages; `speech` is empty for silence, steady noise and clicks
    """
    settings = settings or CleaningSettings()
    waveform = np.ascontiguousarray(waveform, dtype=np.float32)
    clock = [time.perf_counter()]
    highpassed = high_pass(waveform, sample_rate, settings)
    clock.append(time.perf_counter())
    contrast = voice_activity.activity(highpassed, sample_rate)
    segments = voice_activity.find_speech(highpassed, sample_rate, settings, contrast)
    if len(waveform) > voice_activity.FLOOR_SPAN_S * sample_rate:
        contrast = voice_activity.activity(highpassed, sample_rate, follow=True)
    clock.append(time.perf_counter())
    outside = _outside(highpassed, sample_rate, segments)
    floor, snr = _noise_and_snr(highpassed, outside, sample_rate, segments)
    clock.append(time.perf_counter())
    gated = highpassed
    if segments and outside.size >= NOISE_S * sample_rate and _gate_runs(snr, settings):
        size = 2 ** round(np.log2(voice_activity.WINDOW_S * sample_rate))
        gated = spectral_gate(highpassed, sample_rate, outside, settings.gate_strength, size)
    clock.append(time.perf_counter())
    span = (
        _answer_span(gated, sample_rate, segments)
        if settings.vad
        else ((0.0, len(waveform) / sample_rate) if waveform.size else None)
    )
    speech = cut(gated, sample_rate, span) if span else np.zeros(0, np.float32)
    names = ("highpass", "vad", "measure", "gate")
    return Cleaned(
        original=waveform,
        highpassed=highpassed,
        gated=gated,
        speech=speech,
        speech_start_s=span[0] if span else None,
        speech_end_s=span[1] if span else None,
        segments=segments,
        contrast=contrast,
        snr_db=snr,
        level_dbfs=audio_io.dbfs(audio_io.rms(speech if speech.size else highpassed)),
        peak_dbfs=audio_io.dbfs(float(np.abs(waveform).max(initial=0.0))),
        noise_floor_dbfs=audio_io.dbfs(floor),
        clipped_fraction=clipped(waveform),
        dc_offset=float(waveform.mean(dtype=np.float64)) if waveform.size else 0.0,
        stage_ms={name: 1e3 * (clock[i + 1] - clock[i]) for i, name in enumerate(names)},
    )


def clipped(waveform: np.ndarray) -> float:
    """Share of the samples of float32 (samples,) at full scale."""
    return float(np.mean(np.abs(waveform) >= CLIPPED)) if waveform.size else 0.0


def level_faults(waveform: np.ndarray, level_dbfs: float) -> list[tuple[str, str]]:
    """Whether a recording is too loud or too quiet: the fault, and what to do at a microphone."""
    if clipped(waveform) > CLIPPED_FRACTION:
        return [("clipped", "turn the microphone's gain down or move back")]
    if level_dbfs < QUIET_DBFS:
        return [("very quiet", "move closer or turn the microphone's gain up")]
    return []


def as_advice(faults: Iterable[tuple[str, str]], live: bool) -> list[str]:
    """Faults as lines; with what to do about them where a microphone here has just recorded."""
    return [f"{fault}: {remedy}" if live else fault for fault, remedy in faults]


def high_pass(waveform: np.ndarray, sample_rate: int, settings: CleaningSettings) -> np.ndarray:
    """Take the mean and what lies below `settings.highpass_hz` out of float32 (samples,).

    Forwards and backwards without delay (phase "zero", twice the slope), or causal ("minimum").
    """
    if waveform.size < 2:
        return waveform
    centred = waveform - waveform.mean(dtype=np.float64)
    if settings.highpass_hz <= 0:
        return centred.astype(np.float32)
    linear = filtering.butterworth_high_pass(HIGHPASS_ORDER, settings.highpass_hz, sample_rate)
    if settings.highpass_phase == "minimum":
        return filtering.forwards(linear, centred).astype(np.float32)
    # shorter padding, as scipy's own 15 samples, would leave a step at the edges
    padding = min(len(centred) - 1, round(sample_rate / settings.highpass_hz))
    filtered = filtering.forwards_and_backwards(linear, centred, padding)
    return filtered.astype(np.float32)


def cut(waveform: np.ndarray, sample_rate: int, span: tuple[float, float]) -> np.ndarray:
    """What lies between two times in s of float32 (samples,)."""
    return waveform[round(span[0] * sample_rate) : round(span[1] * sample_rate)]


def _outside(
    waveform: np.ndarray, sample_rate: int, segments: list[tuple[float, float]]
) -> np.ndarray:
    """What lies outside the segments, joined: float32 (samples,)."""
    keep = np.ones(len(waveform), bool)
    for start, end in segments:
        keep[round(start * sample_rate) : round(end * sample_rate)] = False
    return waveform[keep]


def _noise_and_snr(
    waveform: np.ndarray, outside: np.ndarray, sample_rate: int, segments: list[tuple[float, float]]
) -> tuple[float, float]:
    """RMS amplitude of the noise; dB of the segments' power less the noise, over the noise."""
    if waveform.size == 0:
        return 0.0, 0.0
    if outside.size >= NOISE_S * sample_rate:
        noise = audio_io.rms(outside) ** 2
    else:
        noise = float(np.percentile(voice_activity.frame_power(waveform, sample_rate), 10))
    if not segments:
        return float(np.sqrt(noise)), 0.0
    speech = np.concatenate([cut(waveform, sample_rate, span) for span in segments])
    signal = max(audio_io.rms(speech) ** 2 - noise, 1e-12)
    return float(np.sqrt(noise)), float(np.clip(10 * np.log10(signal / max(noise, 1e-12)), -10, 80))


def _gate_runs(snr_db: float, settings: CleaningSettings) -> bool:
    return settings.gate == "on" or (settings.gate == "auto" and snr_db < settings.gate_snr_db)


def _answer_span(
    waveform: np.ndarray, sample_rate: int, segments: list[tuple[float, float]]
) -> tuple[float, float] | None:
    """The one span to recognise: all segments where they are one word's, else the strongest."""
    if not segments:
        return None
    if segments[-1][1] - segments[0][0] <= ANSWER_SPAN_S:
        return segments[0][0], segments[-1][1]
    return max(segments, key=lambda span: float(np.square(cut(waveform, sample_rate, span)).sum()))
