"""Strings of digits with a pause after each, for networks that tell single digits only.

The network that hears fluent strings knows English alone; the digits of other languages are found
one by one, and so must be spoken one by one.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import audio_io
import config
from audio_io import Recording
from recognition.digit_strings import SpokenDigit, StringRecognizer, StringResult
from recognition.recognizer import Recognizer
from recognition.runtime import load_predictor
from recognition.string_constraints import meets, wish
from recognition.string_networks import can_load

PAUSES = "digits are heard one by one: leave a pause after each"


class PausedStrings:
    """Recordings to strings, as :class:`recognition.digit_strings.StringRecognizer` does it.

    Parameters
    ----------
    recognizer : tells single digits
    settings : constraints, which a string can only meet or fail
    """

    def __init__(self, recognizer: Recognizer, settings: config.StringsSettings) -> None:
        self.recognizer, self.settings, self.rate = recognizer, settings, recognizer.rate

    def stream(self) -> NoReturn:
        """Live digits are what --continuous is for.

        Raises
        ------
        UserError : always
        """
        raise config.UserError(
            "strings: no network there hears fluent digits in this language: use --continuous, and "
            "leave a pause after each digit"
        )

    def recognize_file(self, path: Path | str) -> StringResult:
        """The string in a sound file.

        Raises
        ------
        AudioError : it can't be read; the text says why
        """
        return self.recognize(audio_io.read_recording(path))

    def recognize(self, recording: Recording) -> StringResult:
        """The string in one recording."""
        heard = self.recognizer.recognize(recording)
        spoken = [
            SpokenDigit(one.digit, one.start_s, one.end_s, one.confidence)
            for one in heard.segments
            if one.digit is not None and one.confidence >= self.settings.least_confidence
        ]
        fits = meets("".join(str(one.digit) for one in spoken), self.settings)
        remarks = [*recording.remarks, PAUSES]
        if self.settings.constrained and not fits:
            remarks.append(f"the string is not one that {wish(self.settings)}")
        seconds = recording.seconds
        return StringResult(spoken, recording.source, seconds, remarks, fits)


def string_recognizer(
    decision: config.DecisionSettings, settings: config.StringsSettings
) -> StringRecognizer | PausedStrings:
    """What hears strings of digits, with the networks that the settings name.

    Raises
    ------
    UserError : nothing there hears digits
    """
    if not can_load(decision) and decision.there():
        predictor = load_predictor(decision)
        vocabulary = predictor.vocabulary
        if not vocabulary.is_digits:
            raise config.UserError(
                f"strings: the networks in {decision.models_dir} tell words, not digits"
            )
        if vocabulary.language != "en":
            return PausedStrings(Recognizer(predictor), settings)
    return StringRecognizer(decision, settings)
