"""Draw one clip under each part of the augmentation.

python -m training.augmentation_figure            a synthetic "seven", results/augmentations.png
python -m training.augmentation_figure --clip six.wav --seed 3
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import audio_io
import config
import utils
import visualization
from audio_augmentation import PARTS, Augmenter
from audio_feature_extraction import FrontEnd, prepare_clip
from synthesis import espeak


@dataclass(frozen=True)
class FigureSettings:
    """One clip under each part of the augmentation."""

    clip: Path | None = None
    """A sound file; by default a synthetic "seven"."""
    output: Path = Path("results/augmentations.png")
    """The figure."""
    seed: int = 0
    """Rules what is drawn."""
    audio: config.AudioSettings = field(default_factory=config.AudioSettings)
    features: config.FeaturesSettings = field(default_factory=config.FeaturesSettings)
    augmentation: config.AugmentationSettings = field(default_factory=config.AugmentationSettings)


def run(settings: FigureSettings) -> None:
    """Draw the clip as it is and under each part alone."""
    rate = settings.audio.sample_rate
    if settings.clip is None:
        waveform = audio_io.resample(
            espeak.Espeak().speak("seven", "en-us"), espeak.SAMPLE_RATE, rate
        )
    else:
        waveform, _ = audio_io.read_audio(settings.clip, rate)
    clip = prepare_clip(waveform, settings.audio)
    features = {
        part: features_under(clip, part, settings)
        for part in ("as it is", *PARTS)
        if part != "recorded"  # wants a folder of noise
    }
    visualization.plot_augmentations(features, settings.output)
    print(f"written: {settings.output}")


def features_under(clip: np.ndarray, part: str, settings: FigureSettings) -> np.ndarray:
    """Features, float32 (n_features, frames), of the clip under one part alone."""
    strengths: dict[str, Any] = {name: float(name == part) for name in PARTS}
    alone = dataclasses.replace(settings.augmentation, **strengths)
    front_end = FrontEnd(settings.features, settings.audio.sample_rate)
    augmenter = Augmenter(alone, settings.audio.sample_rate, seed=settings.seed)
    others = [clip[::-1]] * 7  # what babble and spliced negatives are made of
    clips, _ = augmenter.waveforms(torch.from_numpy(np.stack([clip, *others])), torch.arange(8))
    power = augmenter.spectrograms(front_end.power(clips))
    return augmenter.spec_augmented(front_end.from_power(power))[0].numpy()


if __name__ == "__main__":
    utils.main(run, FigureSettings, __doc__)
