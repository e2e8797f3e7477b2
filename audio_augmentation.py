"""What a batch of training clips goes through, in PyTorch, on the training device, seeded.

Waveforms meet rooms, noise, microphones and cut edges; then the power spectrogram, still linear in
frequency, is warped (vocal-tract length, tempo, pitch) and the finished features are masked.
Warping the spectrogram rather than the waveform makes every clip another speaker at the price of
one interpolation. Validation and test never come here.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import config
from audio_feature_extraction import warp

PARTS = (
    "speed",
    "tempo",
    "vtlp",
    "pitch",
    "shift",
    "gain",
    "clipping",
    "band_limit",
    "codec",
    "noise",
    "babble",
    "recorded",
    "room",
    "trim",
    "non_speech",
    "spliced_reversed",
    "spec_augment",
)
"""Fields of :class:`config.AugmentationSettings` that switch a part."""
N_ROOMS = 64
"""Room responses made at the start and drawn from: cheap, and as varied as a batch needs."""
BABBLE_WORDS = 16
"""Other clips in a babble at most; each fills 0.4 s of its second, so it is as six people talk."""
ENVELOPE_S = 0.0025
"""s. Quefrencies up to here make the envelope: below a voice's period."""
LOWEST_BAND_EDGE_HZ = 2200.0
"""Hz. Lowest upper band edge of a simulated microphone or telephone."""


