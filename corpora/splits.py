"""Who trains, who validates and who tests: nobody and nothing in two of them."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

import config
from corpora import layouts, registry
from corpora.clips import Clips

OFFICIAL_TEST_TAKES = 5
"""Takes 0 to 4 of each digit and speaker are FSDD's test set, says its README."""
RANDOM_TEST_FRACTION = 0.2
"""Share of the clips that the random split tests on."""
MAX_REPEATS = 5
"""How often a clip of a rare digit is shown at most in the place of others."""
OH_WORDS = ("oh", "o")
"""Words of a clip's name that sound "oh"."""
WORDS_KEPT_ASIDE = 8
"""Per cent of the other words that no training hears."""
WORDS_DRAWN = 6
"""The draw of these words: the first that leaves out some, and not many, of every corpus."""


@dataclass(frozen=True)
class Split:
    """Three sets of clips that share none; each holds sorted indices, int64."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def make_split(clips: Clips, data: config.DataSettings, seed: int) -> Split:
    """The split that ``data.split`` names."""
    if data.split == "speaker":
        return speaker_split(clips, data.test_speaker, data.validation_fraction, seed)
    split = {"official": official_split, "random": random_split}[data.split]
    return split(clips, data.validation_fraction, seed)


def official_split(clips: Clips, validation_fraction: float, seed: int) -> Split:
    """Test on takes 0 to 4 of each digit and speaker; validate on some of the other takes.

    Parameters
    ----------
    clips : the recordings
    validation_fraction : share of the other takes, balanced over digits and speakers
    seed : of the choice of the validation takes; the test set doesn't depend on it

    Raises
    ------
    UserError : no such takes, or nothing else
    """
    return _carve(
        clips, clips.takes < OFFICIAL_TEST_TAKES, validation_fraction, seed, "takes 0 to 4"
    )


def speaker_split(clips: Clips, speaker: str, validation_fraction: float, seed: int) -> Split:
    """Leave one speaker out: test on all clips of `speaker`, train and validate on the others.

    Raises
    ------
    UserError : nobody of that name, or nobody else
    """
    if speaker not in clips.speakers:
        known = ", ".join(np.unique(clips.speakers)[:20])
        raise config.UserError(f"no speaker {speaker!r} in the data; there are {known}")
    return _carve(clips, clips.speakers == speaker, validation_fraction, seed, f"{speaker}'s clips")


def random_split(clips: Clips, validation_fraction: float, seed: int) -> Split:
    """Test on a fifth of the clips, drawn by digit and speaker.

    The same speakers are in training and test and the takes are near-copies of one another, so
    this flatters; it is here to compare with others' figures only.
    """
    rng = np.random.default_rng([seed, 1])  # another stream than that of the validation set
    test = np.zeros(len(clips), bool)
    test[stratified(clips, np.arange(len(clips)), RANDOM_TEST_FRACTION, rng)] = True
    return _carve(clips, test, validation_fraction, seed, "a fifth of the clips")


def _carve(clips: Clips, test: np.ndarray, fraction: float, seed: int, what: str) -> Split:
    """Share out what is not in `test`, bool (n,), between training and validation."""
    rest = np.flatnonzero(~test)
    validation = stratified(clips, rest, fraction, np.random.default_rng(seed))
    train = np.setdiff1d(rest, validation)
    if not (test.any() and len(validation) and len(train)):
        raise config.UserError(
            f"{len(clips)} clips are too few to test on {what}: the test, "
            "validation or training set would be empty"
        )
    return Split(train, validation, np.flatnonzero(test))


def stratified(
    clips: Clips, indices: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw round(fraction x size) clips of each digit and speaker; sorted indices.

    Where that would give none of some digit and speaker, the speakers are pooled; where it would
    give none of some digit, so are the digits.
    """
    digits = np.unique(clips.labels[indices], return_inverse=True)[1]
    speakers = np.unique(clips.speakers[indices], return_inverse=True)[1]
    for cells in (digits * (speakers.max(initial=0) + 1) + speakers, digits, np.zeros_like(digits)):
        sizes = np.unique(cells, return_counts=True)[1]
        if fraction * sizes.min(initial=len(indices)) >= 0.5:
            break
    drawn = []
    for cell in np.unique(cells):
        members = rng.permutation(indices[cells == cell])
        drawn.append(members[: int(fraction * len(members) + 0.5)])  # halves are rounded up
    return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, np.int64)


@dataclass(frozen=True)
class KeptAside:
    """What training never sees of the corpora beside FSDD; bool (n,) each."""

    by_speaker: np.ndarray
    """Clips of speakers who are kept aside."""
    by_word: np.ndarray
    """Non-digits whose word is kept aside, whoever says it."""

    @property
    def either(self) -> np.ndarray:
        """Everything that validates, and never trains."""
        return self.by_speaker | self.by_word


