"""Settings check themselves, and the command line refuses what it does not know in one line."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import config

ROOT = Path(__file__).parent.parent
GROUPS = [
    group
    for group in vars(config).values()
    if dataclasses.is_dataclass(group) and group.__name__.endswith("Settings")
]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_every_default_is_possible_and_every_field_is_explained(group):
    group()
    source = Path(config.__file__).read_text(encoding="utf-8").splitlines()
    for item in dataclasses.fields(group):
        lines = [n for n, line in enumerate(source) if line.startswith(f"    {item.name}: ")]
        assert any(
            line.strip().startswith('"""') for n in lines for line in source[n + 1 : n + 2]
        ), item.name


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: config.TrainingSettings(batch_size=0), "training.batch-size is 0"),
        (lambda: config.TrainingSettings(learning_rate=-1.0), "training.learning-rate"),
        (lambda: config.AudioSettings(sample_rate=11025), "audio.sample-rate is 11025"),
        (lambda: config.AudioSettings(clip_seconds=0), "audio.clip-seconds"),
        (lambda: config.FeaturesSettings(hop_length=0), "features.hop-length"),
        (lambda: config.FeaturesSettings(f_min=4000), "features.f-min"),
        (lambda: config.FeaturesSettings(n_mfcc=60), "features.n-mfcc"),
        (lambda: config.AugmentationSettings(noise=1.5), "augmentation.noise is 1.5"),
        (lambda: config.AugmentationSettings(snr_db=(10, 0)), "augmentation.snr-db"),
        (lambda: config.CleaningSettings(vad_mode=7), "cleaning.vad-mode"),
        (lambda: config.DecisionSettings(threshold=2), "decision.threshold is 2"),
        (lambda: config.DataSettings(corpora=" "), "data.corpora"),
        (lambda: config.LiveSettings(record_seconds=0), "live.record-seconds"),
    ],
)
def test_impossible_values_are_named_as_they_are_typed(make, word):
    with pytest.raises(config.UserError, match=word.replace(".", r"\.")):
        make()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--nosuch", "3"], "error: Unrecognized options: --nosuch, 3 (see --help)"),
        (["--training.epochs", "many"], "training.epochs"),
        (["--training.batch-size", "0"], "training.batch-size is 0"),
        (["--features.kind", "wavelet"], "wavelet"),
        (["--models", "nosuch"], "no model named 'nosuch'"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_exit_code_2(words, expected):
    done = subprocess.run(
        [sys.executable, "train.py", *words], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert expected in done.stderr


def test_help_names_every_group():
    done = subprocess.run(
        [sys.executable, "train.py", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0
    for option in ("--training.epochs", "--features.n-mels", "--augmentation.vtlp", "--seed"):
        assert option in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="Windows has no broken pipes")
@pytest.mark.parametrize("words", [["--help"], ["hum.wav"]])
def test_a_reader_that_leaves_ends_the_script_without_a_word(words, tmp_path):
    soundfile.write(tmp_path / "hum.wav", np.sin(np.arange(8000) / 9), 8000)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, str(ROOT / "audio_recorder_analyzer.py"), *words],
        cwd=tmp_path,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
