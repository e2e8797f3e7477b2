"""The protocols on corpora with splits of their own, in small folders of the real layout."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import beep, spread, wav_bytes
from test_audiomnist import members
from untrained import read_result, save_networks, settings_maker, write_beeps

import audio_io
import config
import evaluation
from protocols import corpora_splits, rejection, speakers, speech_commands
from recognition.predictor import Predictor

AUDIO = config.AudioSettings(sample_rate=8000)


@pytest.fixture
def make_settings(tmp_path, small_release, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUDIOMNIST_DIR", raising=False)
    make = settings_maker(tmp_path, small_release)

    def quick(**changes):
        values = {
            "models": ("cnn",),
            "model": config.ModelSettings(cnn_width=8),
            "training": config.TrainingSettings(epochs=1, average_decay=0.0),
        }
        return make(**(values | changes))

    return quick


def speech_commands_folder(folder: Path, words=("tree", "dog"), missing: int = 0) -> Path:
    """Every digit and some words by three speakers, in the official layout, with both lists."""
    files, listed = {}, {"testing": [], "validation": []}
    for number, word in enumerate((*config.DIGIT_WORDS, *words)):
        for place, speaker in enumerate(("0ac15fe9", "1bb574f9", "c50f55b8")):
            path = f"{word}/{speaker}_nohash_0.wav"
            files[path] = wav_bytes(beep(number, place, 0))
            if place < 2:
                listed["testing" if place == 0 else "validation"].append(path)
    for name in listed["testing"][:missing]:
        del files[name]
    files |= {f"{name}_list.txt": "\n".join(lines).encode() for name, lines in listed.items()}
    files["README.md"] = b"Speech Commands Data Set v0.02"
    spread(files, folder)
    (folder / "_background_noise_").mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, 24000)
    soundfile.write(folder / "_background_noise_" / "pink_noise.wav", noise, 8000)
    return folder


def test_speech_commands_scores_digits_and_twelve_classes_on_both_lists(
    make_settings, tmp_path, capsys
):
    folder = speech_commands_folder(tmp_path / "sc")
    settings = make_settings(protocol="speech_commands", speech_commands_dir=folder, clean="off")
    evaluation.run(settings)
    result = read_result(settings, "speech_commands")
    predictor = Predictor(settings.decision)
    for name, speaker in (("test", "0ac15fe9"), ("validation", "1bb574f9")):
        right = 0
        for digit in range(10):
            path = folder / config.DIGIT_WORDS[digit] / f"{speaker}_nohash_0.wav"
            heard = audio_io.read_audio(path, predictor.audio.sample_rate)[0]
            right += predictor.predict(heard).best_guess == digit
        assert result[name]["digits"]["vote"]["right"] == right
        kinds = result[name]["classes_by_kind"]
        assert [kinds[kind]["total"] for kind in ("digits", "unknown", "silence")] == [10, 1, 1]
        assert result[name]["classes"]["total"] == 12
        assert result[name]["classes"]["right"] == sum(item["right"] for item in kinds.values())
    told = capsys.readouterr().out
    assert "98.7 %" in told and "Some clips may have been trained on" not in told


def test_the_same_seed_draws_the_same_unknown_words(make_settings, tmp_path):
    words = [f"word{letter}" for letter in "abcdefgh"]
    folder = speech_commands_folder(tmp_path / "sc", words)
    settings = make_settings(speech_commands_dir=folder)

    def drawn(seed: int) -> list[str]:
        changed = dataclasses.replace(settings, seed=seed)
        clips = speech_commands.listed_clips(folder, "testing_list.txt", changed, AUDIO)
        return [str(name) for name in clips.names[clips.labels == config.REJECT]]

    assert drawn(1) == drawn(1)
    assert len({drawn(seed)[0] for seed in range(8)}) > 1
    assert drawn(1)[0].startswith("word") and drawn(1)[1] == "silence_0"


def test_half_a_copy_of_speech_commands_is_told(make_settings, tmp_path, caplog):
    folder = speech_commands_folder(tmp_path / "sc", missing=3)
    report = speech_commands.speech_commands(make_settings(speech_commands_dir=folder))
    assert report.data["test"]["digits"]["vote"].total == 7
    assert "half a copy? 3 of 10 digits of testing_list.txt are missing" in caplog.text


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("unset", "SPEECH_COMMANDS_DIR"),
        ("nowhere", "no such folder of Speech Commands v0.02"),
        ("no list", "no readable testing_list.txt"),
        ("outside", "../seven/a_nohash_0.wav is no clip"),
        ("absolute", "/seven/a_nohash_0.wav is no clip"),
        ("all missing", "none of the 10 digits of testing_list.txt"),
    ],
)
def test_what_is_no_speech_commands_is_one_line(make_settings, tmp_path, fault, message):
    folder = speech_commands_folder(tmp_path / "sc", missing=12 * (fault == "all missing"))
    testing = folder / "testing_list.txt"
    if fault == "no list":
        testing.unlink()
    elif fault in ("outside", "absolute"):
        testing.write_text(message.split(" ")[0] + "\n")
    named = {"unset": None, "nowhere": tmp_path / "nowhere"}.get(fault, folder)
    with pytest.raises(config.UserError) as caught:
        speech_commands.speech_commands(make_settings(speech_commands_dir=named))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_words_and_speakers_that_training_heard_are_told_apart(make_settings, tmp_path):
    folder = speech_commands_folder(tmp_path / "sc", ["tree"])
    save_networks(
        tmp_path / "models",
        corpora="fsdd+speech_commands",
        words_heard=["tree"],
        speakers_heard=["1bb574f9"],
    )
    report = speech_commands.speech_commands(make_settings(speech_commands_dir=folder))
    assert "Some clips may have been trained on" in report.text
    assert list(report.data["test"]["words_apart"]) == ["heard in training"]
    assert list(report.data["test"]["speakers_apart"]) == ["not heard in training"]
    assert list(report.data["validation"]["speakers_apart"]) == ["heard in training"]


@pytest.mark.slow
def test_false_accepts_tell_heard_words_apart(make_settings, tmp_path, monkeypatch):
    monkeypatch.setattr(rejection, "SOUNDS_PER_KIND", 2)
    monkeypatch.setattr(
        rejection, "OUT_OF_VOCABULARY", config.SyntheticSettings.only(espeak_clips=10)
    )
    words = write_beeps(tmp_path / "words", ["tree_ann_0", "Tree_bob_1", "dog_ann_0"])
    settings = make_settings(non_digits_dir=words)
    together = rejection.reject(settings).data["accepted"]
    assert "other words" in together and not any("training" in name for name in together)
    save_networks(tmp_path / "models", words_heard=["tree", "bed"])
    apart = rejection.reject(settings).data["accepted"]
    assert apart["other words"]["stored"].total == 3
    assert apart["other words, heard in training"]["stored"].total == 2
    assert apart["other words, not heard in training"]["stored"].total == 1


def test_unseen_speakers_tell_heard_corpora_and_speakers_apart(make_settings, tmp_path):
    unseen = tmp_path / "speakers"
    write_beeps(unseen / "audiomnist_0to3", ["0_eve_0", "1_eve_0"])
    write_beeps(unseen / "iitg", ["2_fay_0", "3_guy_0", "4_guy_1"])
    settings = make_settings(unseen_dir=unseen)
    assert speakers.unseen(settings).data["apart"] == {}
    save_networks(tmp_path / "models", corpora="fsdd+audiomnist", speakers_heard=["guy"])
    report = speakers.unseen(settings)
    totals = {name: item["vote"].total for name, item in report.data["apart"].items()}
    assert totals == {
        "macro, 1 corpora of which training heard others": 2,
        "macro, 1 corpora that training never heard": 3,
        "heard in training": 2,
        "not heard in training": 3,
    }
    assert "told apart" in report.text


@pytest.mark.slow
def test_audiomnist_trains_on_each_fold_and_tests_on_its_speakers(
    make_settings, tmp_path, monkeypatch, capsys
):
    """One speaker a group: fold k trains on three of them, and tests on the last."""
    copy = spread(members((28, 36, 43, 12, 26)), tmp_path / "copy")
    monkeypatch.setenv("AUDIOMNIST_DIR", str(copy))
    settings = make_settings(protocol="audiomnist")
    evaluation.run(settings)
    result, told = read_result(settings, "audiomnist"), capsys.readouterr().out
    assert list(result["by_fold"]) == [f"fold {k}" for k in range(1, 6)]
    assert result["clips"] == 50 and set(result["by_speaker"]) == {"28", "36", "43", "12", "26"}
    assert set(result["by_gender"]) == {"male", "female"}
    assert result["by_gender"]["female"]["vote"]["total"] == 10
    assert told.count("training on 30 clips") == 5 and "98.6 %" in told
    folder = settings.results_dir / "audiomnist"
    record = Predictor(config.DecisionSettings(models_dir=folder / "seed0_fold2")).checkpoints
    assert record["cnn"].record["corpora"] == "audiomnist fold 2"
    evaluation.run(settings)
    again, told = read_result(settings, "audiomnist"), capsys.readouterr().out
    assert again["mean"] == result["mean"] and told.count("taken from") == 5
    next(copy.rglob("7_26_0.wav")).unlink()
    (folder / "seed0_fold1.json").write_text('{"key": "half a f')
    monkeypatch.setattr(corpora_splits, "scored_fold", lambda *rest: pytest.fail("asked"))
    with pytest.raises(pytest.fail.Exception):
        evaluation.run(settings)


def test_each_fold_trains_validates_and_tests_on_its_own_speakers(
    make_settings, tmp_path, monkeypatch
):
    monkeypatch.setenv("AUDIOMNIST_DIR", str(spread(members((28, 36, 43, 12)), tmp_path / "copy")))
    asked = {}

    def scored(settings, fold, key, test, data, prepare):
        asked[fold.name] = (test, prepare(), key, data.corpora)
        raise config.UserError("far enough")

    monkeypatch.setattr(corpora_splits, "scored_fold", scored)
    with pytest.raises(config.UserError, match="far enough"):
        corpora_splits.audiomnist(make_settings())
    test, training, _, corpora = asked.pop("fold3")  # the first two lack speakers of the last group
    assert not asked and corpora == "audiomnist"
    assert set(test.speakers) == {"36"} and len(test) == 10
    assert len(training.training) == 20 and len(training.validation) == 10
    assert sorted(training.training_labels)[:3] == [0, 0, 1]
    assert set(training.corpus) == {"audiomnist"} and training.corpora == "audiomnist fold 3"


def test_audiomnist_without_data_or_speakers_is_one_line(make_settings, tmp_path, monkeypatch):
    with pytest.raises(config.UserError, match="AUDIOMNIST_DIR.*about 1 GB.*corpora.audiomnist"):
        corpora_splits.audiomnist(make_settings())
    monkeypatch.setenv("AUDIOMNIST_DIR", str(spread(members((1, 6)), tmp_path / "copy")))
    with pytest.raises(config.UserError, match="20 clips of AudioMNIST: too few speakers"):
        corpora_splits.audiomnist(make_settings())


@pytest.mark.slow
def test_cross_trains_on_one_corpus_and_tests_on_another(
    make_settings, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("AUDIOMNIST_DIR", str(spread(members((3, 10)), tmp_path / "copy")))
    settings = make_settings(protocol="cross", train_on="fsdd", test_on="audiomnist")
    evaluation.run(settings)
    result, told = read_result(settings, "cross"), capsys.readouterr().out
    assert result["clips"] == 20 and list(result["by_corpus"]) == ["audiomnist"]
    assert set(result["by_speaker"]) == {"audiomnist/03", "audiomnist/10"}
    assert "trained on fsdd, tested on audiomnist" in told
    evaluation.run(settings)
    assert "taken from" in capsys.readouterr().out


def test_cross_leaves_non_digits_of_a_folder_out(make_settings, tmp_path, monkeypatch):
    folder = write_beeps(tmp_path / "mine", ["1_eve_0", "2_eve_1", "dog_eve_0"])
    tested = []
    monkeypatch.setattr(
        corpora_splits,
        "scored_fold",
        lambda settings, fold, key, test, data: tested.append(test) or pytest.skip("far enough"),
    )
    with pytest.raises(pytest.skip.Exception):
        corpora_splits.cross(make_settings(test_on=str(folder)))
    assert tested[0].names.tolist() == ["1_eve_0", "2_eve_1"]


@pytest.mark.parametrize(
    ("train_on", "test_on", "message"),
    [
        ("fsdd", "fsdd", "fsdd: to train and to test on"),
        ("fsdd, own", "synthetic,own", "own: to train and to test on"),
        ("", "fsdd", "--train-on, --test-on"),
        ("fsdd", " , ", "--train-on, --test-on"),
        ("fsdd", "fsddd", "'fsddd' is neither"),
        ("fsdd", "audiomnist", "AUDIOMNIST_DIR"),
        ("fsdd", "WORDS", "no digits in it"),
        (
            "fsdd",
            "COPY",
            r"1 recordings are in training and test, such as fsdd/4_bob_6, which is copy/9_zoe_7",
        ),
    ],
)
def test_cross_that_means_nothing_is_one_line(
    make_settings, small_release, tmp_path, train_on, test_on, message
):
    write_beeps(tmp_path / "WORDS", ["dog_eve_0"])
    copy = write_beeps(tmp_path / "copy", ["3_zoe_1"])
    same = next(content for name, content in small_release.items() if "4_bob_6" in name)
    (copy / "9_zoe_7.wav").write_bytes(same)  # the same recording by another name
    place = str(copy) if test_on == "COPY" else test_on
    place = str(tmp_path / "WORDS") if test_on == "WORDS" else place
    with pytest.raises(config.UserError, match=message):
        corpora_splits.cross(make_settings(train_on=train_on, test_on=place))