class Augmenter:
    """All augmentation, with its own random generator so that the same seed gives the same clips.

    Parameters
    ----------
    settings : probabilities and strengths
    sample_rate : Hz
    noises : recordings of noise, float32 (samples,) each, or none
    device : where batches live; random numbers are always drawn on the CPU, alike on all devices
    """

    def __init__(
        self,
        settings: config.AugmentationSettings,
        sample_rate: int,
        noises: list[np.ndarray] | None = None,
        device: str = "cpu",
        seed: int = 0,
        vocabulary: config.Vocabulary | None = None,
    ) -> None:
        self.settings, self.sample_rate, self.device = settings, sample_rate, device
        self.vocabulary = vocabulary or config.ENGLISH_DIGITS
        self.noises = [torch.from_numpy(noise) for noise in noises or []]
        self.random = torch.Generator()
        self.reseed(seed)
        self.rooms = simulate_rooms(N_ROOMS, sample_rate, self.random).to(device)
        self.room_spectra: dict[int, Tensor] = {}

    def reseed(self, seed: int) -> None:
        """Start the random sequence anew; called for each epoch, so that training can resume."""
        self.random.manual_seed(seed)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform random numbers, float32 `shape`, on the training device."""
        draw = torch.rand(shape, generator=self.random) * (high - low) + low
        return draw.to(self.device)

    def chosen(self, probability: float, batch: int) -> Tensor:
        """Which clips of the batch a part applies to: float32 (batch, 1) of 0 and 1."""
        return (self.uniform(0, 1, batch, 1) < probability).float()

    def rows(self, probability: float, batch: int) -> Tensor:
        """Numbers of the clips that a part applies to, int64 (chosen,)."""
        return self.chosen(probability, batch).squeeze(1).nonzero().squeeze(1)

    def waveforms(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Waveform part.

        Parameters
        ----------
        clips : float32 (batch, samples), each word centred between zeros
        labels : int64 (batch,) class indices

        Returns
        -------
        clips : float32 (batch, samples), and labels : int64 (batch,), where clips that were
            replaced by noise alone have become "no digit"
        """
        clips, labels = self.spliced_or_reversed(clips, labels)
        clips, labels = self.remove_speech(self.shifted(clips), labels)
        clips = self.reverberant(clips)
        span = speech_span(clips)
        clips = self.through_microphone(self.noisy(clips))
        clips = self.trimmed(clips, span)
        return self.distorted(clips), labels

    def shifted(self, clips: Tensor) -> Tensor:
        """Move each word to a random place in its window; words are never pushed out of it."""
        batch, samples = clips.shape
        sounding = (clips != 0).float()
        first = sounding.argmax(dim=1)
        last = samples - 1 - sounding.flip(1).argmax(dim=1)
        target = (self.uniform(0, 1, batch) * (samples - last + first)).long()
        moves = (target - first) * self.chosen(self.settings.shift, batch).squeeze(1).long()
        turns = torch.cat([clips, clips], dim=1).unfold(1, samples, 1)  # a view
        return turns[torch.arange(batch, device=clips.device), -moves % samples]

    def spliced_or_reversed(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Turn some digits into negatives: halves of two spliced, or one reversed in time.

        Out-of-vocabulary words come from synthesisers only; without this, whatever sounds like a
        real voice would be a digit. Six, nine and "oh" are much the same backwards, so they stay,
        as do halves of zero and "oh", which make a zero; in other languages nobody has looked, and
        no label is reversed.
        """
        batch = len(clips)
        rows = self.rows(self.settings.spliced_reversed, batch)
        other = (self.uniform(0, 1, len(rows)) * batch).long()
        middle = clips.shape[1] // 2
        spliced = torch.cat([clips[rows, :middle], clips[other, middle:]], dim=1)
        is_reversed = self.chosen(0.3, len(rows)) > 0
        made = torch.where(is_reversed, clips[rows].flip(1), spliced)
        palindromes, ends = [*range(self.vocabulary.reject)], labels
        if self.vocabulary.knows_oh:
            palindromes, ends = [6, 9, config.OH], labels.masked_fill(labels == config.OH, 0)
        same = torch.where(
            is_reversed.squeeze(1),
            torch.isin(labels[rows], torch.tensor(palindromes, device=labels.device)),
            ends[rows] == ends[other],
        )
        rows, made = rows[~same], made[~same]
        return (clips.index_copy(0, rows, made), labels.index_fill(0, rows, self.vocabulary.reject))

    def remove_speech(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Turn some clips into hum, clicks or silence; noise follows. They are "no digit" then."""
        rows = self.rows(self.settings.non_speech, len(clips))
        if not len(rows):
            return clips, labels
        count, samples = len(rows), clips.shape[1]
        time = torch.arange(samples, device=clips.device) / self.sample_rate
        base = self.uniform(40, 400, count, 1)
        hum = sum(
            torch.sin(2 * math.pi * k * base * time) * self.uniform(0, 0.1, count, 1)
            for k in (1, 2, 3)
        )
        clicks = (self.uniform(0, 1, count, samples) < 3 / samples).float() * 0.5
        kind = self.uniform(0, 3, count, 1).floor()
        clips, labels = clips.clone(), labels.clone()
        clips[rows] = hum * (kind == 0) + clicks * (kind == 1)
        labels[rows] = self.vocabulary.reject
        return clips, labels

    def reverberant(self, clips: Tensor) -> Tensor:
        """Put some clips into rooms: a convolution, in the Fourier domain."""
        rows = self.rows(self.settings.room, len(clips))
        if not len(rows):
            return clips
        samples = clips.shape[1]
        size = samples + self.rooms.shape[1]
        if size not in self.room_spectra:
            self.room_spectra[size] = torch.fft.rfft(self.rooms, size)
        room = (self.uniform(0, 1, len(rows)) * N_ROOMS).long()
        spectrum = torch.fft.rfft(clips[rows], size) * self.room_spectra[size][room]
        return clips.index_copy(0, rows, torch.fft.irfft(spectrum, size)[:, :samples])

    def through_microphone(self, clips: Tensor) -> Tensor:
        """Pass some clips, with the noise around the speaker, through a microphone or telephone."""
        rows, samples = self.rows(self.settings.band_limit, len(clips)), clips.shape[1]
        if not len(rows):
            return clips
        spectrum = torch.fft.rfft(clips[rows])
        spectrum *= self.equaliser(len(rows), spectrum.shape[1])
        return clips.index_copy(0, rows, torch.fft.irfft(spectrum, samples))

    def equaliser(self, batch: int, bins: int) -> Tensor:
        """Random smooth responses with random band edges, float32 (batch, bins), linear gain."""
        frequency = torch.linspace(0, self.sample_rate / 2, bins, device=self.device)
        low = self.uniform(20, 400, batch, 1)
        edges = math.log(LOWEST_BAND_EDGE_HZ), math.log(self.sample_rate / 2)
        high = torch.exp(self.uniform(*edges, batch, 1))
        # 24 dB an octave beyond the edges, the slope of a cheap microphone's cut-off; every other
        # upper edge is as steep as those of telephones and of resampled recordings
        slope = torch.where(self.chosen(0.5, batch) > 0, 240.0, 24.0)
        below = torch.log2(low / frequency.clamp(min=1)).clamp(min=0)
        above = torch.log2(frequency.clamp(min=1) / high).clamp(min=0)
        return self.response(batch, bins, 7, 5.0) * 10 ** (-(24 * below + slope * above) / 20)

    def noisy(self, clips: Tensor) -> Tensor:
        """Add coloured noise, babble of other clips, and recorded noise, each at its own SNR."""
        batch, samples = clips.shape
        level = loudness(clips)
        parts = [(self.settings.noise, self.coloured), (self.settings.babble, self.babble)]
        if self.noises:
            parts.append((self.settings.recorded, self.recordings))
        mixed = clips.clone()
        for probability, make in parts:
            rows = self.rows(probability, batch)
            if not len(rows):
                continue
            noise = make(clips, len(rows))
            snr = self.uniform(*self.settings.snr_db, len(rows), 1)
            mixed[rows] += noise * (level[rows] / loudness(noise) * 10 ** (-snr / 20))
        return mixed

    def coloured(self, clips: Tensor, count: int) -> Tensor:
        """Noise of any colour, half of it swelling and fading, float32 (count, samples).

        The power spectrum is 1/f^a, a from 0 (white) over 1 (pink) to 2 (brown), under a random
        equaliser: the noises of kitchens and streets are in between.
        """
        samples = clips.shape[1]
        white = torch.randn((count, samples // 2 + 1, 2), generator=self.random)
        spectrum = torch.view_as_complex(white).to(self.device)
        frequency = torch.arange(1, spectrum.shape[1] + 1, device=self.device).float()
        slope = self.uniform(0, 2, count, 1) / 2
        spectrum *= math.sqrt(samples / 2) * frequency**-slope
        shaped = self.rows(0.6, count)
        spectrum[shaped] *= self.response(len(shaped), spectrum.shape[1], 9, 7.0)
        noise = torch.fft.irfft(spectrum, samples)
        moving = self.rows(0.5, count)
        noise[moving] *= self.response(len(moving), samples, 12, 8.0)
        return noise

    def response(self, count: int, length: int, points: int, deviation_db: float) -> Tensor:
        """Smooth random gains, float32 (count, length): straight lines between random decibels."""
        decibels = torch.randn((count, 1, points), generator=self.random) * deviation_db
        line = F.interpolate(decibels.to(self.device), length, mode="linear", align_corners=True)
        return 10 ** (line.squeeze(1) / 20)

    def babble(self, clips: Tensor, count: int) -> Tensor:
        """One to many other clips of the batch, each from another place in time."""
        batch = len(clips)
        words = self.uniform(1, BABBLE_WORDS + 1, count, 1).floor()
        total = torch.zeros(count, clips.shape[1], device=self.device)
        for number in range(BABBLE_WORDS):
            others = (self.uniform(0, 1, count) * batch).long()
            move = int(torch.rand((), generator=self.random) * clips.shape[1])
            total += clips[others].roll(move, dims=1) * (words > number)
        return total

    def recordings(self, clips: Tensor, count: int) -> Tensor:
        """Random stretches of the recorded noises; short ones are repeated."""
        samples, rows = clips.shape[1], []
        for which, where in self.uniform(0, 1, count, 2).tolist():
            noise = self.noises[int(which * len(self.noises))]
            noise = noise.repeat(-(-samples // len(noise))) if len(noise) < samples else noise
            start = int(where * (len(noise) - samples + 1))
            rows.append(noise[start : start + samples])
        return torch.stack(rows).to(self.device)

    def trimmed(self, clips: Tensor, span: tuple[Tensor, Tensor]) -> Tensor:
        """Cut the noise off before and after the word, as voice activity detection does."""
        batch, samples = clips.shape
        margin = self.sample_rate * self.uniform(0.0, 0.15, batch, 2)
        time = torch.arange(samples, device=clips.device)
        inside = (time >= span[0] - margin[:, :1]) & (time <= span[1] + margin[:, 1:])
        keep = (self.chosen(self.settings.trim, batch) == 0) | inside
        return clips * keep

    def distorted(self, clips: Tensor) -> Tensor:
        """Gain, clipping and 8-bit mu-law companding (ITU-T G.711)."""
        batch = len(clips)
        peak = clips.abs().amax(dim=1, keepdim=True).clamp(min=1e-6)
        clips = clips / peak
        ceiling = torch.where(
            self.chosen(self.settings.clipping, batch) > 0,
            self.uniform(0.1, 0.6, batch, 1),
            torch.ones_like(peak),
        )
        clips = clips.clamp(-ceiling, ceiling)
        scale = 10 ** (self.uniform(-30, 0, batch, 1) * self.chosen(self.settings.gain, batch) / 20)
        clips = clips * scale
        rows = self.rows(self.settings.codec, batch)
        compressed = torch.sign(clips[rows]) * torch.log1p(255 * clips[rows].abs()) / math.log(256)
        quantised = (compressed * 127).round() / 127
        clips[rows] = torch.sign(quantised) * (256 ** quantised.abs() - 1) / 255
        return clips

    def spectrograms(self, power: Tensor) -> Tensor:
        """Warp power spectrograms, float32 (batch, bins, frames): vocal tract, tempo, pitch.

        Vocal-tract-length perturbation after Jaitly and Hinton (2013); speed moves tempo, pitch and
        formants together, as a tape does.
        """
        batch = len(power)
        power = self.repitched(power)

        def factor(probability: float, span: float) -> Tensor:
            draw = self.uniform(-span, span, batch, 1) * self.chosen(probability, batch)
            return torch.exp(draw)

        speed = factor(self.settings.speed, self.settings.speed_range)
        tempo = speed * factor(self.settings.tempo, self.settings.tempo_range)
        formants = speed * factor(self.settings.vtlp, self.settings.vtlp_range)
        return warp(power, formants, tempo)

    def repitched(self, power: Tensor) -> Tensor:
        """Move the harmonics, leave the formants: only the spectrum's fine structure is warped.

        The envelope is the low-quefrency part of the cepstrum (Oppenheim and Schafer 1968).
        """
        moved = self.rows(self.settings.pitch, len(power))
        if not len(moved):
            return power
        bins = power.shape[1]
        logarithm = power[moved].clamp(min=1e-10).log()
        mirrored = torch.cat([logarithm, logarithm[:, 1:-1].flip(1)], dim=1)
        cepstrum = torch.fft.rfft(mirrored, dim=1)
        cepstrum[:, round(ENVELOPE_S * self.sample_rate) :] = 0
        envelope = torch.fft.irfft(cepstrum, mirrored.shape[1], dim=1)[:, :bins]
        span = self.settings.pitch_range
        factors = torch.exp(self.uniform(-span, span, len(moved), 1))
        fine = warp(logarithm - envelope, factors, torch.ones_like(factors))
        return power.index_copy(0, moved, (envelope + fine).exp())

    def spec_augmented(self, features: Tensor) -> Tensor:
        """SpecAugment (Park et al. 2019): hide a run of bands and one of frames behind the mean."""
        batch, bands, frames = features.shape
        for axis, length, share in ((1, bands, 0.2), (2, frames, 0.15)):
            width = (self.uniform(0, share, batch) * length).view(-1, 1)
            start = self.uniform(0, 1, batch).view(-1, 1) * (length - width)
            place = torch.arange(length, device=features.device)
            hidden = (place >= start) & (place < start + width)
            hidden &= self.chosen(self.settings.spec_augment, batch) > 0
            features = features.masked_fill(hidden.unsqueeze(3 - axis), 0.0)
        return features


def loudness(clips: Tensor) -> Tensor:
    """RMS of the sounding samples, float32 (batch, 1); zeros around a word do not count."""
    sounding = (clips.abs() > 1e-4).float()
    power = clips.square().sum(dim=1, keepdim=True) / sounding.sum(dim=1, keepdim=True).clamp(min=1)
    return power.sqrt().clamp(min=1e-3)


def speech_span(clips: Tensor) -> tuple[Tensor, Tensor]:
    """First and last audible sample of each clip, float32 (batch, 1) each."""
    samples = clips.shape[1]
    audible = (clips.abs() > 0.01 * clips.abs().amax(dim=1, keepdim=True).clamp(min=1e-6)).float()
    first = audible.argmax(dim=1, keepdim=True).float()
    last = samples - 1 - audible.flip(1).argmax(dim=1, keepdim=True).float()
    return first, last


def simulate_rooms(count: int, sample_rate: int, random: torch.Generator) -> Tensor:
    """Room responses as exponentially decaying noise behind a direct sound (Polack 1988).

    Returns float32 (count, 0.25 s of samples); reverberation times are 0.08 to 0.6 s and the
    direct-to-reverberant ratio is 0 to 15 dB.
    """
    samples = int(0.25 * sample_rate)
    time = torch.arange(samples) / sample_rate
    decay = torch.rand((count, 1), generator=random) * 0.52 + 0.08
    tail = torch.randn((count, samples), generator=random) * 10 ** (-3 * time / decay)
    tail[:, : int(0.002 * sample_rate)] = 0
    ratio = torch.rand((count, 1), generator=random) * 15
    tail = tail / tail.square().sum(dim=1, keepdim=True).sqrt() * 10 ** (-ratio / 20)
    tail[:, 0] = 1.0
    return tail
