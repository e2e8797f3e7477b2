"""The scenes of protocol interference, on made-up sounds and untrained networks."""

import numpy as np
import pytest
from conftest import RATE
from untrained import read_json, settings_maker

import audio_io
import config
import evaluation
from protocols import interference


@pytest.fixture
def noise_folder(tmp_path):
    random = np.random.default_rng(0)
    for number in range(4):
        sound = random.normal(0, 0.1, 2 * RATE).astype(np.float32)
        audio_io.write_audio(tmp_path / "noise" / f"001_Dog_bark__{number}.wav", sound, RATE)
    long = random.normal(0, 0.1, 24 * RATE).astype(np.float32)
    audio_io.write_audio(tmp_path / "noise" / "street.wav", long, RATE)
    return tmp_path / "noise"


def test_recordings_of_noise_are_kept_apart_by_the_seed(noise_folder):
    kept, developed = (interference.load_sounds(noise_folder, RATE, seed) for seed in (0, 1))
    clips = [{name for name in sounds.by_name if "__" in name} for sounds in (kept, developed)]
    assert clips[0] and clips[1] and not clips[0] & clips[1]
    halves = [sounds.by_name["street"] for sounds in (kept, developed)]
    assert len(halves[0]) == len(halves[1]) == 12 * RATE and not np.array_equal(*halves)


def test_a_folder_without_the_sounds_is_told(tmp_path):
    audio_io.write_audio(tmp_path / "a.wav", np.full(RATE, 0.1, np.float32), RATE)
    with pytest.raises(config.UserError, match="bark"):
        interference.load_sounds(tmp_path, RATE, 0)


def test_every_scene_ends_with_the_word_and_is_repeatable(noise_folder):
    sounds = interference.load_sounds(noise_folder, RATE, 0)
    word = interference.at_peak(np.sin(np.arange(3000, dtype=np.float32)))
    pause = round(interference.PAUSE_S * RATE)
    for scene, make in interference.SCENES.items():
        first, again = (make(word, np.random.default_rng(3), sounds) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        heard = first[-pause - len(word) : -pause]
        assert np.abs(heard - word).max() < 20 * interference.ROOM_RMS, scene
        assert first.dtype == np.float32 and np.abs(first).max() <= 1
        assert (len(first) == len(word) + 2 * pause) == (scene == "alone")


def test_words_are_balanced_over_digits_and_speakers(small_clips):
    chosen = interference.by_digit(small_clips, seed=0, count=4)
    assert np.bincount(chosen.labels).tolist() == [4] * 10
    for digit in range(10):
        speakers = chosen.speakers[chosen.labels == digit]
        assert np.unique(speakers, return_counts=True)[1].tolist() == [2, 2]


def test_pairs_are_two_digits_of_one_speaker(small_clips):
    found = list(interference.pairs(small_clips, 12, seed=0))
    assert len(found) == 12
    for first, second in found:
        assert small_clips.labels[first] != small_clips.labels[second]
        assert small_clips.speakers[first] == small_clips.speakers[second]


def test_the_protocol_writes_every_row(tmp_path, small_release, noise_folder, monkeypatch):
    for name, value in (("WORDS", 10), ("PAIRS", 2), ("SHORT_NOISE", 1), ("LONG_NOISE", 2)):
        monkeypatch.setattr(interference, name, value)
    monkeypatch.setattr(interference.by_digit, "__defaults__", (1,))
    monkeypatch.setattr(
        interference.rejection,
        "non_digit_clips",
        lambda settings, predictor: {
            "hum": interference.rejection.non_digit_set(
                [np.ones(800, np.float32) / 2] * 3, "hum", RATE
            )
        },
    )
    make_settings = settings_maker(tmp_path, small_release)
    settings = make_settings(protocol="interference", noise_dir=noise_folder, seed=1)
    evaluation.run(settings)
    result = read_json(settings.results_dir / "interference.json")
    assert [row["scene"] for row in result["scenes"]] == [
        *interference.SCENES,
        "two digits in a file",
        *(f"pair {1000 * gap:.0f} ms apart, hands-free" for gap in interference.PAIR_GAPS_S),
    ]
    assert all(row["right"]["total"] in (2, 10) for row in result["scenes"])
    assert [row["sound"] for row in result["no_digits"]] == [
        "living room, 100 s",
        "living room, ten minutes",
        "hum",
    ]
    assert (settings.results_dir / "interference.png").stat().st_size > 5000
