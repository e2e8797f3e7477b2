"""The whole way from samples to the vote as one PyTorch module, made of what exports to ONNX.

Each part here repeats another: :class:`LevelAndLength` does what ``prepare_clip`` does with NumPy,
:class:`GraphFrontEnd` what ``FrontEnd`` does with a Fourier transform, :class:`VoteGraph` what
``Predictor`` does. The tests hold them together.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import config
import speech_encoder
from audio_feature_extraction import (
    LEVEL_FRAME_S,
    FrontEnd,
    mean_logits_together,
    warp,
    whisper_log_mel,
)
from models.oh import fold_oh
from recognition.checkpoint import Checkpoint
from recognition.prediction import LEAST_POSTERIOR, widest_audio


class LevelAndLength(nn.Module):
    """Clips of any length to the networks' level and window, as ``prepare_clip`` brings them.

    Input: float32 (batch, samples), zeros after each clip's end, and int64 (batch,) with the clips'
    lengths, 1 and more. Output: float32 (batch, ``audio.clip_samples``).
    """

    def __init__(self, audio: config.AudioSettings) -> None:
        super().__init__()
        self.window = audio.clip_samples
        self.frame = round(LEVEL_FRAME_S * audio.sample_rate)
        self.level = 10 ** (audio.level_dbfs / 20)

    def forward(self, samples: Tensor, lengths: Tensor) -> Tensor:
        lengths = lengths.unsqueeze(1)
        leveled = samples * self.gain(samples, lengths)
        place = self.start(leveled, lengths) + torch.arange(self.window, device=samples.device)
        inside = (place >= 0) & (place < lengths)
        taken = leveled.gather(1, torch.minimum(place.clamp(min=0), lengths - 1))
        return taken * inside

    def gain(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """Gain (batch, 1) that brings the loudest fifth of the frames to the level.

        In float64, as NumPy does it: windows of almost the same energy are told apart later.
        """
        squares = F.pad(samples.double().square(), (0, self.frame))
        whole = squares.shape[1] // self.frame * self.frame
        power = squares[:, :whole].reshape(samples.shape[0], -1, self.frame).mean(dim=2)
        power = power * (self.frame / lengths.clamp(max=self.frame))  # a clip under one frame
        count = (lengths // self.frame).clamp(min=1)
        order = torch.arange(power.shape[1], device=samples.device)
        ranked = torch.where(order < count, power, -1.0).sort(dim=1, descending=True).values
        loudest = (count // 5).clamp(min=1)
        mean = torch.where(order < loudest, ranked, 0.0).sum(dim=1, keepdim=True) / loudest
        peak = samples.abs().amax(dim=1, keepdim=True).double()
        gain = torch.minimum(self.level / mean.clamp(min=1e-12).sqrt(), 1 / peak.clamp(min=1e-9))
        return torch.where(mean < 1e-12, 1.0, gain).float()

    def start(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """First sample (batch, 1) of the window: with the most energy, or around a short clip."""
        squares = F.pad(samples.double().square(), (1, self.window))
        energy = squares.cumsum(dim=1)
        energy = energy[:, self.window :] - energy[:, : -self.window]
        fits = torch.arange(energy.shape[1], device=samples.device) <= lengths - self.window
        loudest = torch.where(fits, energy, -1.0).argmax(dim=1, keepdim=True)
        before = (self.window - lengths).div(2, rounding_mode="floor")
        return torch.where(lengths > self.window, loudest, -before)


class GraphPower(nn.Module):
    """Power spectrogram by two matrices, half as large as those of the plain Fourier sums.

    A Hann window is the same from both ends, and so are cosines; sines are negated. So samples
    equally far from a frame's middle are added for the ones and subtracted for the others. The
    first sample has the weight zero.

    Input: float32 (batch, samples). Output: float32 (batch, n_fft // 2 + 1, frames).
    """

    def __init__(self, window: Tensor, hop_length: int) -> None:
        super().__init__()
        self.length, self.hop, self.half = len(window), hop_length, len(window) // 2
        places, bins = torch.arange(1, self.half + 1), torch.arange(self.half + 1)
        angles = 2 * math.pi / self.length * torch.outer(places, bins).double()
        weights = window[1 : self.half + 1].double().unsqueeze(1)
        weights[-1] /= 2  # the middle is its own partner
        self.register_buffer("cosines", (angles.cos() * weights).float())
        self.register_buffer("sines", (angles.sin() * weights).float())

    def forward(self, clips: Tensor) -> Tensor:
        frames = self.framed(clips)
        first, last = frames[:, :, 1 : self.half + 1], frames[:, :, self.half : self.length].flip(2)
        real, imaginary = (first + last) @ self.cosines, (first - last) @ self.sines
        return (real.square() + imaginary.square()).transpose(1, 2)

    def framed(self, clips: Tensor) -> Tensor:
        """Frames (batch, frames, n_fft and more) of clips with zeros around them."""
        count = clips.shape[1] // self.hop + 1
        rows = -(-self.length // self.hop)
        room = (count + rows - 1) * self.hop - clips.shape[1] - self.half
        blocks = F.pad(clips, (self.half, room)).unflatten(1, (-1, self.hop))
        return torch.cat([blocks[:, row : row + count] for row in range(rows)], dim=2)


class GraphFrontEnd(nn.Module):
    """A front end without Fourier transform or interpolation: matrices.

    Input: float32 (batch, samples). Output: features at each tempo, as ``tempo_augmented`` gives.
    """

    def __init__(self, front_end: FrontEnd, samples: int) -> None:
        super().__init__()
        self.front_end, self.settings = front_end, front_end.settings
        self.power = GraphPower(front_end.spectrogram.window, self.settings.hop_length)
        frames = samples // self.settings.hop_length + 1
        same, one = torch.eye(frames).unsqueeze(0), torch.ones(1, 1)
        tempos = [warp(same, one, tempo * one)[0] for tempo in self.settings.tempos]
        self.register_buffer("tempos", torch.stack(tempos))
        self.encoder = None
        if self.settings.kind == "encoder":
            path = config.program_path(config.ENCODER_FILE)
            encoder = speech_encoder.load_encoder(path, self.settings.encoder_layers)
            self.encoder = GraphEncoder(encoder, frames // 2)

    def forward(self, clips: Tensor) -> list[Tensor]:
        bands = self.front_end.bands(self.power(clips))
        return [
            self.features(bands if tempo == 1 else bands @ self.tempos[number])
            for number, tempo in enumerate(self.settings.tempos)
        ]

    def features(self, bands: Tensor) -> Tensor:
        """Features of mel bands."""
        if self.encoder is None:
            return self.front_end.from_bands(bands)
        encoded = self.encoder(whisper_log_mel(bands), self.settings.encoder_pool)
        return self.front_end.normalize(encoded)


class GraphEncoder(nn.Module):
    """The speech encoder for clips of one length, with matrices for convolutions.

    A matrix becomes int8 where a file is to be small; positions beyond `frames` are left out.
    """

    def __init__(self, encoder: speech_encoder.SpeechEncoder, frames: int) -> None:
        super().__init__()
        for number, conv in enumerate((encoder.conv1, encoder.conv2), start=1):
            matrix = conv.weight.permute(2, 1, 0).flatten(0, 1)
            self.register_buffer(f"matrix{number}", matrix.contiguous())
            self.register_buffer(f"bias{number}", conv.bias)
        self.register_buffer("positions", encoder.positions[:frames].clone())
        self.layers, self.norm = encoder.layers, encoder.norm

    def forward(self, log_mel: Tensor, pool: int) -> Tensor:
        x = F.gelu(three_frames(log_mel.transpose(1, 2), 1) @ self.matrix1 + self.bias1)
        x = F.gelu(three_frames(x, 2) @ self.matrix2 + self.bias2)
        x = x + self.positions
        for layer in self.layers:
            x = layer(x)
        return F.avg_pool1d(self.norm(x).transpose(1, 2), pool, ceil_mode=True)


def three_frames(x: Tensor, step: int) -> Tensor:
    """Each `step`-th frame of (batch, frames, rows) between its neighbours: three times the rows.

    What a convolution of kernel size 3 with padding 1 multiplies.
    """
    padded, frames = F.pad(x, (0, 0, 1, 1)), x.shape[1]
    return torch.cat([padded[:, start : start + frames : step] for start in range(3)], dim=2)


class VoteGraph(nn.Module):
    """All networks and their vote.

    Input: clips and lengths as :class:`LevelAndLength` takes them, at the networks' rate, and a
    bool, (): whether what sounds like "oh" is zero, or else "no digit". Samples that are no
    numbers, or infinite, count as silence. Output: the vote's posteriors, float32 (batch, 11), then
    each network's, calibrated.

    Raises
    ------
    UserError : the networks listen at different rates
    """

    def __init__(self, checkpoints: dict[str, Checkpoint]) -> None:
        super().__init__()
        audios = [item.audio for item in checkpoints.values()]
        if len({audio.sample_rate for audio in audios}) > 1:
            raise config.UserError("networks of different sample rates can't go into one file")
        self.audio = widest_audio(audios)
        self.prepare = LevelAndLength(self.audio)
        self.ways = [(item.audio, item.features) for item in checkpoints.values()]
        self.distinct = list(dict.fromkeys(self.ways))
        self.own = nn.ModuleList(LevelAndLength(audio) for audio, _ in self.distinct)
        self.front_ends = nn.ModuleList(
            GraphFrontEnd(FrontEnd(features, audio.sample_rate), audio.clip_samples)
            for audio, features in self.distinct
        )
        self.networks = nn.ModuleList(item.network()[1] for item in checkpoints.values())
        self.temperatures = [item.temperature for item in checkpoints.values()]
        self.n_answers = next(iter(checkpoints.values())).vocabulary.n_answers
        bias = torch.zeros(len(checkpoints), self.n_answers)
        bias[:, -1] = torch.tensor([item.reject_bias for item in checkpoints.values()])
        self.register_buffer("bias", bias)
        own_weights = torch.tensor([item.vote_weight for item in checkpoints.values()])
        self.register_buffer("vote_weights", own_weights[:, None, None])

    def forward(self, samples: Tensor, lengths: Tensor, oh: Tensor) -> tuple[Tensor, ...]:
        finite = samples.abs() <= torch.finfo(samples.dtype).max  # false for NaN as well
        clips = self.prepare(torch.where(finite, samples, 0.0), lengths.clamp(min=1))
        features = {}
        for way, own, front_end in zip(self.distinct, self.own, self.front_ends, strict=True):
            whole = torch.full_like(lengths, self.audio.clip_samples)
            features[way] = front_end(clips if way[0] == self.audio else own(clips, whole))
        outputs = [
            mean_logits_together(network, features[way])
            for way, network in zip(self.ways, self.networks, strict=True)
        ]
        logits = [
            torch.where(
                oh, fold_oh(item, True, self.n_answers), fold_oh(item, False, self.n_answers)
            )
            for item in outputs
        ]
        posteriors = [
            (item / self.temperatures[number] + self.bias[number]).softmax(dim=1)
            for number, item in enumerate(logits)
        ]
        stacked = torch.stack(posteriors)
        weights = stacked.amax(dim=2, keepdim=True) * self.vote_weights
        logs = stacked.clamp(min=LEAST_POSTERIOR).log()
        pooled = ((logs * weights).sum(dim=0) / weights.sum(dim=0)).softmax(dim=1)
        return (pooled, *posteriors)
