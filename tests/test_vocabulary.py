"""Out-of-vocabulary words, digits of other languages, and how far sounds are from each other."""

import hashlib
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import config
from corpora import synthetic
from protocols import common, rejection
from synthesis import espeak, evaluation_words, foreign_digits, phonemes, vocabulary

SOUND_LIKE_DIGITS = """
won to too for fore ate tew xero fife niner owe oh naught not ones sevens someone anyone
oneself twofold foursome
"""


KEPT = """
tree free fries mind sixties sixth weights into create
"""


@pytest.fixture(scope="module")
def engine():
    return espeak.Espeak()


@pytest.fixture(scope="module")
def words():
    return vocabulary.vocabulary()


def sounds(engine, word, voice="en-us"):
    return engine.phonemes(word, voice, ipa=True).translate(str.maketrans("", "", "ˈˌː"))


# --- how far sounds are -----------------------------------------------------------------------

pronunciations = st.lists(st.sampled_from(phonemes.PHONEMES), max_size=6).map(tuple)


@given(st.lists(pronunciations, min_size=1, max_size=4), pronunciations)
@settings(max_examples=60, deadline=None)
def test_distances_are_those_of_the_plain_table(said, target):
    def plain(word):
        gap = [phonemes.WEAK_GAP if p in phonemes._WEAK else phonemes.GAP for p in target]
        row = [sum(gap[:i]) for i in range(len(target) + 1)]
        for sound in word:
            drop = phonemes.WEAK_GAP if sound in phonemes._WEAK else phonemes.GAP
            new = [row[0] + drop]
            for i, wanted in enumerate(target):
                swap = row[i] + phonemes.exchange_cost(sound, wanted)
                new.append(min(row[i + 1] + drop, new[i] + gap[i], swap))
            row = new
        return row[-1]

    np.testing.assert_allclose(phonemes.distances(said, target), [plain(word) for word in said])


@given(pronunciations, pronunciations)
@settings(max_examples=60, deadline=None)
def test_distance_is_the_same_both_ways_and_none_to_itself(one, other):
    assert phonemes.distances([one], one)[0] == 0
    assert phonemes.distances([one], other) == pytest.approx(phonemes.distances([other], one))


def test_a_like_sound_costs_less_than_an_unlike_one():
    for sound, like, unlike in (("F", "TH", "M"), ("IY", "IH", "AA"), ("T", "D", "S")):
        assert phonemes.exchange_cost(sound, like) < phonemes.exchange_cost(sound, unlike)
    assert phonemes.exchange_cost("AH", "S") == 1


# --- which words ------------------------------------------------------------------------------


@pytest.mark.parametrize("word", SOUND_LIKE_DIGITS.split())
def test_what_sounds_like_a_digit_is_left_out(words, word):
    assert word not in words.words and word not in vocabulary.vocabulary(held_out=True).words


@pytest.mark.parametrize("word", KEPT.split())
def test_near_words_and_numerals_are_kept(words, word):
    assert word in words.words


def test_training_the_words_kept_aside_and_the_evaluation_have_no_sound_in_common(words):
    kept_aside = vocabulary.vocabulary(held_out=True)
    said = [
        {phonemes.merged(p) for word in part for p in vocabulary.pronunciations(word.lower())[:1]}
        for part in (
            words.words,
            kept_aside.words,
            (*evaluation_words.WORDS, *evaluation_words.LETTERS),
        )
    ]
    assert not said[0] & said[1] and not said[0] & said[2] and not said[1] & said[2]
    assert 0.05 < len(kept_aside.words) / len(words.words) < 0.2


def test_the_published_evaluation_says_what_it_always_said_and_no_trained_word(words):
    plans = synthetic._plans(rejection.OUT_OF_VOCABULARY, common.HELD_OUT_SEED)
    texts = [line.text for plan in plans.values() for line in plan]
    digest = hashlib.sha256("|".join(texts).encode()).hexdigest()
    assert len(texts) == 300 and digest[:16] == "b9ae82ad6d487d78"
    assert not {word for text in texts for word in text.split()} & set(words.words)


@pytest.mark.parametrize("voice", ["en-us", "en"])
def test_espeak_pronounces_no_word_like_a_digit(engine, words, voice):
    names = (*config.DIGIT_WORDS, *config.ALTERNATIVE_NAMES)
    digits = {sounds(engine, name + plural, voice) for name in names for plural in ("", "s")}
    for word in (*words.words[::4], *evaluation_words.WORDS, *evaluation_words.LETTERS):
        assert sounds(engine, word, voice) not in digits, word


@pytest.mark.slow
def test_espeak_pronounces_none_of_all_words_like_a_digit(engine, words):
    for voice in ("en-us", "en"):
        test_espeak_pronounces_no_word_like_a_digit(
            engine, vocabulary.Vocabulary(tuple(np.repeat(words.words, 4)), None, None), voice
        )


def test_draws_vary_are_near_or_frequent_and_follow_the_generator(words):
    draws = [[words.text(rng) for _ in range(6000)] for rng in map(np.random.default_rng, (1, 1))]
    assert draws[0] == draws[1] and len(set(draws[0])) > 3000
    rng = np.random.default_rng(2)
    distance = {}
    for kind in (words.near_word, words.frequent_word):
        said = [vocabulary.pronunciations(kind(rng))[0] for _ in range(400)]
        nearest = [phonemes.distances(said, v) for digit in phonemes.DIGITS for v in digit]
        distance[kind.__name__] = np.median(np.min(nearest, axis=0))
    assert distance["near_word"] < 0.5 * distance["frequent_word"]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1))
@example(2470)  # the evaluation's syllables w, o, n
def test_random_texts_are_short_and_no_digits(seed):
    for draw in (evaluation_words.random_text, vocabulary.vocabulary().text):
        text = draw(np.random.default_rng(seed))
        assert text and len(text) < 30
        assert not set(text.lower().split()) & {*config.DIGIT_WORDS, *evaluation_words.HOMOPHONES}


@pytest.mark.parametrize("package", ["cmudict", "wordfreq"])
def test_a_missing_package_is_one_line_that_says_how_to_install_it(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)  # "import" fails
    for cached in (vocabulary.vocabulary, vocabulary._cmudict, vocabulary._frequencies):
        monkeypatch.setattr(vocabulary, cached.__name__, cached.__wrapped__)
    with pytest.raises(config.UserError, match=f"pip install {package}"):
        vocabulary.vocabulary()


# --- digits of other languages ----------------------------------------------------------------


@pytest.mark.parametrize(
    "said", ["nb 2", "nl 7", "de 9", "sv 6", "it 0", "es 0", "nl 5", "nl 3", "ru 3", "pa 0"]
)
def test_foreign_digits_that_sound_english_are_left_out(said):
    language, numeral = said.split()
    known = foreign_digits.foreign_digits()
    assert foreign_digits.ForeignDigit(language, numeral) not in known


def test_foreign_digits_are_many_in_every_language(engine):
    known = foreign_digits.foreign_digits()
    assert 250 < len(known) < 380
    for language in foreign_digits.LANGUAGES:
        assert sum(digit.language == language for digit in known) >= 4, language
    for digit in known:
        assert "(en)" not in engine.phonemes(digit.numeral, digit.language, ipa=True)


def test_ipa_is_read_as_the_nearest_english_sounds(engine):
    for word, said in zip(config.DIGIT_WORDS, phonemes.DIGITS, strict=True):
        heard = foreign_digits.arpabet(engine.phonemes(word, ipa=True))
        assert min(phonemes.distances([heard], variant)[0] for variant in said) < 0.6, word
