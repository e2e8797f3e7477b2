"""Hands-free listening: where an utterance begins and ends in a stream of sound.

A frame of 20 ms counts as speech where WebRTC's voice activity detector says so and its level
stands out of the background, which is followed as it changes. Pure computing: fed with blocks of
any length, from a microphone or from a test.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

import config

FRAME_MS = 20
"""ms in a frame; WebRTC's detector takes 10, 20 or 30."""
VAD_MODE = 1
"""Aggressiveness of the detector, 0 to 3: less keeps more noise, more loses quiet endings."""
BACKGROUND_FRAMES = 150
"""Frames over which the background is estimated, 3 s: longer than any digit, and follows a fan."""
BACKGROUND_PERCENTILE = 15.0
"""Share of those frames, in percent, that is taken for background even while somebody speaks."""
CALIBRATION_FRAMES = 15
"""Frames heard before any may be speech, 0.3 s: until then nothing is known of the background."""
ONSET_DB = 7.0
"""dB above the background at which an utterance may begin."""
SUSTAIN_DB = 4.0
"""dB above the background at which it goes on; less than at the onset, or it would flutter."""
SILENCE_DBFS = -66.0
"""dBFS below which nothing is speech; also the lowest background."""
ONSET_WINDOW = 6
"""Frames in which speech must gather to begin an utterance."""
ONSET_FRAMES = 3
"""Speech frames among them that begin it: 60 ms; a click has one or two."""
MIN_SPEECH_FRAMES = 4
"""Speech frames of the shortest utterance, 80 ms; shorter ones are dropped."""
SPEECH_PAD_MS = 200
"""ms kept before the first speech frame: the s of six and the f of four begin quietly."""
LOW_PASS_SPAN = 8
"""Half length of the resampler's low-pass, in samples of the new rate: 1 ms at 8 kHz."""
PRE_EMPHASIS = 0.9
"""First-order high-pass on the levels: rumble and hum must not raise the background."""


@dataclass(frozen=True)
class Utterance:
    """One stretch of speech, cut generously.

    `waveform`, float32 (samples,), holds the pre-roll and the hang-over too. `start` and `end`, in
    samples since the stream began, are those of the waveform; `speech_end` is where the last speech
    frame ended. `complete` is False where the maximum length, or the end of the stream, cut it.
    """

    waveform: np.ndarray
    start: int
    end: int
    speech_end: int
    complete: bool


