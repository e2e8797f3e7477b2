"""The one front end: a batch of waveforms becomes a batch of features.

Training, evaluation, the live script and export all build :class:`FrontEnd` from the same
:class:`config.FeaturesSettings`, so that a network is used on the features it was trained on.
"""

from __future__ import annotations

import sys
import types

import numpy as np
import torch
from torch import Tensor, nn

import config
import speech_encoder


def _import_torchaudio():
    """Import torchaudio also where its compiled extension can't be loaded.

    The last Linux wheel is linked against CUDA and raises OSError beside a CPU-only torch. What is
    used here (spectrogram, mel filters, DCT) is plain PyTorch and does not need the extension.
    """
    try:
        import torchaudio
    except OSError:
        for name in [name for name in sys.modules if name.startswith("torchaudio")]:
            del sys.modules[name]
        stand_in = types.ModuleType("torchaudio._extension")
        vars(stand_in).update(
            _IS_TORCHAUDIO_EXT_AVAILABLE=False,
            _check_cuda_version=lambda: None,
            fail_if_no_align=lambda function: function,
        )
        sys.modules["torchaudio._extension"] = stand_in
        import torchaudio
    return torchaudio


torchaudio = _import_torchaudio()
import torchaudio.functional as F  # noqa: E402
import torchaudio.transforms as T  # noqa: E402

AMIN = 1e-10
"""Smallest power told apart from silence; librosa's default too."""
LEVEL_FRAME_S = 0.025
"""s. Frames over which the level of a clip is judged."""
TOGETHER = 10
"""Clips that go through a network at all tempos at once."""


def fit_duration(waveform: np.ndarray, length: int) -> np.ndarray:
    """Bring a waveform to `length` samples around its speech.

    Parameters
    ----------
    waveform : float32 (samples,)
    length : samples wanted

    Returns
    -------
    float32 (length,) : shorter input is centred between zeros; of longer input the window with the
        most energy is kept. :func:`is_cut` tells beforehand whether sound will be left out.
    """
    excess = len(waveform) - length
    if excess <= 0:
        before = -excess // 2
        return np.pad(waveform, (before, -excess - before)).astype(np.float32, copy=False)
    energy = np.concatenate(([0.0], np.cumsum(np.square(waveform, dtype=np.float64))))
    start = int(np.argmax(energy[length:] - energy[:-length]))
    return waveform[start : start + length].astype(np.float32, copy=False)


def prepare_clip(waveform: np.ndarray, audio: config.AudioSettings) -> np.ndarray:
    """Bring float32 (samples,), at ``audio.sample_rate``, to the networks' level and length.

    Training, evaluation and recognition all come through here. Returns float32 (clip_samples,).
    """
    frame = round(LEVEL_FRAME_S * audio.sample_rate)
    return fit_duration(normalize_level(waveform, audio.level_dbfs, frame), audio.clip_samples)


def is_cut(waveform: np.ndarray, length: int) -> bool:
    """Whether :func:`fit_duration` would leave out sound: the caller counts or tells it."""
    return len(waveform) > length


