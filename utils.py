"""Serves every script: command lines from dataclasses, exit codes, whole-or-absent files."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import difflib
import inspect
import io
import itertools
import json
import logging
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import types
import typing
import unicodedata
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import config

Settings = TypeVar("Settings")
RECORDED_PACKAGES = ("torch", "torchaudio", "librosa", "numpy", "scipy", "soundfile", "onnxruntime")

MAX_VALUES = 1_000_000
"""Values in a tensor file at most; the state of a training run has a few thousand."""


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    The rename is atomic, so a reader, a crash or a full disk never meets half a file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner may read
        os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, name):  # a full disk names no file
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time make `path`; the others wait here. A killed one holds nothing up.

    Where no lock can be had, as in a folder that can't be written to, it goes on without.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f".{path.name}.lock"))
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(lock.acquire(timeout=0))
            except Timeout:
                print(f"waiting for another process that makes {path}", file=sys.stderr)
                stack.enter_context(lock.acquire())
        except (OSError, NotImplementedError):
            pass
        yield


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` to `path` as indented JSON, atomically.

    NumPy values are converted; NaN and infinities, which JSON does not have, become null.
    """
    write_text(path, json.dumps(json_value(value), indent=2, allow_nan=False) + "\n")


def json_value(item: Any) -> Any:
    """`item`, also a dataclass or a table, made of what JSON has; anything unknown becomes text."""
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        item = dataclasses.asdict(item)
    if hasattr(item, "to_dict"):  # a table
        item = item.to_dict("records")
    if hasattr(item, "tolist"):
        item = item.tolist()
    if isinstance(item, Mapping):
        return {str(key): json_value(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [json_value(value) for value in item]
    if isinstance(item, float):
        return item if math.isfinite(item) else None
    return item if item is None or isinstance(item, str | int) else str(item)


def save_tensors(path: Path | str, content: dict[str, Any]) -> None:
    """Write tensors and plain values, atomically.

    PyTorch's own writer answers a full disk with RuntimeError; through memory it is an OSError.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def load_tensors(path: Path, remedy: str, device: str = "cpu") -> Any:
    """Read what :func:`save_tensors` wrote; no code in it is run.

    Raises
    ------
    UserError : truncated, altered or another kind of file; ends with `remedy`
    """
    import torch  # 2 s to import: only where networks are used

    stream = io.BytesIO(path.read_bytes())
    try:
        _check_archive(stream)
        with warnings.catch_warnings():  # of pickles that it does not know: they are refused
            warnings.simplefilter("ignore")
            content = torch.load(stream, map_location=device, weights_only=True)
        _check_sizes(content)
        return content
    except Exception:  # bytes that are not ours make these readers raise anything
        raise config.UserError(
            f"{path}: truncated, altered or not a model file; {remedy}"
        ) from None


def _check_archive(stream: io.BytesIO) -> None:
    """Refuse wrong check sums, which torch.load ignores, and what would unpack to more bytes."""
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise zipfile.BadZipFile  # torch.save never compresses
        if sum(member.file_size for member in members) > stream.getbuffer().nbytes:
            raise zipfile.BadZipFile
        if archive.testzip() is not None:
            raise zipfile.BadZipFile
    stream.seek(0)


def _check_sizes(content: object) -> None:
    """Refuse tensors that claim more elements than are stored, and lists of lists without end."""
    import torch

    todo, count = [content], 1
    while todo:
        item = todo.pop()
        if isinstance(item, torch.Tensor):
            if item.layout != torch.strided or item.is_meta:
                raise ValueError
            if item.numel() * item.element_size() > item.untyped_storage().nbytes():
                raise ValueError
        elif isinstance(item, (dict, list, tuple, set)):
            count += len(item)
            if count > MAX_VALUES:
                raise ValueError
            todo += item.values() if isinstance(item, dict) else item


class ProgressHandler(logging.Handler):
    """Prints what is logged, above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        from tqdm import tqdm

        tqdm.write(self.format(record))


def print_log(name: str) -> None:
    """Print what the modules below `name` log."""
    log = logging.getLogger(name)
    log.handlers = [ProgressHandler()]
    log.setLevel(logging.INFO)


@contextlib.contextmanager
def by_product(what: Path | str) -> Iterator[None]:
    """Around the writing of what only accompanies a result: a failure is told, and costs nothing.

    A figure that another program holds open, a read-only folder or a full disk must not cost the
    answer, the report or the trained network.
    """
    try:
        yield
    except OSError as error:
        print(f"warning: {what} not written: {error.strerror or error}", file=sys.stderr)


def available_cores() -> int:
    """Cores this process may use, which containers and schedulers limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def commit() -> str:
    """The commit of this checkout, with "+" for local changes; "unknown" without git."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def printable(text: object) -> str:
    """One line that any terminal can show: control characters and broken bytes are escaped."""
    return "".join(
        letter
        if letter.isprintable() or unicodedata.category(letter) == "Zs"
        else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )


def run_record() -> dict[str, Any]:
    """What made a result: commit, Python, platform, library versions and command line."""
    versions = {}
    for package in RECORDED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


@dataclass(frozen=True)
class Option:
    """One option of a command line, as the help shows it."""

    flag: str
    value: str
    """What it takes: INT, PATH, {on,off}; empty for a switch."""
    text: str
    default: Any = None
    positional: bool = False
    required: bool = False

    def __str__(self) -> str:
        return " ".join(filter(None, ("" if self.positional else self.flag, self.value)))

    def lines(self, width: int) -> list[str]:
        """Its name and, in a second column, what it does."""
        text = self.text + (" (required)" if self.required else "")
        if self.default not in (None, (), "") and self.default is not False:
            text += f" (default: {_shown(self.default)})"
        return _columns(str(self), text, width)


def _columns(name: str, text: str, width: int) -> list[str]:
    """A name, and a text that is wrapped beside it, or below where the name is long."""
    indent = " " * 28
    wrapped = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)
    if len(name) > 24 or not wrapped:
        return [f"  {name}", *wrapped]
    return [f"  {name:26}{wrapped[0].strip()}", *wrapped[1:]]


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, tuple):
        return " ".join(map(_shown, default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def _value(hint: Any) -> str:
    """What an option of this type takes, in a word."""
    inner = [item for item in typing.get_args(hint) if item is not type(None)]
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return "|".join(map(_value, inner))
    if origin is Literal:
        return "{" + ",".join(map(str, inner)) + "}"
    if origin is tuple:
        return " ".join("..." if item is Ellipsis else _value(item) for item in inner)
    return {bool: "", int: "INT", float: "FLOAT", Path: "PATH"}.get(hint, "TEXT")


def _field_texts(settings: type) -> dict[str, str]:
    """The text under each field of a dataclass, in one line."""
    texts = {}
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(settings))).body
    for item, text in itertools.pairwise(ast.iter_child_nodes(tree)):
        if isinstance(item, ast.AnnAssign) and isinstance(text, ast.Expr):
            texts[ast.unparse(item.target)] = " ".join(ast.literal_eval(text.value).split())
    return texts


