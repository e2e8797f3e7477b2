"""Record, or open a file, and tell how good the recording is. Needs no trained networks.

    python audio_recorder_analyzer.py                        record 3 s from the microphone
    python audio_recorder_analyzer.py --seconds 5 --device usb
    python audio_recorder_analyzer.py --wav clip.wav         no microphone needed
    python audio_recorder_analyzer.py a.wav b.flac --json    one line of JSON for each

Prints rate, duration, levels, clipping, noise and the stretches of speech, and says what to do
better. Saves the original, the cleaned sound and a plot of both in recordings/.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tyro

import audio_cleaning
import audio_io
import config
import utils
from audio_cleaning import Cleaned

NOISY_DB, CLEAR_DB = 10.0, 20.0
"""dB. SNR below which answers suffer, and from which noise no longer matters."""
DC_OFFSET = 0.01
"""Mean amplitude that points at a faulty sound card."""
CUT_DB = 20.0
"""dB below the loudest 20 ms; speech louder than that at an edge of the recording was cut off."""
SHORTEST_S = 0.2
"""s. Less of a recording holds no word."""


@dataclass(frozen=True)
class AnalyzerSettings:
    """What to analyse and where to put the results."""

    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Sound files to analyse instead of recording."""
    wav: tuple[Path, ...] = ()
    """The same, as an option."""
    seconds: float = 3.0
    """s to record."""
    device: str | None = None
    """Microphone by number or part of its name; default: the system's."""
    sample_rate: int | None = None
    """Hz asked of the microphone; default: its own."""
    list_devices: bool = False
    """List the microphones and end."""
    json: bool = False
    """Print a line of JSON instead of text."""
    save: bool = True
    """Save original, cleaned sound and plot; --no-save only prints."""
    recordings_dir: Path = Path("recordings")
    """Folder they are saved in."""
    cleaning: config.CleaningSettings = field(default_factory=config.CleaningSettings)
    """How the recording is cleaned."""

    def __post_init__(self) -> None:
        if not SHORTEST_S <= self.seconds <= config.AudioSettings.max_seconds:
            raise config.UserError(
                f"seconds is {self.seconds}: use {SHORTEST_S} to "
                f"{config.AudioSettings.max_seconds:g}"
            )


@dataclass(frozen=True)
class RecordingReport:
    """What was measured: times in s, levels in dBFS, ratios in dB."""

    source: str
    sample_rate: int
    duration_s: float
    peak_dbfs: float
    rms_dbfs: float
    dc_offset: float
    clipped_fraction: float
    noise_floor_dbfs: float
    snr_db: float | None
    speech_dbfs: float | None
    segments: list[tuple[float, float]]
    advice: list[str]
    saved: list[str] = field(default_factory=list)


def run(settings: AnalyzerSettings) -> int:
    """Analyse every recording asked for; bad files are told and skipped, and the exit code is 1."""
    if settings.list_devices:
        from live import microphone

        print(*microphone.list_devices() or ["no microphone found"], sep="\n")
        return 0
    bad = 0
    names: Counter[str] = Counter()  # two files of one name must not overwrite each other's results
    sources = (*settings.files, *settings.wav)
    for source in sources or (None,):
        try:
            waveform, rate, name = open_recording(source, settings)
        except audio_io.AudioError as error:
            print(f"error: {error}", file=sys.stderr)
            bad += 1
            continue
        report, cleaned = analyze(waveform, rate, name, settings.cleaning)
        if settings.save:
            stem = Path(name).stem
            names[stem] += 1
            stem += f"-{names[stem]}" if names[stem] > 1 else ""
            saved = save(waveform, rate, cleaned, settings.recordings_dir / stem)
            report = dataclasses.replace(report, saved=[str(path) for path in saved])
        print(json.dumps(dataclasses.asdict(report)) if settings.json else as_text(report))
    return int(bad > 0)


def open_recording(source: Path | None, settings: AnalyzerSettings) -> tuple[np.ndarray, int, str]:
    """Read a file, or record where there is none: float32 (samples,), its rate and its name.

    Raises
    ------
    UserError : unusable file or microphone. Of a microphone lost half way, what there was is kept.
    """
    if source is not None:
        return *audio_io.read_audio(source), str(source)
    from live import microphone

    print(f"recording {settings.seconds:g} s: speak now", file=sys.stderr, flush=True)
    try:
        waveform, rate = microphone.record(settings.seconds, settings.device, settings.sample_rate)
    except microphone.DeviceLost as error:
        if error.waveform.size < SHORTEST_S * max(error.sample_rate, 1):
            raise
        print(f"{error}; analysing what was recorded until then", file=sys.stderr)
        waveform, rate = error.waveform, error.sample_rate
    return waveform, rate, time.strftime("recording_%Y%m%d-%H%M%S")


