"""What the web app is started with, and what its users choose on the page of settings."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import config
import utils

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine that no other can reach."""
PASSWORD_VARIABLE = "DIGITS_AUTH"
"""Environment variable with name:password, which --auth would show to other users."""
THEMES = ("system", "light", "dark")
VOTE = "vote"
"""The choice of all networks together."""


@dataclass(frozen=True)
class ServerSettings:
    """Who may ask, and how much."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in."""
    port: int = 7860
    """Port to listen on; 0 takes any free one."""
    browser: bool = True
    """Open the page in the browser."""
    auth: str = ""
    """name:password that is asked for; better in the environment variable DIGITS_AUTH."""
    certificate: Path | None = None
    """TLS certificate (PEM); with --key, the pages are served by https."""
    key: Path | None = None
    """TLS key (PEM)."""
    allowed_hosts: tuple[str, ...] = ()
    """Names that the server is called by, besides this machine's own; * for any."""
    max_request_mb: float = 64.0
    """MB in one request; a larger one is refused before it is read."""
    max_seconds: float = 60.0
    """s of one recording."""
    max_files: int = 1000
    """Files in one batch."""
    requests_per_minute: int = 3000
    """Recordings and uploads that one address may send in a minute; 0 is no limit."""
    max_waiting: int = 256
    """Requests that may wait for their turn; more are told to come back."""
    access_log: Path | None = None
    """File to which each request is logged as a line of JSON; - is standard error."""
    live: config.LiveSettings = field(default_factory=config.LiveSettings)
    """Where the history, the choices and your own clips are kept, and how the stream is cut."""
    cleaning: config.CleaningSettings = field(default_factory=config.CleaningSettings)
    """How recordings are cleaned, where the page of settings does not say otherwise."""
    decision: config.DecisionSettings = field(default_factory=config.DecisionSettings)
    """Which networks answer, where the page of settings does not say otherwise."""

    def __post_init__(self) -> None:
        if self.auth and not all(self.auth.partition(":")):
            raise config.UserError("auth must be name:password")
        if (self.certificate is None) != (self.key is None):
            raise config.UserError("TLS needs both: --certificate FILE --key FILE")
        for path in (self.certificate, self.key):
            if path is not None and not path.is_file():
                raise config.UserError(f"{path}: no such file")
        for name, low, high in (
            ("port", 0, 65535),
            ("max_request_mb", 0.1, 4096),
            ("max_seconds", 1, 3600),
            ("max_files", 1, 100_000),
            ("requests_per_minute", 0, 10_000_000),
            ("max_waiting", 1, 100_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                option = name.replace("_", "-")
                raise config.UserError(f"{option} is {value:g}: use {low:g} to {high:g}")

    @property
    def credentials(self) -> str:
        """name:password that is asked for; "" lets everybody in."""
        found = self.auth or os.environ.get(PASSWORD_VARIABLE, "")
        if found and not all(found.partition(":")):
            raise config.UserError(f"{PASSWORD_VARIABLE} must be name:password")
        return found

    @property
    def max_bytes(self) -> int:
        """Bytes in one request."""
        return int(self.max_request_mb * 1e6)

    @property
    def folder(self) -> Path:
        """Where the app keeps what it must not forget."""
        return self.live.recordings_dir


@dataclass(frozen=True)
class Choices:
    """What the page of settings offers."""

    models: str = VOTE
    """All networks together, or the name of one."""
    runtime: Literal["auto", "onnx", "torch"] = "auto"
    highpass: bool = True
    gate: Literal["auto", "on", "off"] = "auto"
    trim: bool = True
    """Find the speech; off takes the whole recording."""
    sensitivity: int = 1
    """0 (least sound is speech) to 3 (most is): 3 less the aggressiveness of WebRTC's detector."""
    threshold: float = 0.0
    """Confidence that a digit needs at least; the networks' own threshold holds as well."""
    continuous_threshold: float = 0.75
    """The same, for digits out of a stream."""
    oh: bool = False
    """Take "oh" for zero."""
    theme: Literal["system", "light", "dark"] = "system"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("runtime", ("auto", "onnx", "torch")),
            ("gate", ("auto", "on", "off")),
            ("theme", THEMES),
            ("sensitivity", range(4)),
        ):
            if getattr(self, name) not in allowed:
                raise config.UserError(f"{name}: use one of {', '.join(map(str, allowed))}")
        for name in ("threshold", "continuous_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise config.UserError(f"{name}: use 0 to 1")

    def decision(self, base: config.DecisionSettings, models: str = "") -> config.DecisionSettings:
        """The networks and when they answer, from what the program was started with."""
        models, place = models or self.models, base.models_dir
        if models != VOTE:
            place = (place.parent if place.suffix else place) / f"{models}.pt"
        return dataclasses.replace(
            base, models_dir=place, runtime=self.runtime, oh=self.oh or base.oh
        )

    def cleaning(self, base: config.CleaningSettings) -> config.CleaningSettings:
        """How recordings are cleaned, from what the program was started with."""
        return dataclasses.replace(
            base,
            highpass_hz=base.highpass_hz if self.highpass else 0.0,
            gate=self.gate,
            vad=self.trim,
            vad_mode=3 - self.sensitivity,
        )


class ChoiceStore:
    """The choices, kept in a file of JSON."""

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        self.choices = self._read()

    def _read(self) -> Choices:
        """What was saved; defaults for what is missing, unknown or out of range."""
        try:
            stored: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
            known = {item.name for item in dataclasses.fields(Choices)}
            return Choices(**{name: value for name, value in stored.items() if name in known})
        except (OSError, ValueError, TypeError, AttributeError, config.UserError):
            return Choices()

    def save(self, choices: Choices) -> None:
        """Keep these."""
        with self._lock:
            utils.write_json(self.path, choices)
            self.choices = choices
