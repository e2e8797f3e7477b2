"""eSpeak NG in process: any text, in any of its voices or an invented one, as a waveform.

The library and its data come with the wheel ``espeakng-loader``; ``ctypes`` calls it, so there is
no program to install and no process to start. Reference: ``speak_lib.h`` of eSpeak NG 1.52.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import audio_io
import config

SAMPLE_RATE = 22050
"""Hz of everything eSpeak NG says."""
LANGUAGES = (
    "en",
    "es",
    "fr",
    "de",
    "it",
    "pt",
    "nl",
    "sv",
    "no",
    "da",
    "pl",
    "cs",
    "ru",
    "uk",
    "ro",
    "hu",
    "fi",
    "el",
    "tr",
    "ar",
    "fa",
    "hi",
    "bn",
    "ta",
    "te",
    "mr",
    "gu",
    "kn",
    "ml",
    "pa",
    "ur",
    "ne",
    "id",
    "sw",
    "bg",
    "hr",
    "ko",
    "he",
    "et",
    "cmn",
)
"""Languages whose dictionaries are always taken along; all others would only cost time to copy."""
_RETRIEVAL_SYNCHRONOUS = 2
_NO_EXIT = 0x8000  # by default the library ends the process where its data is missing
_RATE, _PITCH, _PITCH_RANGE = 1, 3, 4
_UTF8, _PHONEMES_IN_BRACKETS = 1, 0x100
_IPA = 2
_INSTALL = "install it with: pip install espeakng-loader"
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Espeak:
    """One private copy of the eSpeak NG library, in its initial state.

    eSpeak keeps phases and random numbers from one utterance to the next and never resets them.
    Loading a fresh copy of the library for each instance makes the sound depend on the calls to
    this instance alone, so the same calls give the same samples in every process. Copying the data
    too keeps clear of the library's limit of 160 bytes for the path to it, and lets
    :meth:`add_voice` write voices.

    Parameters
    ----------
    voice : a language whose dictionary is needed beside those of :data:`LANGUAGES`

    Raises
    ------
    config.UserError : the wheel is missing or broken; says how to install it
    """

    def __init__(self, voice: str = "") -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="espeak-", ignore_cleanup_errors=True)
        more = [voices()[voice]] if voice else []
        self._data, library = _copy_installation(Path(self._folder.name), more)
        try:
            self._library = ctypes.CDLL(str(library))
            self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
            rate = self._library.espeak_Initialize(
                _RETRIEVAL_SYNCHRONOUS, 0, os.fsencode(self._data), _NO_EXIT
            )
        except (OSError, AttributeError) as error:
            raise config.UserError(f"eSpeak NG can't be loaded ({error}): {_INSTALL}") from None
        if rate != SAMPLE_RATE:
            raise config.UserError(f"eSpeak NG has no usable data: {_INSTALL}")
        self._pieces: list[np.ndarray] = []
        self._callback = _CALLBACK(self._receive)  # kept: ctypes does not hold a reference
        self._library.espeak_SetSynthCallback(self._callback)
        self._voice = ""
        self.seed(0)

    def _receive(self, samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def seed(self, seed: int) -> None:
        """Seed the noise of breath and fricatives (older versions have no such function)."""
        if hasattr(self._library, "espeak_ng_SetRandSeed"):
            self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        if sys.platform != "win32":  # on Windows the copied DLL brings a generator of its own
            ctypes.CDLL(None).srand(ctypes.c_uint(seed % 2**31))

    def add_voice(self, name: str, lines: list[str]) -> None:
        """Add a voice variant; afterwards ``en-us+name`` can be spoken with."""
        text = "\n".join(["language variant", f"name {name}", *lines, ""])
        (self._data / "voices" / "!v" / name).write_text(text, encoding="utf-8")

    def variants(self) -> list[str]:
        """Names of all voice variants, sorted."""
        return sorted(path.name for path in (self._data / "voices" / "!v").iterdir())

    def _use(self, voice: str) -> None:
        if voice == self._voice:
            return
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"eSpeak NG has no voice {voice!r}")
        self._voice = voice

    def speak(
        self,
        text: str,
        voice: str = "en-us",
        rate: int = 160,
        pitch: int = 50,
        pitch_range: int = 50,
    ) -> np.ndarray:
        """Say `text`.

        Parameters
        ----------
        text : words, or eSpeak's phoneme mnemonics in double brackets
        voice : language, or language+variant
        rate : words a minute, 80 to 450
        pitch, pitch_range : 0 to 100; 50 is the voice's own

        Returns
        -------
        waveform : float32 (samples,), in [-1, 1], at :data:`SAMPLE_RATE`
        """
        self._use(voice)
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_PITCH_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, int(value), 0)
        self._pieces = []
        data = text.encode() + b"\0"
        flags = _UTF8 | _PHONEMES_IN_BRACKETS
        self._library.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 1, 0, flags, None, None)
        self._library.espeak_Synchronize()
        if not self._pieces:
            return np.zeros(0, np.float32)
        return audio_io.to_float(np.concatenate(self._pieces))

    def phonemes(self, text: str, voice: str = "en-us", ipa: bool = False) -> str:
        """How `voice` pronounces `text`: IPA, or eSpeak's mnemonics with spaces between them."""
        self._use(voice)
        pointer = ctypes.c_char_p(text.encode())
        mode = _IPA if ipa else ord(" ") << 8
        sounds = self._library.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, mode)
        return sounds.decode().strip()


@functools.cache
def voices() -> dict[str, str]:
    """The languages that eSpeak NG has, each with the name of its dictionary.

    Raises
    ------
    config.UserError : the wheel is missing
    """
    found: dict[str, str] = {}
    data = _installation()[0]
    for path in sorted(path for path in (data / "lang").rglob("*") if path.is_file()):
        lines = [line.split() for line in path.read_text("utf-8", "replace").splitlines()]
        named = [words[1] for words in lines if words[:1] == ["dictionary"] and len(words) > 1]
        dictionary = [*named, path.name.split("-")[0].lower()][0]
        if (data / f"{dictionary}_dict").is_file():
            found[path.name.lower()] = dictionary
    return found


def _installation() -> tuple[Path, Path]:
    """Where the wheel has its data and its library."""
    try:
        import espeakng_loader

        return Path(espeakng_loader.get_data_path()), Path(espeakng_loader.get_library_path())
    except (ImportError, RuntimeError):
        raise config.UserError(f"eSpeak NG is not installed: {_INSTALL}") from None


def _copy_installation(target: Path, more: list[str]) -> tuple[Path, Path]:
    """Copy the library and the data that English, the accents and `more` languages need.

    Returns both new paths.
    """
    data, library = _installation()
    new_data = target / "espeak-ng-data"
    try:
        for folder in ("lang", "voices"):
            shutil.copytree(data / folder, new_data / folder)
        wanted = ["phontab", "phonindex", "phondata", "intonations"]
        wanted += [f"{language}_dict" for language in (*LANGUAGES, *more)]
        for name in wanted:
            if (data / name).exists():
                shutil.copyfile(data / name, new_data / name)
        return new_data, Path(shutil.copyfile(library, target / library.name))
    except OSError as error:
        raise config.UserError(f"eSpeak NG's files can't be copied ({error}): {_INSTALL}") from None