def analyze(
    waveform: np.ndarray,
    sample_rate: int,
    source: str = "recording",
    settings: config.CleaningSettings | None = None,
) -> tuple[RecordingReport, Cleaned]:
    """Measure a recording as it is, and clean it the way the recogniser does.

    Parameters
    ----------
    waveform : float32 (samples,), in [-1, 1], mono
    sample_rate : Hz
    source : name for the report

    Returns
    -------
    report : levels measured at the recording's own rate, speech and noise after cleaning
    cleaned : every stage, at the networks' rate
    """
    rate = config.AudioSettings.sample_rate
    cleaned = audio_cleaning.clean(audio_io.resample(waveform, sample_rate, rate), rate, settings)
    has_speech = bool(cleaned.segments)
    return RecordingReport(
        source=source,
        sample_rate=sample_rate,
        duration_s=round(len(waveform) / sample_rate, 3),
        peak_dbfs=round(audio_io.dbfs(float(np.abs(waveform).max(initial=0.0))), 1),
        rms_dbfs=round(audio_io.dbfs(audio_io.rms(waveform)), 1),
        dc_offset=round(float(waveform.mean(dtype=np.float64)) if waveform.size else 0.0, 5),
        clipped_fraction=round(audio_cleaning.clipped(waveform), 6),
        noise_floor_dbfs=round(cleaned.noise_floor_dbfs, 1),
        snr_db=round(cleaned.snr_db, 1) if has_speech else None,
        speech_dbfs=round(cleaned.level_dbfs, 1) if has_speech else None,
        segments=[(round(start, 3), round(end, 3)) for start, end in cleaned.segments],
        advice=advise(waveform, sample_rate, cleaned),
    ), cleaned


def advise(waveform: np.ndarray, sample_rate: int, cleaned: Cleaned) -> list[str]:
    """Plain sentences on what to do better; never empty."""
    if not np.any(waveform):
        from live import microphone

        return [
            "nothing but zeros was recorded: the microphone is muted or may not be used; "
            + microphone.permission_hint()
        ]
    level = cleaned.level_dbfs if cleaned.segments else 0.0
    advice = audio_cleaning.level_advice(waveform, level)
    if sample_rate < config.AudioSettings.sample_rate:
        advice.append(
            f"the sample rate of {sample_rate} Hz loses the consonants: record at "
            f"{config.AudioSettings.sample_rate} Hz or more"
        )
    if abs(float(waveform.mean(dtype=np.float64))) > DC_OFFSET:
        advice.append("there is a DC offset: cleaning takes it out, but try another input or cable")
    if not cleaned.segments:
        return [*advice, "no speech found: speak while it records, nearer to the microphone"]
    if cleaned.snr_db < NOISY_DB:
        advice.append("very noisy: switch the noise off, or move much closer to the microphone")
    elif cleaned.snr_db < CLEAR_DB:
        advice.append("some noise: a quieter room or a closer microphone helps")
    return advice + cut_advice(cleaned) or ["good: nothing to improve"]


def cut_advice(cleaned: Cleaned) -> list[str]:
    """Advice on words cut off at an edge of the recording, and on several words in one."""
    size = config.AudioSettings.sample_rate // 50
    frames = cleaned.highpassed[: len(cleaned.highpassed) // size * size].reshape(-1, size)
    levels = [audio_io.dbfs(audio_io.rms(frame)) for frame in frames] or [-120.0]
    advice = []
    duration = len(cleaned.original) / config.AudioSettings.sample_rate
    if cleaned.segments[0][0] <= 0 and levels[0] > max(levels) - CUT_DB:
        advice.append("the recording starts within speech: wait a moment before you speak")
    if cleaned.segments[-1][1] >= duration and levels[-1] > max(levels) - CUT_DB:
        advice.append("the recording ends within speech: record a little longer")
    answered = (cleaned.speech_start_s, cleaned.speech_end_s)
    if answered != (cleaned.segments[0][0], cleaned.segments[-1][1]):
        advice.append(
            f"{len(cleaned.segments)} stretches of speech: only the strongest is "
            "recognised, say one digit in a recording"
        )
    return advice


def save(waveform: np.ndarray, sample_rate: int, cleaned: Cleaned, stem: Path) -> list[Path]:
    """Save the recording, what the networks would hear of it, and the comparison plot.

    Without speech the cleaned file holds the whole recording. Returns the three paths.
    """
    import visualization

    rate = config.AudioSettings.sample_rate
    original, clean, plot = (
        stem.with_name(f"{stem.name}_{end}")
        for end in ("original.wav", "cleaned.wav", "comparison.png")
    )
    audio_io.write_audio(original, waveform, sample_rate)
    audio_io.write_audio(clean, cleaned.speech if cleaned.speech.size else cleaned.gated, rate)
    visualization.plot_comparison(cleaned, rate, None, plot)
    return [original, clean, plot]


def as_text(report: RecordingReport) -> str:
    """The report in plain lines."""
    spans = ", ".join(f"{start:.2f}-{end:.2f} s" for start, end in report.segments) or "none"
    speech = f" at {report.speech_dbfs} dBFS" if report.segments else ""
    snr = f"about {report.snr_db} dB" if report.snr_db is not None else "unknown without speech"
    lines = [
        report.source,
        f"  format        {report.sample_rate} Hz, {report.duration_s:.2f} s",
        f"  level         peak {report.peak_dbfs} dBFS, RMS {report.rms_dbfs} dBFS",
        f"  DC offset     {report.dc_offset:+.4f}",
        f"  clipping      {report.clipped_fraction:.2%} of the samples",
        f"  noise floor   {report.noise_floor_dbfs} dBFS",
        f"  SNR           {snr}",
        f"  speech        {spans}{speech}",
        *(f"  advice        {line}" for line in report.advice),
        *(f"  saved         {path}" for path in report.saved),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    utils.main(run, AnalyzerSettings, __doc__)