class LowDelayResampler:
    """Brings a stream to another rate within about 1 ms, well enough to tell speech from noise.

    soxr's better qualities hand a stream out up to 80 ms late, and the speaker would wait for it;
    its quickest does not, but needs a low-pass before it, which is here.

    Parameters
    ----------
    from_rate, to_rate : Hz
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        import soxr

        self._stream = None
        if from_rate != to_rate:
            self._stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="QQ")
        half = max(1, round(LOW_PASS_SPAN * from_rate / to_rate))
        corner = 0.8 * min(1.0, to_rate / from_rate)  # of the Nyquist frequency
        taps = np.sinc(corner * np.arange(-half, half + 1)) * np.hamming(2 * half + 1)
        self._taps = (taps / taps.sum()).astype(np.float32)
        self._tail = np.zeros(2 * half, np.float32)

    def feed(self, block: np.ndarray) -> np.ndarray:
        """The next float32 (samples,) of the stream, at the new rate."""
        if self._stream is None:
            return block
        sound = np.concatenate([self._tail, block])
        self._tail = sound[len(block) :]
        return self._stream.resample_chunk(np.convolve(sound, self._taps, "valid"))


class Endpointer:
    """Cuts a stream into utterances.

    Parameters
    ----------
    sample_rate : Hz; 8000, 16000, 32000 or 48000, which WebRTC's detector takes
    settings : `endpoint_ms` of quiet end an utterance, `max_utterance_seconds` end it anyway

    Attributes
    ----------
    speaking : whether an utterance is under way
    background_dbfs : estimated level of the background
    """

    def __init__(self, sample_rate: int, settings: config.LiveSettings | None = None) -> None:
        import webrtcvad

        settings = settings or config.LiveSettings()
        self.sample_rate = sample_rate
        self.frame = sample_rate * FRAME_MS // 1000
        self.trailing_silence = max(1, round(settings.endpoint_ms / FRAME_MS))
        self.longest = round(1000 * settings.max_utterance_seconds / FRAME_MS)
        self.background_dbfs = SILENCE_DBFS
        self.speaking = False
        self._vad = webrtcvad.Vad(VAD_MODE)
        self._rest = np.zeros(0, np.float32)
        self._position = 0  # samples of whole frames heard so far
        self._levels: deque[float] = deque(maxlen=BACKGROUND_FRAMES)
        self._recent: deque[bool] = deque(maxlen=ONSET_WINDOW)
        self._before: deque[np.ndarray] = deque(maxlen=ONSET_WINDOW + SPEECH_PAD_MS // FRAME_MS)
        self._frames: list[np.ndarray] = []
        self._loudness: list[float] = []  # levels of the utterance's frames from its onset on
        self._speech_frames = 0
        self._quiet_frames = 0

    @property
    def calibrated(self) -> bool:
        """Whether enough of the background has been heard for speech to be noticed."""
        return len(self._levels) >= CALIBRATION_FRAMES

    def feed(self, block: np.ndarray) -> list[Utterance]:
        """Take float32 (samples,) of the stream, any number; return the utterances that ended."""
        sound = np.concatenate([self._rest, block]) if self._rest.size else block
        whole = len(sound) // self.frame * self.frame
        self._rest = sound[whole:].copy()
        ended = (self._hear(frame) for frame in sound[:whole].reshape(-1, self.frame))
        return [utterance for utterance in ended if utterance is not None]

    def flush(self) -> Utterance | None:
        """End the utterance that is under way, if there is one, because the stream has ended."""
        return self._close(complete=False) if self.speaking else None

    def _hear(self, frame: np.ndarray) -> Utterance | None:
        level = self._level(frame)
        speech = self._is_speech(frame, level)
        self._position += self.frame
        self._follow_background(level)
        if not self.speaking:
            self._wait(frame, speech)
            return None
        self._frames.append(frame)
        self._loudness.append(level)
        self._speech_frames += speech
        self._quiet_frames = 0 if speech else self._quiet_frames + 1
        if self._quiet_frames >= self.trailing_silence:
            return self._close(complete=True)
        return self._close(complete=False) if len(self._frames) >= self.longest else None

    def _level(self, frame: np.ndarray) -> float:
        bright = frame[1:] - PRE_EMPHASIS * frame[:-1]
        return 10 * float(np.log10(np.dot(bright, bright) / len(bright) + 1e-12))

    def _is_speech(self, frame: np.ndarray, level: float) -> bool:
        # the detector hears every frame: it follows the noise itself
        voice = self._vad.is_speech((frame * 32767).astype("<i2").tobytes(), self.sample_rate)
        margin = SUSTAIN_DB if self.speaking else ONSET_DB
        loud = level > SILENCE_DBFS and level > self.background_dbfs + margin
        return voice and loud and self.calibrated

    def _follow_background(self, level: float) -> None:
        self._levels.append(max(level, SILENCE_DBFS))
        if not self.speaking or self._position % (5 * self.frame) == 0:
            ranked = np.partition(self._levels, self._rank())
            self.background_dbfs = float(ranked[self._rank()])

    def _rank(self) -> int:
        return int(len(self._levels) * BACKGROUND_PERCENTILE / 100)

    def _wait(self, frame: np.ndarray, speech: bool) -> None:
        self._before.append(frame)
        self._recent.append(speech)
        if sum(self._recent) < ONSET_FRAMES:
            return
        self.speaking = True
        self._frames = list(self._before)
        self._loudness = list(self._levels)[-ONSET_WINDOW:]
        self._speech_frames, self._quiet_frames = sum(self._recent), 0

    def _stands_out(self) -> bool:
        """Whether the utterance rises above what follows it, or above its own quiet parts.

        A fan that starts does not, though it is louder than the background so far.
        """
        if self._quiet_frames >= self.trailing_silence:
            floor = float(np.median(self._loudness[-self._quiet_frames :]))
        else:
            floor = float(np.percentile(self._loudness, BACKGROUND_PERCENTILE))
        return sum(level > floor + SUSTAIN_DB for level in self._loudness) >= ONSET_FRAMES

    def _close(self, complete: bool) -> Utterance | None:
        waveform = np.concatenate(self._frames)
        speech_end = self._position - self._quiet_frames * self.frame
        enough = self._speech_frames >= MIN_SPEECH_FRAMES and self._stands_out()
        # the next utterance's pre-roll must not reach back into this one's speech
        quiet = self._frames[len(self._frames) - self._quiet_frames :]
        self._frames, self.speaking = [], False
        self._before.clear()
        self._before.extend(quiet)
        self._recent.clear()
        self._loudness = []
        if not enough:
            return None
        return Utterance(
            waveform, self._position - len(waveform), self._position, speech_end, complete
        )