def keep_aside(clips: Clips, fraction: float, seed: int, reject: int = config.REJECT) -> KeptAside:
    """Choose the speakers of each corpus, and the words, that only validate.

    A speaker has one name in all parts of a corpus, so digits and other words of a person stay
    together. Speakers whom nobody has told apart (they are called unknown) are never kept aside,
    nor are your own recordings and corpora of a few single voices; of these only words are.

    Parameters
    ----------
    clips : of any corpora
    fraction : share of the speakers of each corpus; where that is nobody, of all corpora together
    seed : of the choice of speakers; the words are always the same
    reject : class index of words that are no label
    """
    known = registry.known()
    corpora = [str(name) for name in np.unique(clips.corpus)]
    people = [name for name in corpora if name not in known or known[name].people]
    ours = [name for name in corpora if name in known and name != "own"]
    words = (clips.labels == reject) & np.isin(clips.corpus, ours)
    by_word = np.zeros(len(clips), bool)
    by_word[words] = [is_kept_aside(word_of(name)) for name in clips.names[words]]
    return KeptAside(_of_drawn_speakers(clips, people, fraction, seed), by_word)


def _of_drawn_speakers(
    clips: Clips, corpora: Collection[str], fraction: float, seed: int
) -> np.ndarray:
    """Mark the clips, bool (n,), of a share of the speakers of each corpus, or of all together."""
    told_apart = ~np.char.startswith(clips.speakers, layouts.UNKNOWN_SPEAKER)
    groups = [told_apart & (clips.corpus == name) for name in corpora]
    rng = np.random.default_rng(seed)
    drawn = [_draw(np.unique(clips.speakers[group]), fraction, rng) for group in groups]
    if not any(map(len, drawn)):
        groups = [told_apart & np.isin(clips.corpus, list(corpora))]
        drawn = [_draw(np.unique(clips.speakers[groups[0]]), fraction, rng)]
    marked = np.zeros(len(clips), bool)
    for group, speakers in zip(groups, drawn, strict=True):
        marked |= group & np.isin(clips.speakers, speakers)
    return marked


def _draw(speakers: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(speakers)[: round(fraction * len(speakers))]


def word_of(name: str) -> str:
    """The word of a clip that is named WORD_SPEAKER_TAKE."""
    return str(name).split("_")[0].lower()


def label_oh(clips: Clips) -> Clips:
    """The same clips, but zeros and non-digits whose name says "oh" have a label of their own."""
    says_oh = np.array([word_of(name) in OH_WORDS for name in clips.names], bool)
    labelled = copy.copy(clips)
    labelled.labels = np.where(
        says_oh & np.isin(clips.labels, (0, config.REJECT)), config.OH, clips.labels
    )
    return labelled


def is_kept_aside(word: str) -> bool:
    """Whether a non-digit is one of those that training never hears: 8 % of all words, drawn once.

    The rule depends on nothing but the word, so that it is kept aside in every corpus.
    """
    digest = hashlib.sha256(f"{WORDS_DRAWN} {word}".encode()).digest()
    return int.from_bytes(digest, "big") % 100 < WORDS_KEPT_ASIDE


def digit_repeats(clips: Clips, reject: int = config.REJECT) -> np.ndarray:
    """How often to show each clip, so that the digits of a corpus come equally often: int64 (n,).

    The clips of a digit that has a third of the commonest digit's are shown three times, those of
    the rarest :data:`MAX_REPEATS` times at most; non-digits once.
    """
    repeats = np.ones(len(clips), np.int64)
    for name in np.unique(clips.corpus):
        digits = np.flatnonzero((clips.corpus == name) & (clips.labels != reject))
        counts = np.bincount(clips.labels[digits], minlength=reject)
        wanted = np.rint(counts.max() / np.maximum(counts, 1)).astype(np.int64)
        repeats[digits] = np.minimum(wanted, MAX_REPEATS)[clips.labels[digits]]
    return repeats


def refuse_shared(training: Clips, others: Mapping[str, Clips]) -> None:
    """Refuse a recording that trains and is also in another set, found by its samples.

    Parameters
    ----------
    training : what trains
    others : name of a set, such as "test" -> its clips

    Raises
    ------
    UserError : names the first of such recordings
    """
    seen = {_content(training, index): index for index in range(len(training))}
    seen.pop(None, None)
    for title, clips in others.items():
        shared = [(i, seen[key]) for i in range(len(clips)) if (key := _content(clips, i)) in seen]
        if shared:
            theirs, ours = shared[0]
            raise config.UserError(
                f"{len(shared)} recordings are in training and {title}, such as "
                f"{training.corpus[ours]}/{training.names[ours]}, which is "
                f"{clips.corpus[theirs]}/{clips.names[theirs]}: take them out of one of the two"
            )


def _content(clips: Clips, index: int) -> bytes | None:
    """A digest of a clip's samples; None for silence, which many recordings may be."""
    samples = clips.stored(index)
    return hashlib.blake2b(samples.tobytes(), digest_size=16).digest() if samples.any() else None
