"""The architecture contract: imports run downwards only and in no circle.

The layers are those of a house: what lies below knows nothing of what lies above. import-linter
can't look at single-file modules, so the imports are read here and judged by its engine, grimp.
"""

import ast
import graphlib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = (
    "audio",
    "corpora",
    "live",
    "models",
    "protocols",
    "recognition",
    "synthesis",
    "training",
    "webapp",
)
LAYERS = (
    {"evaluation", "benchmark", "model_comparison", "verify_setup"},
    {"protocols"},
    {"train", "microphone_inference", "audio_recorder_analyzer", "app"},
    {"webapp"},
    {"training", "live", "batch_inference", "export_model"},
    {"recognition", "visualization"},
    {"dataset_loader", "audio_cleaning"},
    {"corpora", "audio_augmentation"},
    {"synthesis", "audio_feature_extraction", "speech_encoder", "models", "audio_io", "audio"},
    {"utils", "languages"},
    {"config"},
)
"""From top to bottom. Modules of one layer may import each other, but in no circle."""
USE = (
    "recognition",
    "live",
    "webapp",
    "app",
    "microphone_inference",
    "batch_inference",
    "audio_recorder_analyzer",
)
"""What recognises needs nothing of what makes data and networks, however many steps away."""
MAKING = ("training", "corpora", "synthesis")


def our_modules() -> dict[str, Path]:
    """Every module of the project by its dotted name, the tests left out."""
    paths = [*ROOT.glob("*.py"), *(path for name in FOLDERS for path in (ROOT / name).glob("*.py"))]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }


def imports_of(source: str, known: set[str]) -> set[str]:
    """The modules in `known` that a source imports, at its top or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the folder: no relative ones"
            parts = {f"{node.module}.{alias.name}" for alias in node.names} & known
            names |= parts or {node.module}
    return names & known


def import_graph(sources: dict[str, str]) -> grimp.ImportGraph:
    """The graph of who imports whom, for sources by module name."""
    graph = grimp.ImportGraph()
    for name in sources:
        graph.add_module(name)
    for name, source in sources.items():
        for imported in imports_of(source, set(sources)):
            graph.add_import(importer=name, imported=imported)
    return graph


def upward(graph: grimp.ImportGraph) -> list[str]:
    """Imports that run upwards, each as a line."""
    present = [
        grimp.Layer(*(layer & graph.modules), independent=False)
        for layer in LAYERS
        if layer & graph.modules
    ]
    return [
        f"{item.importer} must not import {item.imported}: {route.heads} -> {route.tails}"
        for item in graph.find_illegal_dependencies_for_layers(present)
        for route in item.routes
    ]


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    return {name: path.read_text(encoding="utf-8") for name, path in our_modules().items()}


@pytest.fixture(scope="module")
def graph(sources) -> grimp.ImportGraph:
    return import_graph(sources)


def test_every_module_has_its_layer(sources):
    placed = {name for layer in LAYERS for name in layer}
    homeless = {name.split(".")[0] for name in sources} - placed
    assert not homeless, f"give {sorted(homeless)} a layer in LAYERS"


def test_imports_run_downwards_only(graph):
    assert upward(graph) == []


def test_no_circles(graph):
    order = graphlib.TopologicalSorter(
        {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    )
    order.prepare()  # raises CycleError, which shows the circle


@pytest.mark.parametrize("user", USE)
@pytest.mark.parametrize("making", MAKING)
def test_what_recognises_needs_nothing_of_what_trains(graph, user, making):
    chains = graph.find_shortest_chains(user, making, as_packages=True)
    assert not chains, f"{user} reaches {making}: {sorted(chains)}"


def test_config_imports_nothing_of_ours(graph):
    assert graph.find_modules_directly_imported_by("config") == set()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("recognition.predictor", "from training.settings import TrainSettings"),
        ("utils", "import audio_io"),
        ("audio_io", "def late():\n    from recognition import recognizer"),
    ],
)
def test_an_upward_import_would_be_noticed(sources, name, line):
    assert upward(import_graph(sources | {name: f"{sources[name]}\n{line}\n"}))