def options(settings: type, group: str = "") -> tuple[list[Option], dict[str, type]]:
    """The options of a dataclass's own fields, and its groups of further settings by prefix."""
    hints = typing.get_type_hints(settings, include_extras=True)
    texts = _field_texts(settings)
    own: list[Option] = []
    groups: dict[str, type] = {}
    for item in dataclasses.fields(settings):
        hint, positional, renamed = hints[item.name], False, []
        if hasattr(hint, "__metadata__"):
            import tyro

            positional = tyro.conf.Positional in hint.__metadata__
            renamed = [getattr(mark, "name", None) for mark in hint.__metadata__]
            hint = hint.__origin__
        name = next(filter(None, renamed), item.name).replace("_", "-")
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            groups[f"{group}{name}."] = hint
            continue
        required = item.default is item.default_factory is dataclasses.MISSING
        default = None if item.default is dataclasses.MISSING else item.default
        flag = f"--{group}[no-]{name}" if default is True else f"--{group}{name}"
        value = _value(hint)
        if positional:
            value = f"{name.upper()} ..." if value.endswith("...") else name.upper()
        own.append(Option(flag, value, texts.get(item.name, ""), default, positional, required))
    return own, groups


def help_text(settings: type, description: str, everything: bool) -> str:
    """The help of a script: description and own options; `everything`: those of its groups too."""
    width = min(100, shutil.get_terminal_size().columns)
    own, groups = options(settings)
    named = [
        str(item) if item.required else f"[{item}]"
        for item in own
        if item.required or item.positional
    ]
    lines = [f"usage: {Path(sys.argv[0]).name} {' '.join([*named, '[options]'])}", ""]
    lines += [description.strip(), "", "options:"]
    for item in own:
        lines += item.lines(width)
    lines += _columns("--help", "This text.", width)
    if not groups:
        return "\n".join(lines)
    lines += _columns("--help-all", "The same, with every setting of these groups:", width)
    for prefix, group in groups.items():
        about = (inspect.getdoc(group) or "").splitlines()[0]
        lines += (
            ["", f"--{prefix}*: {about}"] if everything else _columns(f"--{prefix}*", about, width)
        )
        for item in options(group, prefix)[0] if everything else ():
            lines += item.lines(width)
    return "\n".join(lines)


