"""Where somebody speaks in a recording: energy by band, duration, and WebRTC's detector agree.

Quiet fricatives count (six ends in one), clicks, hum and steady noise don't.
"""

from __future__ import annotations

import functools

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
FLOOR_SPAN_S, FLOOR_STEP_S = 3.0, 0.5
"""s over which the noise is taken, and s after which it is taken anew, in longer recordings."""
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
WHOLE_S = 0.7
"""s. Recordings that short are trimmed already and hold no silence to tell their noise from."""


def find_speech(
    waveform: np.ndarray,
    sample_rate: int,
    settings: CleaningSettings,
    contrast: np.ndarray | None = None,
) -> list[tuple[float, float]]:
    """Start and end in seconds of each stretch of speech in float32 (samples,), in order.

    A stretch is sound that stands out of the noise in some band (energy gate), for at least
    `min_speech_ms` (duration gate), and that WebRTC's detector confirms. Pre-roll and hang-over are
    included. Recordings under 0.7 s with speech in them are one whole stretch. `contrast` is what
    :func:`activity` gives, where it is known already.
    """
    seconds = len(waveform) / sample_rate
    if seconds < 2 * FRAME_S or _loudest_dbfs(waveform, sample_rate) < settings.min_level_dbfs:
        return []
    contrast = activity(waveform, sample_rate) if contrast is None else contrast
    active = contrast > speech_threshold(contrast)
    voiced = _webrtc_frames(waveform, sample_rate, settings.vad_mode)
    stretches = [
        (start, end)
        for start, end in merge(runs(active), round(MERGE_GAP_S / FRAME_S))
        if _is_long(contrast[start:end], settings.min_speech_ms)
        and voiced[start // 2 : (end + 1) // 2].sum() >= VOICED_FRAMES
    ]
    if not stretches or seconds <= WHOLE_S:
        return [(0.0, seconds)] if stretches else []
    edge = HIDDEN_EDGE_S * float(np.interp(contrast.max(), CLEAR_DB, (1.0, 0.0)))
    before, after = (
        edge + settings.speech_pad_before_ms / 1000,
        edge + settings.speech_pad_after_ms / 1000,
    )
    padded = [(start * FRAME_S - before, end * FRAME_S + after) for start, end in stretches]
    return [(max(0.0, start), min(seconds, end)) for start, end in merge(padded, 0)]


def speech_threshold(contrast: np.ndarray) -> float:
    """DB that a frame of :func:`activity` must exceed to count as speech."""
    return max(SPEECH_DB, float(contrast.max()) - SPEECH_RANGE_DB)


def _is_long(contrast: np.ndarray, min_speech_ms: float) -> bool:
    """Whether the loud part of a stretch, dB (frames,), lasts: a word does, a click does not."""
    core = contrast > max(SPEECH_DB, float(contrast.max()) - CORE_RANGE_DB)
    longest = max((end - start for start, end in runs(core)), default=0)
    # two frames of grace: a word lost here is lost for good, a click still has to pass the networks
    return longest >= max(1, round(min_speech_ms / 1000 / FRAME_S) - 2)


def activity(waveform: np.ndarray, sample_rate: int, follow: bool = False) -> np.ndarray:
    """How far each 10 ms of float32 (samples,) stands out of the noise.

    `follow` takes the noise from :data:`FLOOR_SPAN_S` around each moment instead of from the whole
    recording: a word after ten seconds of street noise stands out of the silence that it is in.

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
    padded[before : before + len(waveform)] = waveform[: room - before]
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    window, bands = _window_and_bands(sample_rate, size)
    power = np.square(np.abs(np.fft.rfft(frames * window, axis=1))) @ bands
    if n_frames >= 3:  # three frames together: half the scatter of noise
        edges = np.concatenate((power[:1], power, power[-1:]))
        power = (edges[:-2] + edges[1:-1] + edges[2:]) / 3
    floor = _moving_floor(power) if follow else np.percentile(power, FLOOR_PERCENTILE, axis=0)
    floor = np.maximum(floor, power.max() * 10 ** (-FLOOR_RANGE_DB / 10) + 1e-20)
    return 10 * np.log10(np.mean(power / floor, axis=1) + 1e-12)


def _moving_floor(power: np.ndarray) -> np.ndarray:
    """Noise of each band around each moment, of power (frames, bands); of the same shape."""
    span, step = round(FLOOR_SPAN_S / FRAME_S), round(FLOOR_STEP_S / FRAME_S)
    span = min(span, len(power))
    middles = np.arange(step // 2, len(power) + step // 2, step)
    starts = np.clip(middles - span // 2, 0, len(power) - span)
    floors = [np.percentile(power[i : i + span], FLOOR_PERCENTILE, axis=0) for i in starts]
    return np.repeat(np.stack(floors), step, axis=0)[: len(power)]


@functools.lru_cache(maxsize=16)
def _window_and_bands(sample_rate: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Hann window (size,) and the matrix (bins, bands) that averages a spectrum's bins by band."""
    frequencies = np.fft.rfftfreq(size, 1 / sample_rate)
    edges = [edge for edge in BAND_EDGES_HZ if edge <= sample_rate / 2]
    inside = np.stack(
        [
            (frequencies >= low) & (frequencies < high)
            for low, high in zip(edges[:-1], edges[1:], strict=True)
        ],
        axis=1,
    )
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
    return np.array(
        [detector.is_speech(pcm[2 * i * size : 2 * (i + 1) * size], rate) for i in range(n_frames)],
        dtype=bool,
    )


def _loudest_dbfs(waveform: np.ndarray, sample_rate: int) -> float:
    """RMS level of the loudest tenth of the 20 ms frames."""
    power = frame_power(waveform, sample_rate)
    return audio_io.dbfs(float(np.sqrt(np.sort(power)[-max(1, len(power) // 10) :].mean())))


def frame_power(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Mean power of each whole 20 ms of float32 (samples,): float64 (frames,), at least one."""
    size = min(len(waveform), round(2 * FRAME_S * sample_rate))
    whole = waveform[: len(waveform) // size * size].reshape(-1, size)
    return np.mean(np.square(whole, dtype=np.float64), axis=1)


def runs(active: np.ndarray) -> list[tuple[int, int]]:
    """First and past-the-last index of each run of True in bool (frames,)."""
    steps = np.flatnonzero(np.diff(np.concatenate(([False], active, [False])).astype(np.int8)))
    return [(int(start), int(end)) for start, end in steps.reshape(-1, 2)]


def merge(spans: list[tuple], gap: float) -> list[tuple]:
    """Join neighbouring (start, end) that lie at most `gap` apart."""
    joined: list[tuple] = []
    for start, end in spans:
        if joined and start - joined[-1][1] <= gap:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