def normalize_level(waveform: np.ndarray, level_dbfs: float, frame: int) -> np.ndarray:
    """Scale float32 (samples,) so that its loudest frames have `level_dbfs` RMS, without clipping.

    The level is the mean power of the loudest fifth of the frames of `frame` samples, so that
    silence around a word does not count. Silence is returned as it is.
    """
    n_frames = max(1, len(waveform) // frame)
    frames = waveform[: n_frames * frame] if len(waveform) >= frame else waveform
    power = np.mean(np.square(frames.reshape(n_frames, -1), dtype=np.float64), axis=1)
    loudest = float(np.mean(np.sort(power)[-max(1, n_frames // 5) :]))
    if loudest < 1e-12:
        return waveform
    gain = 10 ** (level_dbfs / 20) / np.sqrt(loudest)
    gain = min(gain, 1.0 / float(np.abs(waveform).max()))
    return (waveform * np.float32(gain)).astype(np.float32, copy=False)


def warp(spectrogram: Tensor, frequency: Tensor, time: Tensor) -> Tensor:
    """Stretch (batch, bins, frames) about bin 0 and the middle frame, bilinearly.

    `frequency` and `time`, (batch, 1): a factor above 1 moves energy to higher bins, or makes the
    clip faster. What comes from outside the spectrogram is its edge.
    """
    _, bins, frames = spectrogram.shape
    rows = (torch.linspace(0, 2, bins, device=spectrogram.device) / frequency - 1).unsqueeze(2)
    columns = (torch.linspace(-1, 1, frames, device=spectrogram.device) * time).unsqueeze(1)
    grid = torch.stack([columns.expand(-1, bins, -1), rows.expand(-1, -1, frames)], dim=3)
    return nn.functional.grid_sample(
        spectrogram.unsqueeze(1), grid, mode="bilinear", padding_mode="border", align_corners=True
    ).squeeze(1)


def whisper_log_mel(mel_power: Tensor) -> Tensor:
    """What Whisper hears of mel bands, float32 (batch, bands, frames): one frame less.

    Logarithm, floor 80 dB below the clip's loudest point, scaled to about -1 to 1.
    """
    if mel_power.shape[2] < 2:
        raise config.UserError("a clip under 0.01 s is too short for the speech encoder")
    bels = torch.log10(mel_power[:, :, :-1].clamp(min=AMIN))
    peak = bels.amax(dim=(1, 2), keepdim=True)
    return (torch.maximum(bels, peak - 8) + 4) / 4


class FrontEnd(nn.Module):
    """Waveforms to features, in PyTorch, on whatever device it is moved to.

    Input: float32 (batch, samples) in [-1, 1]. Output: float32 (batch, n_features, frames) with
    ``frames = samples // hop_length + 1`` and `n_features` mel bands (log_mel), cepstral
    coefficients times three with deltas (mfcc; Davis and Mermelstein 1980) or Fourier bins
    (spectrogram). Mel filters are Slaney's, area-normalised, as librosa's defaults.

    Of the kind encoder, a pretrained speech encoder makes the features, of frames of 20 ms times
    ``encoder_pool``. It is frozen and no part of this module's weights, and its file is read when
    features are first wanted.
    """

    def __init__(self, settings: config.FeaturesSettings, sample_rate: int) -> None:
        super().__init__()
        if settings.f_max > sample_rate / 2:
            raise config.UserError(
                f"features.f-max is {settings.f_max:g} Hz: use at most {sample_rate / 2:g}, "
                f"half of audio.sample-rate"
            )
        if settings.kind == "encoder" and sample_rate != speech_encoder.SAMPLE_RATE:
            raise config.UserError(
                f"features.kind encoder takes {speech_encoder.SAMPLE_RATE} Hz, "
                f"audio.sample-rate is {sample_rate}"
            )
        self.settings = settings
        self.encoder_precision: torch.dtype | None = None
        self.spectrogram = T.Spectrogram(
            n_fft=settings.n_fft,
            hop_length=settings.hop_length,
            power=None,
            center=True,
            pad_mode="constant",
        )
        n_bins = settings.n_fft // 2 + 1
        self.mel_scale = T.MelScale(
            settings.n_mels,
            sample_rate,
            settings.f_min,
            settings.f_max,
            n_bins,
            norm="slaney",
            mel_scale="slaney",
        )
        self.register_buffer(
            "dct", F.create_dct(settings.n_mfcc, settings.n_mels, norm="ortho"), persistent=False
        )

    @property
    def n_features(self) -> int:
        """Rows of the features."""
        if self.settings.kind == "log_mel":
            return self.settings.n_mels
        if self.settings.kind == "mfcc":
            return self.settings.n_mfcc * (3 if self.settings.deltas else 1)
        if self.settings.kind == "encoder":
            return speech_encoder.WIDTH
        return self.settings.n_fft // 2 + 1

    def power(self, waveforms: Tensor) -> Tensor:
        """Power spectrogram, float32 (batch, n_fft // 2 + 1, frames), linear in frequency."""
        spectrum = self.spectrogram(waveforms)
        return spectrum.real.square() + spectrum.imag.square()

    def bands(self, power: Tensor) -> Tensor:
        """Power in mel bands, float32 (batch, bands, frames); of a spectrogram, its own bins."""
        return power if self.settings.kind == "spectrogram" else self.mel_scale(power)

    def from_power(self, power: Tensor) -> Tensor:
        """Features of a power spectrogram, as the settings ask."""
        return self.from_bands(self.bands(power))

    def from_bands(self, bands: Tensor) -> Tensor:
        """Encoder, or logarithm and cepstrum; then per-clip normalisation, as the settings ask."""
        if self.settings.kind == "encoder":
            return self.normalize(self.encoded(bands))
        decibels = 10.0 * torch.log10(bands.clamp(min=AMIN))
        peak = decibels.amax(dim=(1, 2), keepdim=True)
        features = torch.maximum(decibels, peak - self.settings.floor_db)
        if self.settings.kind == "mfcc":
            features = (features.transpose(1, 2) @ self.dct).transpose(1, 2)
            if self.settings.deltas:
                velocity = F.compute_deltas(features)
                features = torch.cat([features, velocity, F.compute_deltas(velocity)], dim=1)
        return self.normalize(features)

    def encoded(self, mel_power: Tensor) -> Tensor:
        """Features of the pretrained encoder, for mel bands float32 (batch, bands, frames).

        In float32 whatever surrounds it, so that features are the same wherever they were made;
        views for training may set `encoder_precision` to a faster type.
        """
        encoder = speech_encoder.shared_encoder(
            config.program_path(config.ENCODER_FILE), self.settings.encoder_layers, mel_power.device
        )
        log_mel = whisper_log_mel(mel_power)
        half = self.encoder_precision
        with torch.autocast(mel_power.device.type, half, enabled=half is not None):
            return encoder(log_mel.float(), self.settings.encoder_pool).float()

    def normalize(self, features: Tensor) -> Tensor:
        """Per-clip normalisation of (batch, n_features, frames), as the settings ask."""
        if self.settings.normalization == "none":
            return features
        # Cepstra and learnt features differ in scale from row to row; spectral bands do not.
        dims = (2,) if self.settings.kind in ("mfcc", "encoder") else (1, 2)
        features = features - features.mean(dim=dims, keepdim=True)
        if self.settings.normalization == "mean_variance":
            deviation = features.square().mean(dim=dims, keepdim=True).sqrt()
            features = features / deviation.clamp(min=1e-3)
        return features

    def forward(self, waveforms: Tensor) -> Tensor:
        return self.from_power(self.power(waveforms))

    def tempo_augmented(self, waveforms: Tensor) -> list[Tensor]:
        """Test-time augmentation: the features at every tempo in the settings."""
        return self.at_tempos(self.power(waveforms))

    def at_tempos(self, power: Tensor) -> list[Tensor]:
        """The same of a power spectrogram, float32 (batch, n_fft // 2 + 1, frames)."""
        bands = self.bands(power)
        ones = torch.ones(len(bands), 1, device=bands.device)
        return [
            self.from_bands(bands if tempo == 1 else warp(bands, ones, tempo * ones))
            for tempo in self.settings.tempos
        ]


def mean_logits(network: nn.Module, augmented: list[Tensor]) -> Tensor:
    """Logits, float32 (batch, classes), averaged over test-time augmentation.

    `augmented` comes from :meth:`FrontEnd.tempo_augmented`. Few clips go through the network at all
    tempos together; many at one after the other, which then stays in the processor's caches.
    """
    if len(augmented[0]) <= TOGETHER:
        return mean_logits_together(network, augmented)
    return torch.stack([network(features) for features in augmented]).mean(dim=0)


def mean_logits_together(network: nn.Module, augmented: list[Tensor]) -> Tensor:
    """The same for any batch, whatever its size, as an exported graph needs it."""
    return network(torch.cat(augmented)).unflatten(0, (len(augmented), -1)).mean(dim=0)
