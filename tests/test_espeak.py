"""eSpeak NG in process, and its accents."""

import sys

import numpy as np
import pytest

import config
from corpora import synthetic
from synthesis import espeak, espeak_voices

DIGIT_SOUNDS = {  # General American, without stress marks
    "zero": "ziəɹoʊ",
    "one": "wʌn",
    "two": "tuː",
    "three": "θɹiː",
    "four": "fɔːɹ",
    "five": "faɪv",
    "six": "sɪks",
    "seven": "sɛvən",
    "eight": "eɪt",
    "nine": "naɪn",
}


@pytest.fixture(scope="module")
def engine():
    return espeak.Espeak()


# --- eSpeak NG --------------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "sounds"), DIGIT_SOUNDS.items())
def test_espeak_pronounces_the_digits(engine, word, sounds):
    heard = engine.phonemes(word, ipa=True).replace("ˈ", "").replace("ˌ", "")
    assert heard == sounds


def test_espeak_speaks_as_told(engine):
    normal = engine.speak("seven", rate=150)
    assert normal.dtype == np.float32 and 0.05 < np.abs(normal).max() <= 1
    slow = synthetic.trim(engine.speak("seven", rate=100), 22050, -40, (0, 0))
    fast = synthetic.trim(engine.speak("seven", rate=250), 22050, -40, (0, 0))
    assert len(slow) > 1.4 * len(fast)
    low, high = pitch_of(engine.speak("nine", pitch=10)), pitch_of(engine.speak("nine", pitch=95))
    assert high > 1.4 * low


def pitch_of(waveform, sample_rate=22050):
    """Hz, from the highest peak of the autocorrelation between 60 and 250 Hz."""
    middle = waveform[len(waveform) // 4 : len(waveform) // 2]
    correlation = np.correlate(middle, middle, "full")[len(middle) - 1 :]
    shortest = sample_rate // 250
    return sample_rate / (shortest + np.argmax(correlation[shortest : sample_rate // 60]))


def test_espeak_says_nothing_for_nothing(engine):
    assert np.abs(engine.speak("")).max(initial=0) < 1e-3


def test_espeak_refuses_a_voice_that_is_not_there(engine):
    with pytest.raises(ValueError, match="xx-nosuch"):
        engine.speak("one", voice="xx-nosuch")


def test_a_fresh_espeak_is_in_its_first_state():
    def conversation():
        engine = espeak.Espeak()
        return [
            engine.speak(word, voice)
            for voice in ("en-us+whisper", "en-us+klatt3", "de+f2")
            for word in ("six", "seven", "six")
        ]

    first = conversation()
    espeak.Espeak().speak("something else", "en+f3")
    for one, other in zip(first, conversation(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_made_up_voices_can_be_spoken_with_and_differ(engine):
    waveforms = []
    for number in range(3):
        engine.add_voice(f"test-{number}", espeak_voices.vocal_tract(np.random.default_rng(number)))
        waveforms.append(engine.speak("nine", f"en-us+test-{number}"))
    assert min(np.abs(w).max() for w in waveforms) > 0.02
    assert len({w.tobytes() for w in waveforms}) == 3


def test_espeak_missing_is_one_line_that_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)  # "import" fails
    with pytest.raises(config.UserError, match="pip install espeakng-loader"):
        synthetic.synthesize(config.SyntheticSettings(), seed=1, sample_rate=8000)


@pytest.mark.parametrize("broken", ["library", "data"])
def test_espeak_broken_is_one_line_that_says_how_to_install_it(monkeypatch, tmp_path, broken):
    import espeakng_loader

    if broken == "library":
        (tmp_path / "libespeak-ng.so").write_bytes(b"not a library")
        monkeypatch.setattr(
            espeakng_loader, "get_library_path", lambda: str(tmp_path / "libespeak-ng.so")
        )
    else:
        for folder in ("lang", "voices"):
            (tmp_path / folder).mkdir()
        monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(config.UserError, match="pip install espeakng-loader"):
        espeak.Espeak()


# --- accents ----------------------------------------------------------------------------------


def test_respelling_keeps_what_the_language_has_and_changes_the_rest():
    german = espeak_voices.FOREIGN_ACCENTS["de"]
    kept = set(german.kept.split())
    assert espeak_voices.respell("T r 'i:", kept, {"T": "s"}) == "sr'i:"
    assert espeak_voices.respell("w ,V n", set(), {"w": "v"}) == "v'an"
    assert espeak_voices.respell("'eI t  s 'I k s", set(), {}) == "'ejt|| s'iks"


@pytest.mark.parametrize("language", espeak_voices.FOREIGN_ACCENTS)
def test_every_accent_says_every_digit_at_a_usual_length(engine, language):
    pronounce = espeak_voices._foreign(engine, language, np.random.default_rng(3))
    for word in config.DIGIT_WORDS:
        waveform = synthetic.trim(
            engine.speak(pronounce(word), language, rate=150), 22050, -40, (0, 0)
        )
        assert 0.12 < len(waveform) / 22050 < 1.1, f"{language}: {pronounce(word)}"
