"""Find the recordings, check them and load them as labelled clips.

python dataset_loader.py      fetches and verifies FSDD, and prints a table of what is in it
"""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import audio_io
import config
import utils
from corpora import download, fsdd_archive
from corpora.clips import Clips, concatenate
from splits import Split, make_split, official_split, random_split, speaker_split

__all__ = [
    "Clips",
    "Split",
    "load_folder",
    "load_fsdd",
    "load_noise",
    "load_training_clips",
    "make_split",
    "official_split",
    "random_split",
    "speaker_split",
]

FSDD_FOLDER = "free-spoken-digit-dataset-1.0.10"
"""Where a downloaded archive is unpacked, below the data folder."""
CACHE_VERSION = 1
"""Counted up whenever decoding or resampling changes, so that old caches are not used."""
NAMED_FILES = 10
"""Skipped files that are named; the rest is counted."""
MAX_NOISE_SECONDS = 3600.0
"""s. Backgrounds may be longer than words."""
CLIP_NAME = re.compile(r"(?P<label>[A-Za-z]+|\d)_(?P<speaker>.+)_(?P<take>\d+)")
THREE_WAYS = (
    "three ways to get FSDD: connect to the internet and run this again; or fetch {url} "
    "elsewhere and name the archive or folder with FSDD_ARCHIVE or --data.fsdd-archive; "
    "or unpack it below {root}"
)


def load_fsdd(data: config.DataSettings, audio: config.AudioSettings) -> Clips:
    """The 3,000 clips of FSDD v1.0.10, sorted by name, verified to the last sample.

    The first load decodes everything into one cache file below ``data.root``; later ones take
    that, unless the recordings or the sample rate have changed.

    Raises
    ------
    UserError : no way to get the data, or the data are not those of the release
    """
    source = find_fsdd(data)
    cache = data.root / "cache" / f"fsdd-{audio.sample_rate}.npz"
    key = f"{CACHE_VERSION} {audio.sample_rate} {fsdd_archive.CONTENT_SHA256} {_state(source)}"
    stored = Clips.load(cache, key)
    if stored is not None:
        return stored
    recordings = fsdd_archive.read_verified(source)
    waveforms = [
        audio_io.resample(audio_io.to_float(samples), fsdd_archive.SAMPLE_RATE, audio.sample_rate)
        for samples in recordings.values()
    ]
    digits, speakers, takes = zip(*(name.split("_") for name in recordings), strict=True)
    clips = Clips.from_waveforms(
        waveforms,
        [int(digit) for digit in digits],
        speakers,
        list(recordings),
        [int(take) for take in takes],
        "fsdd",
        audio.sample_rate,
    )
    try:
        clips.save(cache, key)
    except OSError as error:
        _warn(f"no cache for faster loading: {cache}: {error.strerror or error}")
    return clips


def find_fsdd(data: config.DataSettings) -> Path:
    """The folder or archive with FSDD: what the user names, else what is unpacked, else a download.

    Raises
    ------
    UserError : what the user names doesn't exist, or nothing is there and the download fails
    """
    ways = THREE_WAYS.format(url=data.fsdd_url, root=data.root)
    if data.fsdd_archive is not None:
        if not data.fsdd_archive.exists():
            raise config.UserError(f"{data.fsdd_archive}: no such archive or folder; {ways}")
        return data.fsdd_archive
    found = fsdd_archive.find_recordings(data.root)
    if found is not None:
        return found
    archive = data.root / "fsdd-1.0.10.zip"
    try:
        if not archive.exists():
            download.fetch(data.fsdd_url, archive)
    except download.DownloadError as error:
        raise config.UserError(f"{error}; {ways}") from None
    try:
        fsdd_archive.unpack(archive, data.root / FSDD_FOLDER)
    except fsdd_archive.DataError:
        archive.unlink()  # so that the next attempt fetches it anew
        raise
    archive.unlink()
    return data.root / FSDD_FOLDER / "recordings"


def _state(source: Path) -> str:
    """A digest that changes when a file of `source` is added, removed, renamed or written to."""
    place = fsdd_archive.find_recordings(source) if source.is_dir() else source
    paths = sorted(place.iterdir()) if place is not None and place.is_dir() else [source]
    digest = hashlib.sha256(str(source.resolve()).encode())
    for path in paths:
        facts = path.stat()
        digest.update(
            f"{path.name} {facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}\n".encode()
        )
    return digest.hexdigest()