def parse_arguments(
    settings: type[Settings], description: str, arguments: list[str] | None = None
) -> Settings:
    """Make a command line from a dataclass and read it.

    Parameters
    ----------
    settings : a dataclass; each field, and each field of its groups, becomes an option
    description : the text that ``--help`` opens with
    arguments : words of the command line; ``sys.argv[1:]`` by default

    Raises
    ------
    config.UserError : unknown option, unreadable or impossible value
    SystemExit : help was asked for, and is printed
    """
    words = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help", "--help-all"} & set(words):
        print(help_text(settings, description, "--help-all" in words), flush=True)
        raise SystemExit(0)
    import tyro  # 0.2 s to import: only scripts pay
    from tyro import _errors  # private, but structured; requirements.txt holds tyro's version

    def refuse(event: Any) -> NoReturn:
        raise config.UserError(f"{_complaint(event, settings)} (see --help)")

    with _errors.on_parse_error(refuse):
        return tyro.cli(settings, args=words, add_help=False)


def _complaint(event: Any, settings: type) -> str:
    """What is wrong with a command line, from what tyro tells of it, in one line."""
    own, groups = options(settings)
    known = own + [item for prefix, group in groups.items() for item in options(group, prefix)[0]]
    if hasattr(event, "missing_arguments"):
        flags = {
            flag for item in event.missing_arguments for flag in item.arg.lowered.name_or_flags
        }
        missing = [f"{item} ({item.text.rstrip('.')})" for item in known if item.flag in flags]
        return f"missing: {'; '.join(missing)}"
    if hasattr(event, "tokens"):
        word = next((word for word in event.tokens if word.startswith("-")), event.tokens[0])
        names = [item.flag.replace("[no-]", "") for item in known]
        close = difflib.get_close_matches(word.split("=")[0], names, n=1)
        return f"{word}: no such option" + (f"; did you mean {close[0]}?" if close else "")
    argument = getattr(event, "argument", None)
    flags = set(argument.lowered.name_or_flags) if argument is not None else set()
    for item in known:
        if item.flag in flags:
            value = f" is {event.value!r}: it" if hasattr(event, "value") else ""
            return f"{item.flag}{value} takes {item.value}"
    return getattr(event, "message", "this command line can't be read")


def main(
    script: Callable[[Settings], int | None],
    settings: type[Settings],
    description: str,
    parse: Callable[[type[Settings], str], Settings] = parse_arguments,
) -> None:
    """Run a script: read its settings, call it, and end with an exit code instead of a traceback.

    Exit codes: 0 done, 1 a :class:`config.UserError` while running, 2 a mistake in the settings,
    130 stopped by Ctrl-C, 141 stopped because nobody reads the output any more (``| head``), 143
    stopped by SIGTERM; what was begun is tidied up first.
    """
    for stream in (sys.stdout, sys.stderr):  # a name that the console can't show ends nothing
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _end)
    mistake = 2
    try:
        chosen = parse(settings, description)
        mistake = 1
        code = script(chosen) or 0
        print(end="", flush=True)
        sys.exit(code)
    except config.UserError as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        sys.exit(mistake)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # What is still in the buffer must go somewhere, or Python complains as it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(f"error: {printable(f'{error.strerror or error}{where}')}", file=sys.stderr)
        sys.exit(1)


@contextlib.contextmanager
def ctrl_c_waits() -> Iterator[None]:
    """Let a Ctrl-C come after what is done meanwhile, which is then whole; main thread only."""
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def _end(signal_number: int, frame: object) -> NoReturn:
    """Answer SIGTERM with an exception, so that what is begun is tidied up on the way out."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not end the tidying
    raise SystemExit(128 + signal_number)
