"""Corpora from prepared folders: found or missed, whole or not, by person, by word, balanced."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import RATE, beep, data_path, wav_bytes

import config
import corpora
import dataset_loader
from corpora import (
    an4,
    decoding,
    other_words,
    prepared,
    registry,
    single_voices,
    speech_commands,
    splits,
)
from corpora.clips import Clips
from corpora.registry import Request
from training.settings import TrainSettings, prepare_data

AUDIO = config.AudioSettings(sample_rate=RATE)
MODULES = {
    "an4": an4,
    "speech_commands": speech_commands,
    "single_voices": single_voices,
    "other_words": other_words,
}
NO_VOICES = config.SyntheticSettings.only()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> config.DataSettings:
    """Two prepared folders: AN4 of ten speakers who say digits and letters, and wake words."""
    monkeypatch.setattr("corpora.download.BACK_OFF_SECONDS", 0.0)
    monkeypatch.setattr(
        an4,
        "PARTS",
        (
            prepared.Part(prepared.DIGITS, "an4", 60),
            prepared.Part(prepared.WORDS, "an4_letters", 20),
        ),
    )
    monkeypatch.setattr(
        other_words, "PARTS", (prepared.Part(prepared.WORDS, "wake_words", 12, group="wake_words"),)
    )
    for speaker in range(10):
        for digit in (0, 1, 2, 3, 4, 5):
            write(tmp_path / "more/an4" / f"{digit}_an4s{speaker}_0.wav", digit, speaker)
        for number, letter in enumerate("ar"):  # of these, "r" is kept aside
            write(
                tmp_path / "words/an4_letters" / f"{letter}_an4s{speaker}_0.wav", number, speaker, 1
            )
    for take in range(12):
        word = ("jarvis", "alexa")[take % 2]  # of these, "jarvis" is kept aside
        write(tmp_path / "words/wake_words" / f"{word}_f{take}_0.wav", 7, take, 2)
    return config.DataSettings(
        corpora="an4,other_words",
        root=tmp_path / "data",
        fsdd_archive=None,
        fsdd_url="http://127.0.0.1:1/v1.0.10.zip",
        more_speakers_dir=tmp_path / "more",
        more_strings_dir=None,
        other_words_dir=tmp_path / "words",
    )


def write(path: Path, digit: int, speaker: int, take: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav_bytes(beep(digit, speaker, take)))


def load(data: config.DataSettings) -> Clips:
    return dataset_loader.load_training_clips(data, AUDIO, NO_VOICES, 0)[1]


def test_digits_and_words_of_a_person_have_one_name_and_stay_together(small):
    clips = load(small)
    assert set(clips.labels[clips.corpus == "an4"]) == {0, 1, 2, 3, 4, 5, config.REJECT}
    aside = dataset_loader.keep_aside(clips, 0.2, 0)
    kept = set(clips.speakers[aside.by_speaker])
    assert len(kept) == 2
    assert np.array_equal(aside.by_speaker, np.isin(clips.speakers, sorted(kept)))


def test_words_are_kept_aside_in_every_corpus_and_speakers_not_told_apart_are_not(small):
    clips = load(small)
    aside = dataset_loader.keep_aside(clips, 0.5, 0)
    words = {splits.word_of(name) for name in clips.names[aside.by_word]}
    assert words == {"r", "jarvis"}
    wake = clips.corpus == "other_words"
    assert set(clips.speakers[wake]) == {"unknown-wake_words"}
    assert not aside.by_speaker[wake].any()


def test_the_words_kept_aside_never_train(small):
    data = prepare_data(TrainSettings(data=small, audio=AUDIO))
    clips = load(small)
    aside = dataset_loader.keep_aside(clips, 0.1, 0)
    assert len(data.training) == np.count_nonzero(~aside.either)
    assert len(data.validation) == np.count_nonzero(aside.either)


def test_mislabelled_clips_neither_train_nor_validate(small, monkeypatch):
    whole = load(small)
    monkeypatch.setattr(prepared, "MISLABELLED", ("3_an4s3_0",))
    rest = load(small)
    assert set(whole.names) - set(rest.names) == {"3_an4s3_0"} and len(rest) == len(whole) - 1


def test_the_cache_is_used_until_a_file_changes(small, monkeypatch):
    monkeypatch.setattr(decoding, "KEEP_FROM", 1)
    first = load(small)
    read = []
    original = decoding.decode_files
    monkeypatch.setattr(
        decoding, "decode_files", lambda paths, audio: read.extend(paths) or original(paths, audio)
    )
    assert np.array_equal(load(small).samples, first.samples) and not read
    write(small.more_speakers_dir / "an4" / "3_an4s3_0.wav", 4, 4)
    changed = load(small)
    assert len(read) == 80 and len(changed) == len(first)
    assert not np.array_equal(changed.samples, first.samples)


def test_eight_and_sixteen_kilohertz_have_caches_of_their_own(small):
    narrow = load(small)
    wide = dataset_loader.load_training_clips(
        small, config.AudioSettings(sample_rate=16000), NO_VOICES, 0
    )[1]
    assert wide.sample_rate == 16000 and len(wide) == len(narrow)
    np.testing.assert_allclose(wide.durations, narrow.durations, atol=2 / RATE)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("half", r"an4: 30 of 60 clips: empty or half copied.*MORE_SPEAKERS_DIR"),
        ("empty part", r"an4: 0 of 60 clips: empty or half copied"),
        ("empty", r"more: no folders of clips in it \(MORE_SPEAKERS_DIR names an empty copy"),
        ("nowhere", r"more: no such folder \(MORE_SPEAKERS_DIR"),
        ("misnamed", r"strange.wav: not named WORD_SPEAKER_TAKE"),
        ("damaged", r"3_an4s3_0.wav"),
    ],
)
@pytest.mark.parametrize("names", ["an4", "auto"])
def test_a_prepared_folder_that_is_not_whole_is_one_line(small, fault, message, names):
    folder = small.more_speakers_dir / "an4"
    files = sorted(folder.iterdir())
    if fault == "misnamed":
        write(folder / "strange.wav", 1, 1)
    elif fault == "damaged":
        (folder / "3_an4s3_0.wav").write_bytes(b"RIFF")
    else:
        for path in files[:30] if fault == "half" else files:
            path.unlink()
        if fault in ("empty", "nowhere"):
            folder.rmdir()
        if fault == "nowhere":
            small.more_speakers_dir.rmdir()
    with pytest.raises(config.UserError, match=message) as complaint:
        load(replace(small, corpora=names))
    assert "\n" not in str(complaint.value)


def test_auto_takes_what_is_there_and_says_once_what_is_lost(small, capsys, monkeypatch):
    monkeypatch.setattr(dataset_loader, "AUTO", ("an4", "speech_commands", "other_words"))
    dataset_loader._say_once.cache_clear()
    names = [
        dataset_loader.load_training_clips(replace(small, corpora="auto"), AUDIO, NO_VOICES, 0)[2]
        for _ in range(2)
    ]
    assert names == ["an4+other_words"] * 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and told[0].startswith("going on without speech_commands: some 900")


def test_a_corpus_asked_for_by_name_must_be_there(small):
    with pytest.raises(config.UserError, match="speech_commands: not in"):
        load(replace(small, corpora="speech_commands"))


def test_the_environment_names_the_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("MORE_SPEAKERS_DIR", str(tmp_path / "a"))
    monkeypatch.setenv("OTHER_WORDS_DIR", str(tmp_path / "b"))
    data = config.DataSettings()
    assert (data.more_speakers_dir, data.other_words_dir) == (tmp_path / "a", tmp_path / "b")


def clips_of(labels: list[int], corpus: list[str]) -> Clips:
    waveforms = [beep(label % 10, 0, number) for number, label in enumerate(labels)]
    names = [f"{label}_x_{number}" for number, label in enumerate(labels)]
    return Clips.from_waveforms(
        waveforms, labels, ["x"] * len(labels), names, range(len(labels)), corpus, RATE
    )


def test_rare_digits_are_repeated_within_their_corpus():
    labels = [0] * 12 + [1] * 4 + [2] + [config.REJECT] * 3 + [1] * 6 + [0] * 5
    clips = clips_of(labels, ["a"] * 20 + ["b"] * 11)
    repeats = splits.digit_repeats(clips)
    assert repeats.tolist() == [1] * 12 + [3] * 4 + [5] + [1] * 3 + [1] * 11


def test_balance_can_be_switched_off(small):
    (small.more_speakers_dir / "an4/0_an4s0_0.wav").rename(
        small.more_speakers_dir / "an4/1_an4s0_1.wav"
    )
    for speaker in range(1, 8):
        path = small.more_speakers_dir / f"an4/0_an4s{speaker}_0.wav"
        path.rename(path.with_name(f"1_an4s{speaker}_1.wav"))
    balanced = prepare_data(TrainSettings(data=small, audio=AUDIO))
    plain = prepare_data(TrainSettings(data=replace(small, balance=False), audio=AUDIO))
    assert set(plain.repeats) == {1}
    assert balanced.repeats[balanced.training_labels == 0].min() == splits.MAX_REPEATS
    assert set(balanced.repeats[balanced.training_labels == config.REJECT]) == {1}


def test_the_same_recording_in_training_and_validation_is_refused(small):
    clips = load(small)
    aside = dataset_loader.keep_aside(clips, 0.1, 0)
    kept = str(clips.speakers[np.flatnonzero(aside.by_speaker)[0]])
    trained = next(name for name in set(clips.speakers) - {kept} if name.startswith("an4"))
    folder = small.more_speakers_dir / "an4"
    (folder / f"4_{trained}_0.wav").write_bytes((folder / f"3_{kept}_0.wav").read_bytes())
    with pytest.raises(config.UserError, match=rf"1 recordings .* an4/4_{trained}_0.*3_{kept}_0"):
        prepare_data(TrainSettings(data=small, audio=AUDIO))


def test_a_copy_of_the_test_set_in_another_folder_is_refused(fsdd_archive_path, tmp_path):
    """Found by content, whatever the file is called, and also in another sound format."""
    import soundfile

    from corpora.fsdd import read_verified

    takes = list(read_verified(fsdd_archive_path).items())[::50]
    for number, (_, samples) in enumerate(takes):
        path = tmp_path / "copies" / f"seven_friend{number}_0.flac"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, samples, 8000, "PCM_16")
    data = config.DataSettings(
        corpora=f"fsdd,{tmp_path / 'copies'}", root=tmp_path, fsdd_archive=fsdd_archive_path
    )
    for rate in (8000, 16000):
        audio = config.AudioSettings(sample_rate=rate)
        with pytest.raises(config.UserError, match=r"copies/seven_friend\d+_0, which is fsdd/"):
            prepare_data(TrainSettings(data=data, audio=audio))


def real_request(tmp_path: Path, rate: int = 16000) -> Request:
    data = config.DataSettings(
        root=tmp_path,
        more_speakers_dir=data_path("MORE_SPEAKERS_DIR"),
        more_strings_dir=None,
        other_words_dir=data_path("OTHER_WORDS_DIR"),
    )
    return Request(data, config.AudioSettings(sample_rate=rate))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_the_prepared_copies_are_whole_and_by_person(name, tmp_path):
    request = real_request(tmp_path, 8000)
    clips = registry.known()[name].load(request)
    wrong = len(prepared.MISLABELLED) if name == "speech_commands" else 0
    assert len(clips) == sum(part.clips for part in MODULES[name].PARTS) - wrong
    assert set(clips.corpus) == {name} and clips.labels.max() == config.REJECT
    aside = dataset_loader.keep_aside(clips, 0.1, 0)
    assert 0 < aside.by_word.mean() < 0.2
    share = len(set(clips.speakers[aside.by_speaker])) / len(set(clips.speakers))
    assert share == 0 if name == "single_voices" else 0.08 < share < 0.12


@pytest.mark.slow
def test_the_community_words_are_for_validation_only(tmp_path):
    request = real_request(tmp_path, 8000)
    clips = dataset_loader.load_validation_community(request.data, request.audio)
    assert len(clips) == 506 and set(clips.labels) == {config.REJECT}
    trained = registry.known()["other_words"].load(request)
    assert not set(clips.names) & set(trained.names)


NEW_CORPUS = """\
\"\"\"Tones that stand for digits, by six speakers.\"\"\"

