"""Untrained networks, synthetic recordings and settings for the tests of the evaluation."""

import dataclasses
import functools
import json

import numpy as np
import torch
from conftest import beep, wav_bytes, zip_bytes

import config
from audio_feature_extraction import FrontEnd, fit_duration, normalize_level
from models import registry
from protocols.common import EvaluationSettings
from recognition.checkpoint import Checkpoint, save_checkpoint

RATE = 8000
AUDIO = config.AudioSettings(sample_rate=RATE)
FEATURES = config.FeaturesSettings(n_fft=256, hop_length=80, n_mels=40, f_max=3800.0)
WIDTH = 8
ABOUT = {"protocol", "seed", "clean", "models_dir", "threshold", "networks", "record", "seconds"}
"""Keys of every result that is taken with one folder of networks."""
RESULT_KEYS = {
    "summary": ABOUT
    | {"test_set", "clips", "accuracy", "by_speaker", "no_digit", "vote_gain", "latency_ms"}
    | {"calibration_error", "classification", "wrong"},
    "unseen": ABOUT
    | {"cleaning", "clips", "speakers", "macro", "by_corpus", "by_digit", "by_speaker", "apart"}
    | {"no_digit", "vote_gain", "wrong", "calibration_error"},
    "noise": ABOUT | {"test_set", "conditions", "vote_gain", "mean_of_noises"},
    "reject": ABOUT
    | {"thresholds", "threshold_source", "accepted", "right_answers_accepted", "vote_gain"}
    | {"cleaning"},
    "calibration": ABOUT | {"temperatures", "bins", "accuracy", "vote_gain", "calibration"},
    "cleaning": ABOUT | {"clips", "noises", "chains"},
    "speaker": {"protocol", "seed", "clean", "by_speaker", "mean", "vote_gain", "other_seeds"}
    | {"fold_settings", "record", "seconds"},
    "seeds": {"protocol", "test_set", "seeds", "mean", "standard_deviation", "vote_gain"}
    | {"record", "seconds"},
    "augmentation": {"protocol", "seed", "speakers", "epochs", "models", "off"}
    | {"record", "seconds"},
    "audiomnist": {"protocol", "seed", "clips", "by_fold", "mean", "by_gender", "by_speaker"}
    | {"vote_gain", "fold_settings", "record", "seconds"},
    "speech_commands": ABOUT | {"cleaning", "test", "validation", "trained_on_corpus"},
    "cross": {"protocol", "seed", "train_on", "test_on", "clips", "accuracy", "by_corpus"}
    | {"by_speaker", "no_digit", "vote_gain", "record", "seconds"},
    "oh": ABOUT | {"scores"},
    "adapt": {"protocol", "seed", "own_takes", "epochs", "learning_rate", "accuracy"}
    | {"record", "seconds"},
}
"""The keys of each result file that other programs rely on."""


def save_networks(folder, names=("cnn", "rnn"), seed=0, **record):
    """Untrained networks: their answers are arbitrary, but always the same."""
    for name in names:
        save_checkpoint(
            folder / f"{name}.pt",
            Checkpoint(
                name,
                {"width": WIDTH},
                untrained_weights(name, seed),
                AUDIO,
                FEATURES,
                temperature=2.0,
                vote_threshold=0.1,
                record={"seed": seed, "corpora": "beeps", "protocol": "official"} | record,
            ),
        )
    return folder


def checkpoint(name: str = "cnn", **changes) -> Checkpoint:
    """A checkpoint of random weights, with `changes` to its fields."""
    torch.manual_seed(len(name))
    arguments = {"width": 16}
    weights = registry.create_model(name, 40, **arguments).state_dict()
    return dataclasses.replace(
        Checkpoint(
            name,
            arguments,
            weights,
            AUDIO,
            FEATURES,
            temperature=1.5,
            threshold=0.3,
            vote_threshold=0.4,
            record={"seed": 1},
        ),
        **changes,
    )


@functools.cache
def untrained_weights(name, seed):
    """Random weights; the batch norms fit beeps, so that the network tells clips apart."""
    torch.manual_seed(seed + len(name) + ord(name[0]))
    network = registry.create_model(name, 40, width=WIDTH)
    clips = np.stack(
        [
            fit_duration(normalize_level(beep(digit, take % 2, take), -25.0, 200), RATE)
            for digit in range(10)
            for take in range(4)
        ]
    )
    features = FrontEnd(FEATURES, RATE)(torch.from_numpy(clips))
    with torch.no_grad():
        for _ in range(30):
            network.train()(features)
        for parameter in list(network.parameters())[-2:]:
            parameter.mul_(20)
    return network.state_dict()


def settings_maker(tmp_path, small_release):
    """Settings that know the small release, untrained networks, and no environment."""
    archive = tmp_path / "small.zip"
    archive.write_bytes(zip_bytes(small_release))
    save_networks(tmp_path / "models")

    def make(**changes):
        values = {
            "data": config.DataSettings(fsdd_archive=archive, root=tmp_path / "data"),
            "decision": config.DecisionSettings(models_dir=tmp_path / "models"),
            "results_dir": tmp_path / "results",
            "unseen_dir": None,
            "noise_dir": None,
            "non_digits_dir": None,
            "speech_commands_dir": None,
        }
        return EvaluationSettings(**(values | changes))

    return make


def write_beeps(folder, names):
    for name in names:
        digit, speaker, take = name.split("_")
        label = int(digit) if digit.isdigit() else 3
        path = folder / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wav_bytes(beep(label, len(speaker), int(take))))
    return folder


def read_result(settings, name):
    """The result file of a protocol; its keys must be those that other programs rely on."""
    result = read_json(settings.results_dir / f"{name}.json")
    assert set(result) == RESULT_KEYS[name]
    return result


def read_json(path):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
