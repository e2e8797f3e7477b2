"""Labels from every usual layout of a folder, from a pattern and from a table."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from conftest import beep, wav_bytes
from hypothesis import given
from hypothesis import strategies as st

import config
from corpora import layouts
from corpora.folder import load_folder

AUDIO = config.AudioSettings()
OTHER = config.REJECT
SOUND = wav_bytes(beep(0, 0, 0))


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(SOUND)
    return folder


def rows(folder: Path, pattern: str = "") -> list[tuple[int, str, int, str]]:
    clips = load_folder(folder, AUDIO, pattern=pattern)
    return list(zip(clips.labels, clips.speakers, clips.takes, clips.corpus, strict=True))


LAYOUTS = {
    "names": {
        "7_ann_0.wav": (7, "ann", 0, "clips"),
        "bed_b_c_12.wav": (OTHER, "b_c", 12, "clips"),
        "room/three_eve_1.wav": (3, "eve", 1, "room"),
    },
    "AudioMNIST": {
        "data/01/0_01_49.wav": (0, "01", 49, "data"),
        "data/60/9_60_0.wav": (9, "60", 0, "data"),
    },
    "collections, one of a single speaker": {
        "allison/7_allison_0.wav": (7, "allison", 0, "allison"),
        "room/3_bob_0.wav": (3, "bob", 0, "room"),
    },
    "Speech Commands": {
        "_background_noise_/running_tap.wav": None,
        "bed/0a7c2a8d_nohash_1.wav": (OTHER, "0a7c2a8d", 1, "clips"),
        "zero/0a7c2a8d_nohash_1.wav": (0, "0a7c2a8d", 1, "clips"),
        "zero/beefbeef_nohash_0.wav": (0, "beefbeef", 0, "clips"),
    },
    "Speech Commands, words alone": {
        "bed/0a7c2a8d_nohash_1.wav": (OTHER, "0a7c2a8d", 1, "clips"),
        "v2/test/two/ab_nohash_3.wav": (2, "ab", 3, "v2"),
    },
    "folders of digits": {
        "0/george_3.wav": (0, "george", 3, "clips"),
        "7/007.wav": (7, "unknown", 7, "clips"),
        "7/clip (12).wav": (7, "clip", 12, "clips"),
        "7/eve.wav": (7, "eve", 0, "clips"),
        "bed/anything.wav": (OTHER, "anything", 0, "clips"),
    },
    "folders of digit words": {
        "Train/Seven/george_7_0.wav": (7, "george_7", 0, "Train"),
        "Train/seven/ann-2.wav": (7, "ann", 2, "Train"),
    },
    "folders of digits with full names": {
        "7/7_ann_0.wav": (7, "ann", 0, "clips"),
        "8/8_ann_0.wav": (8, "ann", 0, "clips"),
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_usual_layouts_are_understood(tmp_path, layout):
    expected = LAYOUTS[layout]
    folder = write(tmp_path / "clips", *expected)
    assert rows(folder) == [row for row in expected.values() if row is not None]


def test_a_word_folder_of_speech_commands_is_its_own_label(tmp_path):
    assert rows(write(tmp_path / "seven", "0a7c2a8d_nohash_1.wav")) == [(7, "0a7c2a8d", 1, "seven")]


def test_files_that_fit_no_layout_are_named(tmp_path, capsys):
    assert len(rows(write(tmp_path, "7_ann_0.wav", "ann.wav", "10_ann_0.wav"))) == 1
    told = capsys.readouterr().err
    assert "10_ann_0.wav: not named like 7_speaker_0" in told and "2 of 3 files" in told


@pytest.mark.parametrize(
    ("pattern", "name", "row"),
    [
        ("speaker_label_take", "george_7_0.wav", (7, "george", 0, "clips")),
        ("speaker_label_take", "van_dyk_seven_12.wav", (7, "van_dyk", 12, "clips")),
        ("speaker-label", "room/ann-3.wav", (3, "ann", 0, "room")),
        ("label/speaker.take", "x/8/eve.4.wav", (8, "eve", 4, "x")),
        ("speaker/any_label", "bob/rec12_nine.wav", (9, "bob", 0, "clips")),
        ("speaker\\label", "bob/bed.wav", (OTHER, "bob", 0, "clips")),
        ("label", "4.wav", (4, "unknown", 0, "clips")),
    ],
)
def test_a_pattern_says_where_the_parts_stand(tmp_path, pattern, name, row):
    assert rows(write(tmp_path / "clips", name), pattern) == [row]


def test_files_that_do_not_fit_the_pattern_are_named(tmp_path, capsys):
    folder = write(tmp_path, "ann_7_0.wav", "ann.wav")
    assert len(rows(folder, "speaker_label_take")) == 1
    assert "ann.wav: not named speaker_label_take" in capsys.readouterr().err


@pytest.mark.parametrize("pattern", ["speaker_take", "label_label", "label_speaker_speaker", "x"])
def test_impossible_patterns_are_refused(tmp_path, pattern):
    with pytest.raises(config.UserError, match="use label once"):
        load_folder(write(tmp_path, "7_ann_0.wav"), AUDIO, pattern=pattern)


@given(
    st.sampled_from(sorted(layouts.DIGIT_LABELS)),
    st.from_regex(r"[a-z]{1,5}(_[a-z]{1,5})?", fullmatch=True),
    st.integers(0, 999),
)
def test_pattern_and_layout_agree_on_the_default_names(label, speaker, take):
    path = PurePosixPath(f"{label}_{speaker}_{take}.wav")
    by_layout = layouts.by_layout(path, "clips", layouts.Folders())
    assert by_layout == layouts.by_pattern(path, "label_speaker_take")
    assert by_layout == layouts.Labelled(layouts.DIGIT_LABELS[label], speaker, take, "")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("explicit", [False, True])
def test_a_table_tells_the_labels(tmp_path, capsys, separator, explicit):
    folder = write(tmp_path / "clips", "a.wav", "deep/b.wav", "c.wav", "9_left_0.wav")
    table = "\ufeffLabel,File,note,Speaker\n7,a.wav,,ann\nEight,deep\\b.wav,,\n\nother,c.wav\n"
    path = folder / "list.csv"
    path.write_text(table.replace(",", separator), encoding="utf-8")
    found = rows(path if explicit else folder)
    name = "list" if explicit else "clips"
    expected = [(7, "ann", 0, name), (OTHER, "unknown", 0, name), (8, "unknown", 0, name)]
    assert found == expected
    told = capsys.readouterr().err.splitlines()
    assert len(told) == (not explicit)
    assert explicit or "1 sound files in" in told[0] and "not in list.csv" in told[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,speaker\na.wav,ann\n", "no column label"),
        ("name;wrong\n", "no column file or label"),
        ("", "no column file or label"),
        ("file,label\na.wav,12\n", "line 2: unknown label '12'"),
        ("file,label\na.wav,7\nb.wav,sevn\n", "line 3: unknown label 'sevn'"),
        ("file,label\na.wav\n", "line 2: unknown label ''"),
        ("file,label\n/etc/a.wav,7\n", "isn't a path within"),
        ("file,label\n../a.wav,7\n", "isn't a path within"),
        ("file,label\nx/../../a.wav,7\n", "isn't a path within"),
        ("file,label\n..\\a.wav,7\n", "isn't a path within"),
        ("file,label\nC:\\a.wav,7\n", "isn't a path within"),
        ("file,label\n\\\\server\\a.wav,7\n", "isn't a path within"),
        ("file,label\n,7\n", "isn't a path within"),
        ("file,label\na.wav,7\na.wav,8\n", "line 3: 'a.wav' stands there twice"),
        ("file,label\na.wav,\xff\n", "unknown label"),
    ],
)
def test_bad_tables_are_refused_in_one_line(tmp_path, text, message):
    folder = write(tmp_path, "a.wav", "b.wav")
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(config.UserError, match=message) as caught:
        load_folder(folder, AUDIO)
    assert "\n" not in str(caught.value)


def test_other_tables_do_not_matter_and_two_of_labels_are_refused(tmp_path):
    folder = write(tmp_path, "7_ann_0.wav")
    (folder / "doubtful.csv").write_text("path,label,best_guess\n7_ann_0.wav,7,3\n")
    assert rows(folder) == [(7, "ann", 0, tmp_path.name)]
    (folder / "doubtful.csv").write_bytes(b"\xff\xfe not UTF-8")
    assert rows(folder) == [(7, "ann", 0, tmp_path.name)]
    for name in ("one.csv", "two.csv"):
        (folder / name).write_text("file,label\n7_ann_0.wav,7\n")
    with pytest.raises(config.UserError, match=r"several tables of labels .one.csv, two.csv."):
        rows(folder)


def test_a_file_that_the_table_names_and_is_not_there_is_named(tmp_path, capsys):
    folder = write(tmp_path, "a.wav")
    (folder / "labels.csv").write_text("file,label\na.wav,7\nnowhere.wav,8\n")
    assert len(rows(folder)) == 1
    assert "nowhere.wav: no such file" in capsys.readouterr().err