from pathlib import Path

from corpora.clips import Clips
from corpora.folder import load_folder
from corpora.registry import Request, register

FOLDER = Path({folder!r})


@register("tones", licence="CC0", about="tones for digits", place=lambda request: FOLDER)
def load(request: Request) -> Clips:
    return load_folder(FOLDER, request.audio, corpus="tones")
"""


def tone(digit: int, speaker: int, take: int) -> np.ndarray:
    rng = np.random.default_rng((speaker, digit, take))
    noise = rng.normal(0, 0.003, 2400 + 300 * speaker)
    time_s = np.arange(len(noise)) / RATE
    wave = np.sin(2 * np.pi * (300 + 250 * digit) * time_s) * np.hanning(len(time_s))
    return ((0.1 + 0.05 * speaker) * wave + noise).astype(np.float32)


def test_a_corpus_of_one_short_file_trains_and_is_evaluated(tmp_path, monkeypatch):
    """Also with nine digits only, which is said; the eight is never answered."""
    import utils
    from protocols.scoring import recognize_clips
    from recognition.predictor import Predictor
    from recognition.recognizer import Recognizer
    from train import train

    for speaker in range(6):
        for digit in (0, 1, 2, 3, 4, 5, 6, 7, 9):
            for take in range(2):
                path = tmp_path / "clips" / f"{digit}_s{speaker}_{take}.wav"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(wav_bytes(tone(digit, speaker, take)))
    text = NEW_CORPUS.format(folder=str(tmp_path / "clips"))
    assert len(text.splitlines()) <= 25
    (tmp_path / "added").mkdir()
    (tmp_path / "added" / "tones.py").write_text(text)
    monkeypatch.setattr(corpora, "__path__", [*corpora.__path__, str(tmp_path / "added")])
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry.known()))
    monkeypatch.delitem(sys.modules, "corpora.tones", raising=False)
    words = f"""--data.corpora tones --data.root {tmp_path}/data --save-dir {tmp_path}/models
        --runs-dir {tmp_path}/runs --models cnn --training.epochs 15 --training.batch-size 20
        --training.learning-rate 0.01 --model.cnn-width 8 --augmentation.speed 0
        --augmentation.vtlp 0 --augmentation.noise 0 --augmentation.babble 0
        --augmentation.band-limit 0 --audio.sample-rate 8000 --features.n-fft 256
        --features.hop-length 80 --features.n-mels 40 --features.f-max 3800"""
    settings = utils.parse_arguments(TrainSettings, "", words.split())
    result = train(settings)
    assert result["corpora"] == "tones" and result["models"]["cnn"]["validation_accuracy"] > 0.7
    predictor = Predictor(config.DecisionSettings(models_dir=tmp_path / "models"))
    clips = registry.known()["tones"].load(Request(settings.data, predictor.audio))
    answers = recognize_clips(Recognizer(predictor), clips)
    assert answers.right("vote").mean() > 0.7 and 8 not in answers.guesses["vote"]


def test_a_corpus_of_fewer_than_ten_digits_is_said(small, capsys):
    prepare_data(TrainSettings(data=small, audio=AUDIO))
    told = capsys.readouterr().err
    assert all(f"NO CLIP OF {digit} TO TRAIN ON" in told for digit in (6, 7, 8, 9))