def load_folder(
    folder: Path,
    audio: config.AudioSettings,
    corpus: str | None = None,
    label_from_name: bool = True,
) -> Clips:
    """All recordings below `folder`, named ``{digit or word}_{speaker}_{take}``, resampled.

    Files with other names, without sound or unreadable are named on standard error, and skipped.

    Parameters
    ----------
    folder : searched with its subfolders
    audio : the sample rate, and the longest clip accepted
    corpus : name for all clips; by default that of the first folder on the way to each, which is
        `folder` itself for files directly in it
    label_from_name : False takes any name, and "no digit" as label

    Returns
    -------
    clips : sorted by path; words other than the ten digits' are config.REJECT

    Raises
    ------
    UserError : no such folder, or no usable recording in it
    """
    rows, skipped = [], []
    paths = _sound_files(folder)
    for path in paths:
        try:
            digit, speaker, take = _label(path) if label_from_name else (config.REJECT, "", 0)
            waveform, _ = audio_io.read_audio(path, audio.sample_rate, audio.max_seconds)
            inner = path.relative_to(folder).parts[:-1]
            rows.append(
                (
                    waveform,
                    digit,
                    speaker,
                    path.stem,
                    take,
                    corpus or (inner[0] if inner else folder.resolve().name),
                )
            )
        except config.UserError as error:
            skipped.append(str(error))
    _report_skipped(folder, skipped, len(paths))
    return Clips.from_waveforms(*zip(*rows, strict=True), audio.sample_rate)


def _label(path: Path) -> tuple[int, str, int]:
    """Digit, speaker and take from a file's name."""
    match = CLIP_NAME.fullmatch(path.stem)
    if match is None:
        raise config.UserError(f"{path}: not named like 7_speaker_0 or word_speaker_0")
    word = match["label"].lower()
    labels = {
        **{name: int(name) for name in config.DIGITS},
        **{name: digit for digit, name in enumerate(config.DIGIT_WORDS)},
    }
    return labels.get(word, config.REJECT), match["speaker"], int(match["take"])


def load_noise(folder: Path, sample_rate: int) -> list[np.ndarray]:
    """All sound files below `folder` as float32 (samples,), resampled, sorted by path.

    Raises
    ------
    UserError : no such folder, or no usable sound in it
    """
    noises, skipped = [], []
    paths = _sound_files(folder)
    for path in paths:
        try:
            noises.append(audio_io.read_audio(path, sample_rate, MAX_NOISE_SECONDS)[0])
        except config.UserError as error:
            skipped.append(str(error))
    _report_skipped(folder, skipped, len(paths))
    return noises


def _sound_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise config.UserError(f"{folder}: no such folder")
    files = audio_io.find_audio(folder)
    if files.remark():
        _warn(f"{folder}: {files.remark()}")
    return files.paths


def _report_skipped(folder: Path, skipped: list[str], total: int) -> None:
    for message in skipped[:NAMED_FILES]:
        _warn(f"skipped {message}")
    if skipped:
        _warn(f"{len(skipped)} of {total} files in {folder} skipped")
    if len(skipped) == total:
        raise config.UserError(f"{folder}: no usable sound file in it ({total} found)")


def load_training_clips(
    data: config.DataSettings,
    audio: config.AudioSettings,
    synthetic: config.SyntheticSettings,
    seed: int,
) -> tuple[Clips | None, Clips, str]:
    """Load the corpora that ``data.corpora`` names.

    Under "auto", FSDD or the synthetic speakers may be missing, with a warning; and wherever
    eSpeak NG is missing, training goes on without synthetic speakers if anything else is named.

    Returns
    -------
    fsdd : the clips to split by protocol; None where FSDD is not asked for, or not to be had
    extra : clips for training only, perhaps none: synthetic, own, folders
    corpora : what was loaded, such as "fsdd+synthetic"; belongs into every result

    Raises
    ------
    UserError : an unknown corpus, one that can't be loaded, or nothing left
    """
    automatic, wanted = _named_corpora(data.corpora)
    loaded, failures = {}, []
    for name in wanted:
        try:
            loaded[name] = _corpus(name, data, audio, synthetic, seed)
        except config.UserError as error:
            if name != "synthetic" and not (name == "fsdd" and automatic):
                raise
            failures.append(str(error))
            _warn_loudly(name, str(error))
    if not loaded:
        raise config.UserError("; ".join(failures) or "data.corpora names nothing")
    fsdd = loaded.pop("fsdd", None)
    names = ["fsdd"] * (fsdd is not None) + [Path(name).name for name in loaded]
    nothing = Clips.from_waveforms([], [], [], [], [], "", audio.sample_rate)
    return fsdd, concatenate([nothing, *loaded.values()]), "+".join(names)


