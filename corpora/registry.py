"""The corpora by name: every file of this folder registers what it can load.

A corpus is one file with one function::

    @register("counting", licence="CC0", about="children who count to nine")
    def load(request: Request) -> Clips:
        return load_folder(Path("counting"), request.audio, corpus="counting")

Its name can then be used in ``--data.corpora``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import config
import corpora
from corpora.clips import Clips


class Unavailable(config.UserError):
    """A corpus that lies nowhere and can't be fetched; training may go on without it."""


_REGISTRY: dict[str, Corpus] = {}


@dataclass(frozen=True)
class Request:
    """What a corpus is told when it is to be loaded."""

    data: config.DataSettings
    audio: config.AudioSettings
    synthetic: config.SyntheticSettings = field(default_factory=config.SyntheticSettings)
    seed: int = 0
    vocabulary: config.Vocabulary = config.ENGLISH_DIGITS


@dataclass(frozen=True)
class Corpus:
    """A collection of labelled recordings."""

    name: str
    """As it is named in ``data.corpora``."""
    licence: str
    """Of the recordings."""
    about: str
    """What it is, in a few words."""
    load: Callable[[Request], Clips]
    """Reads it; raises UserError where it can't be had."""
    place: Callable[[Request], Path | None]
    """Where it lies, fetched if need be; None where nothing is there yet."""
    without: str = ""
    """What is lost without it, in a few words."""
    people: bool = True
    """Whether its speakers are told apart and enough to keep some aside for validation."""
    fetch: Callable[[Request], None] | None = None
    """Fetches it, where it can be fetched."""
    megabytes: int = 0
    """What fetching it takes."""


def register(
    name: str,
    *,
    licence: str,
    about: str,
    place: Callable[[Request], Path | None] = lambda request: None,
    without: str = "",
    people: bool = True,
    fetch: Callable[[Request], None] | None = None,
    megabytes: int = 0,
) -> Callable[[Callable[[Request], Clips]], Callable[[Request], Clips]]:
    """Make the decorated function the loader of the corpus `name`; see :class:`Corpus`."""

    def add(load: Callable[[Request], Clips]) -> Callable[[Request], Clips]:
        _REGISTRY[name] = Corpus(
            name, licence, about, load, place, without, people, fetch, megabytes
        )
        return load

    return add


def known() -> Mapping[str, Corpus]:
    """Every corpus of this folder by name."""
    for module in pkgutil.iter_modules(corpora.__path__):
        importlib.import_module(f"{corpora.__name__}.{module.name}")
    return dict(sorted(_REGISTRY.items()))
