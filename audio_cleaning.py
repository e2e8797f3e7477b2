"""One way from a raw recording to the speech in it, the same for live, analyser, app and batch.

DC removal -> Butterworth high-pass -> voice activity -> spectral gating (automatic or off) -> trim.
The speech is found before the gate, because the gate learns the noise from what lies outside it.
Level and duration are fitted later, in :mod:`audio_feature_extraction`, for training as well.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, field

import numpy as np

import audio_io
from config import CleaningSettings

FRAME_S = 0.010
"""s between the frames that voice activity is decided on."""
WINDOW_S = 0.032
"""s of sound in a frame: parts two formants, still follows a plosive."""
BAND_EDGES_HZ = (80, 250, 450, 700, 1000, 1400, 1900, 2500, 3200, 4000, 5500, 8000)
"""Bands in which speech is compared with noise: a vowel fills few of them, a fricative others."""
FLOOR_PERCENTILE = 15
"""Percentile over time of a band's power that counts as its noise."""
FLOOR_RANGE_DB = 60.0
"""dB below the strongest band at which a noise floor is taken to lie at least: digital silence."""
SPEECH_DB = 3.2
"""dB above the floor that speech must reach; steady noise of 0.3 to 5 s stays below 2.9."""
SPEECH_RANGE_DB = 45.0
"""dB below the loudest frame at which nothing counts as speech; an /s/ may lie 40 below a vowel."""
CORE_RANGE_DB = 20.0
"""dB below the loudest frame within which a word, but no click, stays for `min_speech_ms`."""
CLEAR_DB = (10.0, 40.0)
"""dB. Loudest frame of speech deep in noise, and of clear speech: noise hides the soft edges."""
HIDDEN_EDGE_S = 0.12
"""s kept besides pre-roll and hang-over where noise hides the soft edges altogether."""
VOICED_FRAMES = 3
"""Frames (20 ms) that WebRTC's detector must confirm in a segment; the shortest digit has 6."""
VAD_LEVEL_DBFS = -20.0
"""dBFS that the copy for WebRTC's detector is brought to: it takes a quiet voice for noise."""
VAD_RATES = (8000, 16000, 32000, 48000)
"""Hz that WebRTC's detector knows."""
MERGE_GAP_S = 0.2
"""s. Shorter pauses lie within a word: before the /t/ of eight, before the /s/ of six."""
ANSWER_SPAN_S = 1.2
"""s. Segments within such a span are one word; beyond, the one with the most energy is taken."""
WHOLE_S = 0.7
"""s. Recordings that short are trimmed already and hold no silence to tell their noise from."""
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


def clean(waveform: np.ndarray, sample_rate: int,
          settings: CleaningSettings | None = None) -> Cleaned:
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
    segments = find_speech(highpassed, sample_rate, settings)
    clock.append(time.perf_counter())
    outside = _outside(highpassed, sample_rate, segments)
    floor, snr = _noise_and_snr(highpassed, outside, sample_rate, segments)
    clock.append(time.perf_counter())
    gated = highpassed
    if segments and outside.size >= NOISE_S * sample_rate and _gate_runs(snr, settings):
        gated = spectral_gate(highpassed, sample_rate, outside, settings.gate_strength)
    clock.append(time.perf_counter())
    span = _answer_span(gated, sample_rate, segments) if settings.vad else (
        (0.0, len(waveform) / sample_rate) if waveform.size else None)
    speech = _cut(gated, sample_rate, span) if span else np.zeros(0, np.float32)
    names = ("highpass", "vad", "measure", "gate")
    return Cleaned(
        original=waveform, highpassed=highpassed, gated=gated, speech=speech,
        speech_start_s=span[0] if span else None, speech_end_s=span[1] if span else None,
        segments=segments, snr_db=snr,
        level_dbfs=audio_io.dbfs(audio_io.rms(speech if speech.size else highpassed)),
        peak_dbfs=audio_io.dbfs(float(np.abs(waveform).max(initial=0.0))),
        noise_floor_dbfs=audio_io.dbfs(floor),
        clipped_fraction=clipped(waveform),
        dc_offset=float(waveform.mean(dtype=np.float64)) if waveform.size else 0.0,
        stage_ms={name: 1e3 * (clock[i + 1] - clock[i]) for i, name in enumerate(names)})


