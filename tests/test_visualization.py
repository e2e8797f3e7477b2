"""Every figure is a whole PNG, leaves no pyplot state, and survives odd input."""

import sys
import threading

import numpy as np
import pytest

import visualization
from audio_cleaning import clean
from protocols import metrics
from recognition.prediction import ModelPrediction, Prediction

RATE = 8000


def size_of(path):
    """Width and height in a PNG's header."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert path.read_bytes().endswith(b"IEND\xaeB`\x82")
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


@pytest.fixture(autouse=True)
def nothing_stays_open(tmp_path):
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def row(epoch, level):
    return {
        "epoch": epoch,
        "train_loss": 2 / epoch,
        "validation_loss": level / epoch,
        "train_accuracy": 1 - 0.5 / epoch,
        "validation_accuracy": 1 - 0.4 / epoch,
        "learning_rate": 1e-3,
    }


def recording():
    """A vowel-like buzz of 0.4 s in a second of faint noise."""
    random = np.random.default_rng(0)
    time = np.arange(RATE) / RATE
    buzz = sum(np.sin(2 * np.pi * 130 * k * time) / k for k in range(1, 20))
    buzz *= (time > 0.3) & (time < 0.7)
    return (0.1 * buzz + 0.001 * random.standard_normal(RATE)).astype(np.float32)


def prediction(digit=7):
    posteriors = np.full(10, 0.02, np.float32)
    posteriors[7] = 0.8
    model_prediction = ModelPrediction(7, 0.8, posteriors)
    return Prediction(
        digit,
        7,
        0.8,
        digit is not None,
        posteriors,
        0.02,
        {"cnn": model_prediction, "rnn": model_prediction},
        3.0,
    )


def test_learning_curves_of_models_of_different_length(tmp_path):
    history = {"cnn": [row(epoch, 1.0) for epoch in range(1, 9)], "rnn": [row(1, 2.0)], "new": []}
    path = visualization.plot_learning_curves(history, tmp_path / "curves.png")
    assert size_of(path) == (1320, 540)


def test_learning_curves_of_nothing(tmp_path):
    assert size_of(visualization.plot_learning_curves({}, tmp_path / "curves.png"))


def test_learning_curves_name_the_best_epoch(tmp_path, monkeypatch):
    texts = []
    monkeypatch.setattr(
        visualization, "_save", lambda figure, path: texts.append(figure.get_suptitle())
    )
    rows = [
        row(1, 1.0),
        row(2, 1.0) | {"validation_loss": 0.1, "validation_accuracy": 0.987},
        row(3, 1.0),
    ]
    visualization.plot_learning_curves({"rnn": rows}, tmp_path / "curves.png")
    assert texts == ["Best validation: BiLSTM 98.70% (epoch 2)"]


def test_confusion_with_a_column_for_no_answer(tmp_path):
    matrix = np.hstack([np.eye(10, dtype=int) * 30, np.zeros((10, 1), int)])
    matrix[3, 10] = 2
    labels = [str(digit) for digit in range(10)]
    path = visualization.plot_confusion(
        matrix, labels, tmp_path / "confusion.png", "vote: 99 %", answers=[*labels, "none"]
    )
    assert min(size_of(path)) > 600


def test_confusion_with_an_empty_row(tmp_path):
    path = visualization.plot_confusion(np.zeros((3, 3), int), "abc", tmp_path / "c.png", "empty")
    assert size_of(path)


def test_reliability_skips_empty_bins(tmp_path):
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 300)
    curve = metrics.expected_calibration_error(confidence, random.random(300) < confidence)
    panels = {"official": {"before": curve, "after": curve}, "unseen": {"after": curve}}
    wide = size_of(visualization.plot_reliability(panels, tmp_path / "wide.png", "both"))
    one = size_of(
        visualization.plot_reliability({"official": {"after": curve}}, tmp_path / "one.png", "one")
    )
    assert wide[0] == 2 * one[0]


def test_noise_with_and_without_cleaning(tmp_path):
    rows = [
        {
            "noise": noise,
            "snr_db": snr,
            "cleaning": cleaning,
            "accuracy": 0.9,
            "low": 0.85,
            "high": 0.94,
        }
        for noise in ("white", "pink")
        for snr in (0, 10)
        for cleaning in (True, False)
    ]
    rows += [
        {
            "noise": "none",
            "snr_db": None,
            "cleaning": cleaning,
            "accuracy": 1.0,
            "low": 0.99,
            "high": 1.0,
        }
        for cleaning in (True, False)
    ]
    assert size_of(visualization.plot_noise(rows, tmp_path / "noise.png", "noise")) == (1080, 624)


def test_proportions_grow_with_their_groups(tmp_path):
    def rows(count):
        return [
            {
                "group": f"speaker {index}",
                "series": name,
                "value": 0.9,
                "low": 0.8,
                "high": 0.95,
                "total": 10,
            }
            for index in range(count)
            for name in ("cnn", "vote")
        ]

    few = size_of(visualization.plot_proportions(rows(2), tmp_path / "few.png", "few"))
    many = size_of(visualization.plot_proportions(rows(20), tmp_path / "many.png", "many"))
    assert many[1] > 3 * few[1]


def test_ablation(tmp_path):
    changes = {"noise": -2.1, "room": 0.3, "trim": 0.0}
    assert size_of(visualization.plot_ablation(changes, tmp_path / "a.png", "noise is worth most"))


def test_augmentations(tmp_path):
    features = {
        f"part {index}": np.random.default_rng(index).random((40, 101)) for index in range(5)
    }
    assert size_of(visualization.plot_augmentations(features, tmp_path / "grid.png"))


@pytest.mark.parametrize("answer", [None, prediction(), prediction(digit=None)])
def test_comparison(tmp_path, answer):
    cleaned = clean(recording(), RATE)
    assert cleaned.speech_start_s is not None
    path = visualization.plot_comparison(cleaned, RATE, answer, tmp_path / "comparison.png")
    width, height = size_of(path)
    assert width == 1320 and (height > 800) == (answer is not None)


@pytest.mark.parametrize(
    "waveform", [np.zeros(0), np.zeros(3), np.zeros(RATE), np.ones(50), 1e-7 * np.ones(RATE)]
)
def test_comparison_of_silence_and_scraps(tmp_path, waveform, recwarn):
    cleaned = clean(waveform.astype(np.float32), RATE)
    visualization.plot_comparison(cleaned, RATE, prediction(None), tmp_path / "comparison.png")
    assert size_of(tmp_path / "comparison.png")
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]


def test_comparison_headline_says_what_was_recognised():
    cleaned = clean(recording(), RATE)
    assert visualization._headline(cleaned, prediction()).startswith('Recognised "seven"')
    assert "no digit" in visualization._headline(cleaned, prediction(None))
    silent = clean(np.zeros(RATE, np.float32), RATE)
    assert visualization._headline(silent, None) == "No speech found"


def test_threads_can_draw_at_once(tmp_path):
    cleaned = clean(recording(), RATE)
    threads = [
        threading.Thread(
            target=visualization.plot_comparison,
            args=(cleaned, RATE, prediction(), tmp_path / f"{index}.png"),
        )
        for index in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({size_of(path) for path in tmp_path.glob("?.png")}) == 1
    assert len(list(tmp_path.glob("?.png"))) == 3


def test_a_full_disk_leaves_no_half_figure(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    def fail(self, path, **_):
        path.write_bytes(b"\x89PNG")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="No space"):
        visualization.plot_ablation({"a": 1.0}, tmp_path / "a.png", "a")
    assert not list(tmp_path.iterdir())