def _named_corpora(text: str) -> tuple[bool, list[str]]:
    """Whether "auto" is among the comma-separated names, and the names with it written out."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    written_out = {"auto": ("fsdd", "synthetic")}
    names = [name for word in words for name in written_out.get(word, (word,))]
    return "auto" in words, list(dict.fromkeys(names))


def _corpus(
    name: str,
    data: config.DataSettings,
    audio: config.AudioSettings,
    synthetic: config.SyntheticSettings,
    seed: int,
) -> Clips:
    """One corpus by its name in ``data.corpora``."""
    if name == "fsdd":
        return load_fsdd(data, audio)
    if name == "synthetic":
        return _synthetic(data, audio, synthetic, seed)
    if name == "own":
        if not data.own_dir.is_dir():
            raise config.UserError(
                f"{data.own_dir}: no recordings of your own yet; microphone_inference.py makes some"
            )
        return load_folder(data.own_dir, audio, corpus="own")
    if not Path(name).is_dir():
        raise config.UserError(
            f"data.corpora: {name!r} is neither auto, fsdd, synthetic, own nor a folder"
        )
    return load_folder(Path(name), audio)


def _synthetic(
    data: config.DataSettings,
    audio: config.AudioSettings,
    synthetic: config.SyntheticSettings,
    seed: int,
) -> Clips:
    try:
        from corpora.synthetic import synthesize  # loads speech synthesisers: only if asked for

        return synthesize(synthetic, seed, audio.sample_rate, data.root / "cache")
    except ImportError as error:
        raise config.UserError(
            f"no synthetic speakers: {error}; pip install -r requirements.txt brings what they need"
        ) from None


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _warn_loudly(corpus: str, reason: str) -> None:
    """A warning that can't be overlooked among progress bars."""
    effect = {
        "fsdd": "NO REAL SPEECH (FSDD): going on with synthetic speakers alone. "
        "Scores will be lower, and mean less.",
        "synthetic": "NO SYNTHETIC SPEAKERS: going on without them. "
        "Strangers' voices will be recognised less well.",
    }[corpus]
    rule = "!" * 96
    print(f"{rule}\n!!! {effect}\n!!! Why: {reason}\n{rule}", file=sys.stderr)


@dataclass(frozen=True)
class LoaderSettings:
    """What the script looks at."""

    data: config.DataSettings = field(default_factory=config.DataSettings)
    audio: config.AudioSettings = field(default_factory=config.AudioSettings)


def run(settings: LoaderSettings) -> None:
    """Fetch and verify FSDD and print what is in it."""
    clips = load_fsdd(settings.data, settings.audio)
    print(
        f"{find_fsdd(settings.data)}: FSDD v1.0.10, every sample verified "
        f"(SHA-256 {fsdd_archive.CONTENT_SHA256[:16]}...)\n"
    )
    print(describe(clips))


def describe(clips: Clips) -> str:
    """A table of clips by digit and speaker, with durations, rate and levels."""
    speakers, labels = np.unique(clips.speakers), np.unique(clips.labels)
    levels = np.array([audio_io.dbfs(audio_io.rms(clips.waveform(i))) for i in range(len(clips))])
    seconds = clips.durations
    width = max(map(len, speakers), default=0) + 2
    quantities = (
        ("median s", np.median, seconds),
        ("shortest s", np.min, seconds),
        ("longest s", np.max, seconds),
        ("RMS dBFS", np.median, levels),
    )

    def line(title: str, chosen: np.ndarray) -> str:
        counts = [np.count_nonzero(clips.labels[chosen] == label) for label in labels]
        numbers = "".join(f"{count:5d}" for count in [*counts, np.count_nonzero(chosen)])
        return f"{title:{width}}{numbers}" + "".join(
            f"{function(values[chosen]):11.2f}" for _, function, values in quantities
        )

    heads = [config.DIGITS[label] if label < config.REJECT else "other" for label in labels]
    header = " " * width + "".join(f"{head:>5}" for head in [*heads, "all"])
    rows = [header + "".join(f"{name:>11}" for name, _, _ in quantities)]
    rows += [line(speaker, clips.speakers == speaker) for speaker in speakers]
    rows += [line("all", np.ones(len(clips), bool))] if len(clips) else []
    return "\n".join(rows) + (
        f"\n\n{len(clips)} clips of {len(speakers)} speakers, "
        f"{seconds.sum() / 60:.1f} minutes, {clips.sample_rate} Hz"
    )


if __name__ == "__main__":
    utils.main(run, LoaderSettings, __doc__)