def clipped(waveform: np.ndarray) -> float:
    """Share of the samples of float32 (samples,) at full scale."""
    return float(np.mean(np.abs(waveform) >= CLIPPED)) if waveform.size else 0.0


def level_advice(waveform: np.ndarray, level_dbfs: float) -> list[str]:
    """What to do about a recording, as it came from the microphone, that is too loud or quiet."""
    if clipped(waveform) > CLIPPED_FRACTION:
        return ["clipped: turn the microphone's gain down or move back"]
    if level_dbfs < QUIET_DBFS:
        return ["too quiet: move closer or turn the microphone's gain up"]
    return []


def high_pass(waveform: np.ndarray, sample_rate: int, settings: CleaningSettings) -> np.ndarray:
    """Take the mean and what lies below `settings.highpass_hz` out of float32 (samples,).

    Forwards and backwards without delay (phase "zero", twice the slope), or causal ("minimum").
    """
    from scipy import signal

    if waveform.size < 2:
        return waveform
    centred = waveform - waveform.mean(dtype=np.float64)
    if settings.highpass_hz <= 0:
        return centred.astype(np.float32)
    sections = _butterworth(settings.highpass_order, settings.highpass_hz, sample_rate)
    if settings.highpass_phase == "minimum":
        return signal.sosfilt(sections, centred).astype(np.float32)
    # scipy's own padding of 15 samples is too short for 70 Hz and would leave a step at the edges
    padding = min(len(centred) - 1, round(sample_rate / settings.highpass_hz))
    return signal.sosfiltfilt(sections, centred, padlen=padding).astype(np.float32)


@functools.lru_cache(maxsize=16)
def _butterworth(order: int, corner_hz: float, sample_rate: int) -> np.ndarray:
    from scipy import signal

    return signal.butter(order, corner_hz, "highpass", fs=sample_rate, output="sos")


