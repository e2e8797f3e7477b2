"""The analyser on a real sound system: what is played into the microphone is found and saved."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from virtual_microphone import (  # noqa: F401  pytest finds the fixture by its name
    ROOT,
    VirtualMicrophone,
    speaker_fixture,
)
from waiting import PATIENCE

import audio_io
from synthesis import espeak


def test_a_word_is_recorded_measured_and_saved(speaker: VirtualMicrophone, tmp_path):
    waveform, rate = espeak.Espeak().speak("seven"), espeak.SAMPLE_RATE
    word = (waveform * (0.3 / np.abs(waveform).max())).astype(np.float32)
    analyser = subprocess.Popen(
        [
            sys.executable,
            "audio_recorder_analyzer.py",
            "--seconds",
            "3",
            "--json",
            "--recordings-dir",
            str(tmp_path),
        ],
        cwd=ROOT,
        env=speaker.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while analyser.poll() is None:  # wherever the recording begins, a whole word lies within it
        speaker.play(word, rate)
        time.sleep(0.8)
    printed, told = analyser.communicate(timeout=PATIENCE)
    assert analyser.returncode == 0, told
    report = json.loads(printed.splitlines()[-1])
    assert report["duration_s"] == pytest.approx(3, abs=0.3)
    assert report["segments"] and report["snr_db"] > 20
    assert report["peak_dbfs"] == pytest.approx(20 * np.log10(0.3), abs=2)
    assert report["clipped_fraction"] == 0 and report["advice"]
    saved = sorted(path.suffix for path in tmp_path.iterdir())
    assert saved == [".png", ".wav", ".wav"]
    recorded, _ = audio_io.read_audio(next(tmp_path.glob("*.wav")))
    assert audio_io.rms(recorded) > 1e-3
