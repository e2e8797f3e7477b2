"""The trained networks in one ONNX file, computed by ONNX Runtime: no PyTorch is needed.

``export_model.py --onnx-to`` makes the file; what its inputs and outputs are is told by
:class:`recognition.vote_graph.VoteGraph`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import config
from recognition.prediction import VotingPredictor, unknown_oh

VERSION = 2
"""Of the file's inputs, outputs and metadata; raised when they change."""
INPUTS = {"samples": "tensor(float)", "lengths": "tensor(int64)", "oh": "tensor(bool)"}
REMEDY = "make it again with: python export_model.py --onnx-to FILE"
SEAL = b"content_sha256\x12\x40"
"""What stands in the file before 64 hexadecimal digits: the SHA-256 of all the rest of it."""
OPEN = b"0" * 64
"""What stands for these digits while the SHA-256 is taken."""
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "dml": "DmlExecutionProvider",
}
"""Execution providers of ONNX Runtime by the names that settings use."""


class UnusableFile(config.UserError):
    """An ONNX file that can't be used; the text says why and what to do."""


class OnnxPredictor(VotingPredictor):
    """The networks in an ONNX file, computed by ONNX Runtime on one core.

    A clip is computed at a time: int8 arithmetic scales what it gets together, and an answer must
    not depend on what else was asked.

    Parameters
    ----------
    path : the file
    settings : the threshold, "oh", and the execution providers
    names : let only these networks vote; all by default

    Raises
    ------
    UserError : no such file; truncated, altered, of another version, or not the vote of networks;
        this ONNX Runtime can't run it; a network is not in it; "oh" asked for, and none knows it
    """

    def __init__(
        self,
        path: Path,
        settings: config.DecisionSettings | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        settings = settings or config.DecisionSettings()
        self.session = open_session(path, settings.provider_names())
        stored = self.session.get_modelmeta().custom_metadata_map
        self.metadata = {
            name: json.loads(value) for name, value in stored.items() if name != "content_sha256"
        }
        check_interface(path, self.session, self.metadata)
        self.audio = config.AudioSettings(**self.metadata["audio"])
        self.vote_weights = self.metadata["vote_weights"]
        self.vocabulary = vocabulary_of(self.metadata)
        self.path, self.settings, self.oh = path, settings, settings.oh
        self.select(names or self.metadata["networks"])

    def select(self, names: Sequence[str]) -> None:
        """Let only these networks vote."""
        for name in names:
            if name not in self.metadata["networks"]:
                raise UnusableFile(f"{self.path}: holds no network {name}; {REMEDY}")
        self.names = list(names)
        if self.oh and not (config.DecisionSettings.oh or self.knows_oh):
            raise unknown_oh(self.path)
        wanted = self.settings.threshold
        self.threshold = self._threshold() if wanted is None else wanted

    @property
    def records(self) -> Mapping[str, Mapping[str, Any]]:
        return self.metadata["records"]

    @property
    def knows_oh(self) -> bool:
        """Whether any of the networks tells "oh" from other words."""
        return any(self.metadata["knows_oh"][name] for name in self.names)

    @property
    def made_from(self) -> Mapping[str, str]:
        """SHA-256 of the file of each network that the ONNX file was made from."""
        return self.metadata["made_from"]

    def _threshold(self) -> float:
        if len(self.names) == 1:
            return self.metadata["thresholds"][self.names[0]]
        return self.metadata["vote_threshold"]

    def heard(self, waveforms: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        posteriors: dict[str, list[np.ndarray]] = {name: [] for name in self.names}
        for waveform in waveforms:
            inputs = {
                "samples": waveform[None].astype(np.float32, copy=False),
                "lengths": np.array([len(waveform)]),
                "oh": np.array(self.oh),
            }
            for name, values in zip(self.names, self.session.run(self.names, inputs), strict=True):
                posteriors[name].append(values[0])
        return {name: np.stack(rows) for name, rows in posteriors.items()}


def vocabulary_of(metadata: Mapping[str, Any]) -> config.Vocabulary:
    """What the networks of a file tell apart; those of English digits need not say their words."""
    labels = tuple(metadata.get("labels", [*config.DIGITS, "no digit"])[:-1])
    words = tuple(metadata.get("words", config.DIGIT_WORDS))
    return config.Vocabulary(labels, words, metadata.get("language", "en"))


def open_session(path: Path, wanted: Sequence[str]) -> Any:
    """ONNX Runtime's session for a file whose seal is whole, by the first of the providers there.

    Raises
    ------
    UserError : as for :class:`OnnxPredictor`
    """
    if not path.is_file():
        raise UnusableFile(f"{path}: no such file; {REMEDY}")
    content = path.read_bytes()
    if not is_whole(content):
        problem = "truncated, altered or not the networks in one file"
        raise UnusableFile(f"{path}: {problem}; {REMEDY}")
    try:
        import onnxruntime
    except ImportError:
        raise UnusableFile(
            f"{path}: pip install onnxruntime, or --decision.runtime torch"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a second thread costs more than it gains on one clip
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, available(wanted))
    except Exception as error:  # of many classes, none of them public
        reason = str(error).strip().splitlines()[0]
        raise UnusableFile(
            f"{path}: ONNX Runtime {onnxruntime.__version__} can't run it ({reason}); "
            "install the version that requirements-use.txt names"
        ) from None


def available(wanted: Sequence[str]) -> list[str]:
    """The execution providers of these names that are there, then the CPU; others are told."""
    import onnxruntime

    there = onnxruntime.get_available_providers()
    lacking = [name for name in wanted if PROVIDERS[name] not in there]
    if lacking:
        print(
            f"warning: this ONNX Runtime has no provider {', '.join(lacking)}: "
            "the processor computes instead",
            file=sys.stderr,
        )
    found = [PROVIDERS[name] for name in wanted if PROVIDERS[name] in there]
    return list(dict.fromkeys([*found, PROVIDERS["cpu"]]))


def check_interface(path: Path, session: Any, metadata: dict[str, Any]) -> None:
    """Refuse a file of another version, or with other inputs and outputs than its version has."""
    if metadata.get("version") != VERSION:
        raise UnusableFile(f"{path}: made by another version; {REMEDY}")
    inputs = {item.name: item.type for item in session.get_inputs()}
    outputs = [item.name for item in session.get_outputs()]
    if inputs != INPUTS or outputs != ["posteriors", *metadata["networks"]]:
        raise UnusableFile(f"{path}: its inputs or outputs are others; {REMEDY}")


def sealed(content: bytes) -> bytes:
    """An ONNX file with the SHA-256 of its content in the place that its metadata has for that."""
    place = content.rfind(SEAL) + len(SEAL)
    return content[:place] + seal_of(content) + content[place + len(OPEN) :]


def is_whole(content: bytes) -> bool:
    """Whether an ONNX file is one of ours, and as it was written."""
    place = content.rfind(SEAL) + len(SEAL)
    return place >= len(SEAL) and content[place : place + len(OPEN)] == seal_of(content)


def seal_of(content: bytes) -> bytes:
    """SHA-256, in hexadecimal digits, of an ONNX file with :data:`OPEN` in its place."""
    place, view = content.rfind(SEAL) + len(SEAL), memoryview(content)
    digest = hashlib.sha256(view[:place])
    digest.update(OPEN)
    digest.update(view[place + len(OPEN) :])
    return digest.hexdigest().encode()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
