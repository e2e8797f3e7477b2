"""The strings that the network learns from, and its training from end to end."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import beep, wav_bytes

import config
from corpora import spoken_strings
from corpora.clips import Clips
from recognition.checkpoint import load_checkpoint
from training import ctc, string_loader
from training.settings import TrainSettings
from training.string_material import Material, Planner, sound_bounds, tokens_of

RATE = 16000
QUIET = round(0.2 * RATE)


def clip(label, speaker=0):
    """A beep with quiet around it."""
    return np.pad(beep(label % 10, speaker, 0), QUIET).astype(np.float32)


def clips(labels, speakers, corpus="a", names=None):
    names = names or [f"{label}_{who}_0" for label, who in zip(labels, speakers, strict=True)]
    waveforms = [clip(label) for label in labels]
    return Clips.from_waveforms(waveforms, labels, speakers, names, [0] * len(names), corpus, RATE)


@pytest.fixture(scope="module")
def material():
    labels = [*range(10), config.REJECT, *range(5), config.REJECT, 0, 1]
    speakers = ["ann"] * 11 + ["bob"] * 6 + ["eve"] * 2
    real = clips([0, 0], ["ann", "bob"], "an4_strings", ["12o_ann_0", "77_bob_1"])
    spoken = clips([0], ["made-up"], "spoken_strings", ["405_made-up"])
    return Material(clips(labels, speakers), real, spoken)


def test_what_a_name_says():
    assert tokens_of("1o42_an4xyz_0") == (1, config.OH, 4, 2)


def test_quiet_ends_are_cut_off():
    start, end = sound_bounds(clip(3), RATE)
    assert QUIET - 0.05 * RATE < start <= QUIET
    assert end < len(clip(3)) - QUIET + 0.05 * RATE


def test_lines_of_every_kind_say_what_their_takes_say(material):
    settings = config.StringMaterialSettings(3, 40, 20, 5, 10, 2, 3)
    lines = Planner(material, 16, 0).lines(settings)
    counts = {
        kind: sum(line.kind == kind for line in lines)
        for kind in ("real", "joined", "alone", "spoken", "other", "noise", "babble")
    }
    assert counts == dict(real=6, joined=40, alone=20, spoken=5, other=10, noise=2, babble=3)
    assert {line.tokens for line in lines if line.kind == "real"} == {(1, 2, config.OH), (7, 7)}
    assert all(len(line.tokens) == 1 for line in lines if line.kind == "alone")
    assert all(set(line.tokens) == {config.REJECT} for line in lines if line.kind == "other")
    longest = max(sum(token != config.REJECT for token in line.tokens) for line in lines)
    assert 6 < longest <= 16
    for line in lines:
        assert np.isfinite(material.waveform(line)).all()
        if line.kind == "babble":
            assert line.tokens == () and len(line.takes) >= 4
            continue
        whole = [
            take
            for take in line.takes
            if take.start >= 0 and take.start + material.length(take.clip) <= line.samples
        ]
        said = tuple(token for take in whole for token in material.tokens[take.clip])
        assert said == line.tokens  # a piece of a word that is cut off counts as nothing


def test_joined_takes_are_of_one_speaker_who_said_enough(material):
    lines = Planner(material, 16, 0).lines(config.StringMaterialSettings(0, 60, 0, 0, 0, 0, 0))
    speakers = [{str(material.clips.speakers[take.clip]) for take in line.takes} for line in lines]
    assert all(len(one) == 1 for one in speakers)
    assert {who for one in speakers for who in one} == {"ann", "bob"}  # eve said two digits
    assert any(config.REJECT in line.tokens for line in lines)


def test_the_same_seed_plans_the_same_lines(material):
    settings = config.StringMaterialSettings(1, 5, 5, 1, 5, 1, 1)
    one, same, other = (Planner(material, 8, seed).lines(settings) for seed in (0, 0, 1))
    assert one == same != other


def test_the_loss_wants_repeats_parted_by_blanks():
    logits = torch.full((1, 4, config.N_FRAME_CLASSES), -20.0)
    for frame, label in enumerate([2, config.BLANK, 2, config.BLANK]):
        logits[0, frame, label] = 20.0
    said_twice, said_once = torch.tensor([[2, 2]]), torch.tensor([[2, string_loader.PAD]])
    assert ctc.ctc_loss(logits, said_twice) < 0.01 < ctc.ctc_loss(logits, said_once)
    assert ctc.heard(logits) == [[2, 2]]
    nothing = torch.tensor([[string_loader.PAD, string_loader.PAD]])
    assert torch.isfinite(ctc.ctc_loss(logits, nothing))


def test_the_temperature_is_that_of_the_least_loss(monkeypatch):
    logits = torch.full((1, 2, config.N_FRAME_CLASSES), 0.0)
    logits[0, :, 3] = 8.0  # sure of three, and right half of the time
    lines = [(logits, torch.tensor([[3]])), (logits, torch.tensor([[4]]))]
    trainer = SimpleNamespace(loader=SimpleNamespace(validation=lambda: lines))
    monkeypatch.setattr(ctc, "best_network", lambda trainer: torch.nn.Identity())
    assert ctc.fitted_temperature(trainer) > 2


def test_augmentation_leaves_what_is_said_as_it_is():
    settings = string_loader.for_strings(config.AugmentationSettings())
    for part in ("spliced_reversed", "non_speech", "shift", "tempo", "speed"):
        assert getattr(settings, part) == 0
    assert settings.snr_db[0] >= 0 and settings.room > 0 and settings.band_limit > 0


def test_synthesised_strings_are_named_by_what_they_say():
    spoken = spoken_strings.speak_strings(6, 10, 0, RATE)
    assert len(spoken) == 6 and spoken.durations.min() > 0.2
    for name in spoken.names:
        string = name.split("_")[0]
        assert 2 <= len(string) <= 10 and set(string) <= set("0123456789o")
    again = spoken_strings.speak_strings(6, 10, 0, RATE)
    assert np.array_equal(np.asarray(spoken.samples), np.asarray(again.samples))


def small_corpus(folder):
    """Beeps of eight speakers, who say each digit."""
    for speaker in range(8):
        for digit in range(10):
            path = folder / f"{digit}_speaker{speaker}_0.wav"
            path.write_bytes(wav_bytes(clip(digit, speaker), RATE))
    return folder


def test_training_from_end_to_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        string_loader, "VALIDATION", config.StringMaterialSettings(1, 8, 8, 0, 0, 1, 1)
    )
    monkeypatch.setattr(ctc, "SYNTHETIC", config.SyntheticSettings.only())
    (tmp_path / "beeps").mkdir()
    train_settings = TrainSettings(
        data=config.DataSettings(
            corpora=str(small_corpus(tmp_path / "beeps")), root=tmp_path, more_strings_dir=None
        ),
        features=config.FeaturesSettings(n_mels=40),
        digit_ctc_features="log_mel",
        model=config.ModelSettings(digit_ctc_width=8),
        strings=config.StringMaterialSettings(1, 24, 16, 4, 4, 2, 2, 4),
        training=config.TrainingSettings(epochs=2),
        models=("digit_ctc",),
        save_dir=tmp_path / "saved",
        runs_dir=tmp_path / "runs",
        onnx=False,
    )
    summary = ctc.train_strings(train_settings)
    checkpoint = load_checkpoint(tmp_path / "saved" / "strings.pt", strings=True)
    assert summary["file"] == str(tmp_path / "saved" / "strings.pt")
    assert checkpoint.record["validation"]["by_kind"]["joined"]["lines"] == 8
    stored = checkpoint.record["settings"]
    assert not {"root", "more_strings_dir"} & set(stored["data"]) and "save_dir" not in stored
    assert len(list((tmp_path / "cache" / "strings").glob("*.npy"))) == 3
    # the same again: the features are found, and a network that is no better stays apart
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "strings").iterdir()}
    shorter = dataclasses.replace(train_settings.training, epochs=1)
    again = ctc.train_strings(dataclasses.replace(train_settings, training=shorter))
    assert made == {path: path.stat().st_mtime_ns for path in made}
    assert "lines are right" in again["kept_apart"] or again["file"] == summary["file"]
    assert "joined" in capsys.readouterr().out
