"""The networks of a folder and their vote as one ONNX file, in float32 or with an int8 encoder."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import config
import speech_encoder
import utils
from recognition.onnx_predictor import INPUTS, OPEN, SEAL, VERSION, file_digest, sealed
from recognition.predictor import Predictor
from recognition.vote_graph import VoteGraph

OPSET = 18
QUANTIZED_ELEMENTS = 80_000
"""Elements from which a matrix becomes int8: the speech encoder's do. Fourier sums and mel filters,
which take in many decades, have fewer, and so have the networks, which are small already."""
LICENCE = "MIT"


def write_vote(
    target: Path, settings: config.DecisionSettings, precision: str = "int8"
) -> Predictor:
    """Write the ONNX file of the networks that the settings name; returns them in PyTorch.

    Raises
    ------
    UserError : no networks, or damaged or foreign ones; networks of different rates; the exporter's
        packages are missing
    """
    predictor = Predictor(settings)
    content = make_onnx(predictor, precision, digests(settings))
    with utils.atomic_path(target) as temporary:
        temporary.write_bytes(content)
    return predictor


def digests(settings: config.DecisionSettings) -> dict[str, str]:
    """SHA-256 of each network's file."""
    return {path.stem: file_digest(path) for path in settings.network_files()}


def make_onnx(
    predictor: Predictor, precision: str = "float32", made_from: dict[str, str] | None = None
) -> bytes:
    """The networks and their vote as an ONNX model; inputs and outputs are :class:`VoteGraph`'s.

    Batch and number of samples are free. What is needed to use it is in its metadata.

    Raises
    ------
    UserError : the exporter's packages are missing
    """
    return finished(exported(predictor), predictor, precision, made_from or {})


def finished(model: Any, predictor: Predictor, precision: str, made_from: dict[str, str]) -> bytes:
    """The file's content: an exported model in the precision asked for, with its metadata."""
    from onnx import helper

    if precision == "int8":
        model = quantized(model)
    metadata = onnx_metadata(predictor, precision) | {"made_from": made_from}
    values = {name: json.dumps(utils.json_value(value)) for name, value in metadata.items()}
    key = SEAL[: SEAL.index(b"\x12")].decode()
    helper.set_model_props(model, values | {key: OPEN.decode()})
    return sealed(model.SerializeToString())


def exported(predictor: Predictor) -> Any:
    """PyTorch's own export, as ONNX's ModelProto, float32.

    Raises
    ------
    UserError : its packages are missing
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise config.UserError("ONNX: pip install onnx onnxscript") from None
    batch, samples = torch.export.Dim("batch"), torch.export.Dim("samples")
    clips = torch.zeros(2, predictor.audio.clip_samples)
    with quiet("torch.onnx"):  # what it lacks is not used here
        program = torch.onnx.export(
            VoteGraph(predictor.checkpoints).eval(),
            (clips, torch.tensor([1, 2]), torch.tensor(False)),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=["posteriors", *predictor.names],
            dynamic_shapes={"samples": {0: batch, 1: samples}, "lengths": {0: batch}, "oh": {}},
        )
    return tidied(program.model_proto)


def tidied(model: Any) -> Any:
    """An exported model without what nobody needs, and with GELU as ONNX Runtime knows it."""
    del model.graph.value_info[:]  # what the quantizer can't read
    for part in (model.graph, *model.functions):
        for node in part.node:  # where in whose source code each node was made
            del node.metadata_props[:]
            node.doc_string = ""
    order_gelu(model.graph)
    return model


def order_gelu(graph: Any) -> None:
    """Multiply in the order in which ONNX Runtime knows GELU and computes it in one step.

    x (0.5 (1 + erf)), as PyTorch exports it, becomes (x (1 + erf)) 0.5.
    """
    users = {name: node for node in graph.node for name in node.input}
    for node in graph.node:
        if node.op_type == "Erf":
            plus_one = users[node.output[0]].output[0]
            halved = users[plus_one]
            product = users[halved.output[0]]
            (half,) = set(halved.input) - {plus_one}
            (x,) = set(product.input) - {halved.output[0]}
            halved.input[:] = [x, plus_one]
            product.input[:] = [halved.output[0], half]


def quantized(model: Any) -> Any:
    """The same model with int8 in place of its large matrices (:data:`QUANTIZED_ELEMENTS`).

    Weights have one scale a column and seven bits: with eight, sums of products overflow on
    processors without AVX-512 VNNI, and the answers would depend on the machine. What they are
    multiplied with is scaled when it is computed.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    large = {
        item.name
        for item in model.graph.initializer
        if len(item.dims) == 2 and item.dims[0] * item.dims[1] >= QUANTIZED_ELEMENTS
    }
    nodes = [
        node.name
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm") and large & set(node.input)
    ]
    if not nodes:
        return model
    with tempfile.TemporaryDirectory() as folder, quiet("root"):
        path = Path(folder, "int8.onnx")
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_quantize=nodes,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(path)


@contextlib.contextmanager
def quiet(name: str) -> Iterator[None]:
    """Keep warnings, and what a logger and the console are told, from the user."""
    logger = logging.getLogger(None if name == "root" else name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def onnx_metadata(predictor: Predictor, precision: str) -> dict[str, Any]:
    """What somebody who has only the file must know."""
    checkpoints, vocabulary = predictor.checkpoints, predictor.vocabulary
    metadata = {
        "version": VERSION,
        "labels": [*vocabulary.labels, vocabulary.none],
        "networks": predictor.names,
        "precision": precision,
        "audio": predictor.audio,
        "sample_rate": predictor.audio.sample_rate,
        "vote_threshold": predictor.threshold,
        "vote_weights": predictor.vote_weights,
        "thresholds": {name: item.threshold for name, item in checkpoints.items()},
        "knows_oh": {name: item.knows_oh for name, item in checkpoints.items()},
        "licence": LICENCE,
        "records": predictor.records,
    }
    if vocabulary != config.ENGLISH_DIGITS:
        metadata |= {"words": vocabulary.words, "language": vocabulary.language}
    if any(item.features.kind == "encoder" for item in checkpoints.values()):
        metadata["encoder_licence"] = speech_encoder.LICENCE
        metadata["encoder_sha256"] = file_digest(config.program_path(config.ENCODER_FILE))
    return metadata
