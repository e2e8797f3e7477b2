"""Settings check themselves, and the command line refuses what it does not know in one line."""

import dataclasses
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from waiting import PATIENCE

import config
import utils
from training.settings import TrainSettings

ROOT = Path(__file__).parent.parent
GROUPS = [
    group
    for group in vars(config).values()
    if isinstance(group, type) and group.__name__.endswith("Settings")
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
        (lambda: config.FeaturesSettings(f_min=8000), "features.f-min"),
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
        (["--nosuch", "3"], "--nosuch: no such option (see --help)"),
        (["--sed", "3"], "--sed: no such option; did you mean --seed?"),
        (["stray"], "stray: no such option"),
        (["--training.epochs", "many"], "--training.epochs takes INT"),
        (["--training.epochs"], "--training.epochs takes INT"),
        (["--augmentation.snr-db", "3"], "--augmentation.snr-db takes FLOAT FLOAT"),
        (["--training.batch-size", "0"], "training.batch-size is 0"),
        (["--features.kind", "wavelet"], "'wavelet': it takes {log_mel,mfcc,spectrogram,encoder}"),
        (["--models", "nosuch"], "no model named 'nosuch'"),
    ],
)
def test_a_mistake_on_the_command_line_is_named_in_one_line(words, expected):
    with pytest.raises(config.UserError) as mistake:
        utils.parse_arguments(TrainSettings, "", words)
    assert expected in str(mistake.value) and "\n" not in str(mistake.value)


def test_a_mistake_ends_a_script_with_one_line_and_exit_code_2():
    done = subprocess.run(
        [sys.executable, "batch_inference.py", "--output", "x.csv", "--workers", "many"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert done.stderr == "error: --workers takes INT (see --help)\n"


MAIN = re.compile(r"utils\.main\(run, (\w+), __doc__\)")
SCRIPTS = [path.stem for path in ROOT.glob("*.py") if MAIN.search(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_is_short_and_help_all_names_every_setting(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    script = importlib.import_module(name)
    settings = getattr(script, MAIN.search((ROOT / f"{name}.py").read_text(encoding="utf-8"))[1])
    short, everything = (utils.help_text(settings, script.__doc__, more) for more in (False, True))
    assert f"python {name}.py" in short, "an example"
    for text in (short, everything):
        named = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
        assert len(named) == len(set(named)), "each option once"
        assert "{None}" not in text and "(default: )" not in text and "None)" not in text
    assert short.count("\n") <= 70 and short.count(".* ") == everything.count(".*:")


def test_the_short_help_is_printed_where_the_console_knows_only_ascii():
    done = subprocess.run(
        [sys.executable, str(ROOT / "batch_inference.py"), "--output", "x.csv", "--help"],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: batch_inference.py PATHS ... --output PATH [options]\n")


def test_help_all_of_training_names_every_field_of_its_groups():
    text = utils.help_text(TrainSettings, "", everything=True)
    for group in ("Training", "Features", "Augmentation", "Data"):
        settings = getattr(config, f"{group}Settings")
        for item in dataclasses.fields(settings):
            name = item.name.replace("_", "-")
            assert f"--{group.lower()}.{name}" in text or f"--{group.lower()}.[no-]{name}" in text


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
        timeout=PATIENCE,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