def find_speech(waveform: np.ndarray, sample_rate: int,
                settings: CleaningSettings) -> list[tuple[float, float]]:
    """Start and end in seconds of each stretch of speech in float32 (samples,), in order.

    A stretch is sound that stands out of the noise in some band (energy gate), for at least
    `min_speech_ms` (duration gate), and that WebRTC's detector confirms. Pre-roll and hang-over are
    included. Recordings under 0.7 s with speech in them are one whole stretch.
    """
    seconds = len(waveform) / sample_rate
    if seconds < 2 * FRAME_S or _loudest_dbfs(waveform, sample_rate) < settings.min_level_dbfs:
        return []
    contrast = activity(waveform, sample_rate)
    active = contrast > max(SPEECH_DB, float(contrast.max()) - SPEECH_RANGE_DB)
    voiced = _webrtc_frames(waveform, sample_rate, settings.vad_mode)
    stretches = [(start, end) for start, end in _merge(_runs(active), round(MERGE_GAP_S / FRAME_S))
                 if _is_long(contrast[start:end], settings.min_speech_ms)
                 and voiced[start // 2:(end + 1) // 2].sum() >= VOICED_FRAMES]
    if not stretches or seconds <= WHOLE_S:
        return [(0.0, seconds)] if stretches else []
    edge = HIDDEN_EDGE_S * float(np.interp(contrast.max(), CLEAR_DB, (1.0, 0.0)))
    before, after = edge + settings.pre_roll_ms / 1000, edge + settings.hangover_ms / 1000
    padded = [(start * FRAME_S - before, end * FRAME_S + after) for start, end in stretches]
    return [(max(0.0, start), min(seconds, end)) for start, end in _merge(padded, 0)]


def _is_long(contrast: np.ndarray, min_speech_ms: float) -> bool:
    """Whether the loud part of a stretch, dB (frames,), lasts: a word does, a click does not."""
    core = contrast > max(SPEECH_DB, float(contrast.max()) - CORE_RANGE_DB)
    longest = max((end - start for start, end in _runs(core)), default=0)
    # two frames of grace: a word lost here is lost for good, a click still has to pass the networks
    return longest >= max(1, round(min_speech_ms / 1000 / FRAME_S) - 2)


def activity(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """How far each 10 ms of float32 (samples,) stands out of the recording's own noise.

    Returns
    -------
    float (frames,) : dB. Power over the noise floor of its band, averaged over the bands: by band
        so that neither rumble nor hum hides a voice, nor a vowel's power a fricative.
    """
    hop, size = round(FRAME_S * sample_rate), round(WINDOW_S * sample_rate)
    n_frames = max(1, -(-len(waveform) // hop))
    room = (n_frames - 1) * hop + size
    padded = np.zeros(room, np.float32)  # frame i is centred on its own 10 ms
    before = (size - hop) // 2
    padded[before:before + len(waveform)] = waveform[:room - before]
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    window, bands = _window_and_bands(sample_rate, size)
    power = np.square(np.abs(np.fft.rfft(frames * window, axis=1))) @ bands
    if n_frames >= 3:  # three frames together: half the scatter of noise
        edges = np.concatenate((power[:1], power, power[-1:]))
        power = (edges[:-2] + edges[1:-1] + edges[2:]) / 3
    floor = np.percentile(power, FLOOR_PERCENTILE, axis=0)
    floor = np.maximum(floor, power.max() * 10 ** (-FLOOR_RANGE_DB / 10) + 1e-20)
    return 10 * np.log10(np.mean(power / floor, axis=1) + 1e-12)


@functools.lru_cache(maxsize=16)
def _window_and_bands(sample_rate: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Hann window (size,) and the matrix (bins, bands) that averages a spectrum's bins by band."""
    frequencies = np.fft.rfftfreq(size, 1 / sample_rate)
    edges = [edge for edge in BAND_EDGES_HZ if edge <= sample_rate / 2]
    inside = np.stack([(frequencies >= low) & (frequencies < high)
                       for low, high in zip(edges[:-1], edges[1:], strict=True)], axis=1)
    return np.hanning(size).astype(np.float32), (inside / inside.sum(axis=0)).astype(np.float32)


def _webrtc_frames(waveform: np.ndarray, sample_rate: int, mode: int) -> np.ndarray:
    """WebRTC's verdict, bool (frames,), on each 20 ms, on a copy brought to a fixed level."""
    import webrtcvad

    rate = sample_rate if sample_rate in VAD_RATES else 16000
    gain = 10 ** ((VAD_LEVEL_DBFS - _loudest_dbfs(waveform, sample_rate)) / 20)
    copy = np.clip(audio_io.resample(waveform, sample_rate, rate) * gain, -1, 1)
    size = rate // 50
    n_frames = -(-len(copy) // size)
    copy = np.pad(copy, (0, n_frames * size - len(copy)))
    pcm = (copy * 32767).astype("<i2").tobytes()
    detector = webrtcvad.Vad(mode)  # adapts to what it hears: a fresh one for each recording
    return np.array([detector.is_speech(pcm[2 * i * size:2 * (i + 1) * size], rate)
                     for i in range(n_frames)], dtype=bool)


def _loudest_dbfs(waveform: np.ndarray, sample_rate: int) -> float:
    """RMS level of the loudest tenth of the 20 ms frames."""
    power = _frame_power(waveform, sample_rate)
    return audio_io.dbfs(float(np.sqrt(np.sort(power)[-max(1, len(power) // 10):].mean())))


def _frame_power(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Mean power of each whole 20 ms of float32 (samples,): float64 (frames,), at least one."""
    size = min(len(waveform), round(2 * FRAME_S * sample_rate))
    whole = waveform[:len(waveform) // size * size].reshape(-1, size)
    return np.mean(np.square(whole, dtype=np.float64), axis=1)


def _runs(active: np.ndarray) -> list[tuple[int, int]]:
    """First and past-the-last index of each run of True in bool (frames,)."""
    steps = np.flatnonzero(np.diff(np.concatenate(([False], active, [False])).astype(np.int8)))
    return [(int(start), int(end)) for start, end in steps.reshape(-1, 2)]


def _merge(spans: list[tuple], gap: float) -> list[tuple]:
    """Join neighbouring (start, end) that lie at most `gap` apart."""
    joined: list[tuple] = []
    for start, end in spans:
        if joined and start - joined[-1][1] <= gap:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _cut(waveform: np.ndarray, sample_rate: int, span: tuple[float, float]) -> np.ndarray:
    return waveform[round(span[0] * sample_rate):round(span[1] * sample_rate)]


def _outside(waveform: np.ndarray, sample_rate: int,
             segments: list[tuple[float, float]]) -> np.ndarray:
    """What lies outside the segments, joined: float32 (samples,)."""
    keep = np.ones(len(waveform), bool)
    for start, end in segments:
        keep[round(start * sample_rate):round(end * sample_rate)] = False
    return waveform[keep]


def _noise_and_snr(waveform: np.ndarray, outside: np.ndarray, sample_rate: int,
                   segments: list[tuple[float, float]]) -> tuple[float, float]:
    """RMS amplitude of the noise; dB of the segments' power less the noise, over the noise."""
    if waveform.size == 0:
        return 0.0, 0.0
    if outside.size >= NOISE_S * sample_rate:
        noise = audio_io.rms(outside) ** 2
    else:
        noise = float(np.percentile(_frame_power(waveform, sample_rate), 10))
    if not segments:
        return float(np.sqrt(noise)), 0.0
    speech = np.concatenate([_cut(waveform, sample_rate, span) for span in segments])
    signal = max(audio_io.rms(speech) ** 2 - noise, 1e-12)
    return float(np.sqrt(noise)), float(np.clip(10 * np.log10(signal / max(noise, 1e-12)), -10, 80))


def _gate_runs(snr_db: float, settings: CleaningSettings) -> bool:
    return settings.gate == "on" or (settings.gate == "auto" and snr_db < settings.gate_snr_db)


def spectral_gate(waveform: np.ndarray, sample_rate: int, noise: np.ndarray,
                  strength: float) -> np.ndarray:
    """Turn down, by `strength`, the parts of the spectrogram that don't stand out of `noise`.

    Parameters
    ----------
    waveform, noise : float32 (samples,); `noise` is sound without speech from the same recording
    strength : 0 to 1, share of the noise that is taken away

    Returns
    -------
    float32 (samples,) : from noisereduce's stationary gate (Sainburg et al., 2020), 32 ms frames
    """
    import noisereduce

    size = 2 ** round(np.log2(WINDOW_S * sample_rate))
    gated = noisereduce.reduce_noise(y=waveform, sr=sample_rate, y_noise=noise, stationary=True,
                                     prop_decrease=strength, n_fft=size)
    return np.asarray(gated, dtype=np.float32)


def _answer_span(waveform: np.ndarray, sample_rate: int,
                 segments: list[tuple[float, float]]) -> tuple[float, float] | None:
    """The one span to recognise: all segments where they are one word's, else the strongest."""
    if not segments:
        return None
    if segments[-1][1] - segments[0][0] <= ANSWER_SPAN_S:
        return segments[0][0], segments[-1][1]
    return max(segments, key=lambda span: float(np.square(_cut(waveform, sample_rate, span)).sum()))
