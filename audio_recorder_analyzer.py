"""Record, or open a file, and tell how good the recording is. Needs no trained networks.

    python audio_recorder_analyzer.py                        record 3 s from the microphone
    python audio_recorder_analyzer.py --seconds 5 --device usb
    python audio_recorder_analyzer.py --channel 3            input 3 of an audio interface
    python audio_recorder_analyzer.py docs/seven.wav         no microphone needed
    python audio_recorder_analyzer.py a.wav folder --json    one line of JSON for each

Prints rate, duration, levels, clipping, noise and the stretches of speech, and says what to do
better. Then saves the original, the cleaned sound and a plot of both in recordings/, under new
names: no file is replaced.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tyro

import audio_cleaning
import audio_io
import config
import utils
from audio_cleaning import Cleaned
from audio_io import Recording

NOISY_DB, CLEAR_DB = 10.0, 20.0
"""dB. SNR below which answers suffer, and from which noise no longer matters."""
DC_OFFSET = 0.01
"""Mean amplitude that points at a faulty sound card."""
CUT_DB = 20.0
"""dB below the loudest 20 ms; speech louder than that at an edge of the recording was cut off."""
SHORTEST_S = 0.2
"""s. Less of a recording holds no word."""
ENDINGS = ("original.wav", "cleaned.wav", "comparison.png")
"""What the names of the three files that are saved end in."""
LONGEST_NAME = 60
"""Characters of a recording's name that its results are called by."""


@dataclass(frozen=True)
class AnalyzerSettings:
    """What to analyse and where to put the results."""

    files: tyro.conf.Positional[tuple[str, ...]] = ()
    """Sound files and folders to analyse instead of recording."""
    wav: tuple[str, ...] = ()
    """The same, as an option."""
    seconds: float = 3.0
    """s to record."""
    device: str | None = None
    """Microphone by number or part of its name; default: the system's."""
    sample_rate: int | None = None
    """Hz asked of the microphone; default: its own."""
    channel: int | None = None
    """Input of a device with many, counted from 1; default: the one with sound."""
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
        if self.channel is not None and not 1 <= self.channel <= 128:
            raise config.UserError(f"channel is {self.channel}: use 1 to 128")


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
    remarks: list[str]
    advice: list[str]


def run(settings: AnalyzerSettings) -> int:
    """Analyse every recording asked for; bad files are told and skipped, and the exit code is 1."""
    if settings.list_devices:
        from live import devices

        print(devices.device_table())
        return 0
    results = ResultsFolder(settings.recordings_dir, settings.save)
    bad = 0
    for recording in recordings(settings):
        if isinstance(recording, audio_io.AudioError):
            print(f"error: {recording}", file=sys.stderr)
            bad += 1
        else:
            report_on(recording, settings, results)
    return int(bad > 0)


def recordings(settings: AnalyzerSettings) -> Iterator[Recording | audio_io.AudioError]:
    """What the files hold, or why one can't be used; a new recording where none is named."""
    words = (*settings.files, *settings.wav)
    if not words:
        yield record(settings)
        return
    files = audio_io.expand_paths(words)
    if files.remark():
        print(files.remark(), file=sys.stderr)
    if not files:
        yield audio_io.AudioError(f"no sound files in {' '.join(map(utils.printable, words))}")
    for path in files:
        try:
            yield audio_io.read_recording(path)
        except audio_io.AudioError as error:
            yield error


def record(settings: AnalyzerSettings) -> Recording:
    """Record from the microphone; of one that is lost half way, what there was is kept.

    Raises
    ------
    MicrophoneError : there is none, or it can't be opened, or it was lost at once
    """
    from live import devices, microphone
    from live.terminal import Terminal, quiet_libraries

    with quiet_libraries():
        terminal = Terminal()
        try:
            waveform, rate = microphone.record(
                settings.seconds,
                settings.device,
                settings.sample_rate,
                settings.channel,
                terminal.say,
            )
        except devices.DeviceLost as error:
            if error.waveform.size < SHORTEST_S * max(error.sample_rate, 1):
                raise
            terminal.say(f"{error}; analysing what was recorded until then")
            waveform, rate = error.waveform, error.sample_rate
    return Recording(waveform, rate, time.strftime("recording_%Y%m%d-%H%M%S"), live=True)


def report_on(recording: Recording, settings: AnalyzerSettings, results: ResultsFolder) -> None:
    """Print the report of one recording and save what belongs to it.

    Text is printed before anything is saved; the line of JSON lists what has been saved.
    """
    report, cleaned = analyze(recording, settings.cleaning)
    if not settings.json:
        print(as_text(report), flush=True)
    saved = [str(path) for path in results.save(recording, cleaned)]
    if settings.json:
        print(json.dumps(dataclasses.asdict(report) | {"saved": saved}), flush=True)
    else:
        print(*(f"  saved         {utils.printable(path)}\n" for path in saved), sep="", end="")


def analyze(
    recording: Recording, settings: config.CleaningSettings | None = None
) -> tuple[RecordingReport, Cleaned]:
    """Measure a recording as it is, and clean it the way the recogniser does.

    Parameters
    ----------
    recording : of any rate
    settings : how it is cleaned

    Returns
    -------
    report : levels measured at the recording's own rate, speech and noise after cleaning
    cleaned : every stage, at the networks' rate
    """
    waveform, sample_rate = recording.waveform, recording.sample_rate
    rate = config.AudioSettings.sample_rate
    cleaned = audio_cleaning.clean(audio_io.resample(waveform, sample_rate, rate), rate, settings)
    has_speech = bool(cleaned.segments)
    return RecordingReport(
        source=recording.source,
        sample_rate=sample_rate,
        duration_s=round(recording.seconds, 3),
        peak_dbfs=round(audio_io.dbfs(float(np.abs(waveform).max(initial=0.0))), 1),
        rms_dbfs=round(audio_io.dbfs(audio_io.rms(waveform)), 1),
        dc_offset=round(float(waveform.mean(dtype=np.float64)) if waveform.size else 0.0, 5),
        clipped_fraction=round(audio_cleaning.clipped(waveform), 6),
        noise_floor_dbfs=round(cleaned.noise_floor_dbfs, 1),
        snr_db=round(cleaned.snr_db, 1) if has_speech else None,
        speech_dbfs=round(cleaned.level_dbfs, 1) if has_speech else None,
        segments=[(round(start, 3), round(end, 3)) for start, end in cleaned.segments],
        remarks=list(recording.remarks),
        advice=advise(recording, cleaned),
    ), cleaned


def advise(recording: Recording, cleaned: Cleaned) -> list[str]:
    """Plain sentences on what is wrong and, for live recordings, what to do; never empty."""
    if np.any(recording.waveform):
        faults = [*sound_faults(recording, cleaned), *speech_faults(cleaned)]
        return audio_cleaning.as_advice(faults, recording.live) or ["good: nothing to improve"]
    if not recording.live:
        return ["the file holds nothing but zeros: whatever recorded it heard nothing"]
    from live import devices

    fault = "nothing but zeros was recorded: the microphone is muted or may not be used; "
    return [fault + devices.permission_hint()]


def sound_faults(recording: Recording, cleaned: Cleaned) -> list[tuple[str, str]]:
    """Faults of level, rate and electronics, each with what to do at a microphone."""
    level = cleaned.level_dbfs if cleaned.segments else 0.0
    faults = audio_cleaning.level_faults(recording.waveform, level)
    lowest = config.AudioSettings.sample_rate
    if recording.sample_rate < lowest:
        fault = f"the sample rate of {recording.sample_rate} Hz loses the consonants"
        faults.append((fault, f"record at {lowest} Hz or more"))
    if abs(cleaned.dc_offset) > DC_OFFSET:
        faults.append(("DC offset, which cleaning takes out", "try another input or cable"))
    return faults


def speech_faults(cleaned: Cleaned) -> list[tuple[str, str]]:
    """Faults of the speech and the noise around it, each with what to do at a microphone."""
    if not cleaned.segments:
        return [("no speech found", "speak while it records, nearer to the microphone")]
    faults = []
    if cleaned.snr_db < NOISY_DB:
        faults.append(("very noisy", "switch the noise off, or move much closer"))
    elif cleaned.snr_db < CLEAR_DB:
        faults.append(("some noise", "a quieter room or a closer microphone helps"))
    return faults + cut_faults(cleaned)


def cut_faults(cleaned: Cleaned) -> list[tuple[str, str]]:
    """Words cut off at an edge of the recording, and several words in one."""
    rate = config.AudioSettings.sample_rate
    size = rate // 50
    frames = cleaned.highpassed[: len(cleaned.highpassed) // size * size].reshape(-1, size)
    levels = [audio_io.dbfs(audio_io.rms(frame)) for frame in frames] or [-120.0]
    faults = []
    start, end = cleaned.segments[0][0], cleaned.segments[-1][1]
    if start <= 0 and levels[0] > max(levels) - CUT_DB:
        faults.append(("the recording starts within speech", "wait a moment before you speak"))
    if end >= len(cleaned.original) / rate and levels[-1] > max(levels) - CUT_DB:
        faults.append(("the recording ends within speech", "record a little longer"))
    if (cleaned.speech_start_s, cleaned.speech_end_s) != (start, end):
        faults.append((f"{len(cleaned.segments)} stretches of speech", "say one digit at a time"))
    return faults


class ResultsFolder:
    """Where recordings, cleaned sounds and plots are saved; never over a file that is there.

    A folder that can't be written is told once, and nothing more is saved.

    Parameters
    ----------
    folder : made when something is saved
    saves : False saves nothing
    """

    def __init__(self, folder: Path, saves: bool = True) -> None:
        self.folder, self.saves = folder, saves

    def save(self, recording: Recording, cleaned: Cleaned) -> list[Path]:
        """Save a recording, what the networks would get of it, and the comparison plot.

        Without speech the cleaned file holds the whole recording. Returns what was saved.
        """
        saved: list[Path] = []
        try:
            for path in self._write(recording, cleaned) if self.saves else ():
                saved.append(path)
        except OSError as error:
            self.saves = False
            print(
                f"can't save in {utils.printable(self.folder)} ({error.strerror or error}): "
                "going on without saving",
                file=sys.stderr,
            )
        return saved

    def _write(self, recording: Recording, cleaned: Cleaned) -> Iterator[Path]:
        import visualization

        original, clean, plot = self._new_paths(recording.source)
        audio_io.write_audio(original, recording.waveform, recording.sample_rate)
        yield original
        rate = config.AudioSettings.sample_rate
        audio_io.write_audio(clean, cleaned.speech if cleaned.speech.size else cleaned.gated, rate)
        yield clean
        visualization.plot_comparison(cleaned, rate, None, plot)
        yield plot

    def _new_paths(self, source: str) -> list[Path]:
        """Names after the recording's, numbered where one of them exists."""
        name = Path(source).stem[:LONGEST_NAME]
        for number in itertools.count(1):
            stem = name if number == 1 else f"{name}-{number}"
            paths = [self.folder / f"{stem}_{ending}" for ending in ENDINGS]
            if not any(map(os.path.lexists, paths)):
                return paths
        raise AssertionError("unreachable")


def as_text(report: RecordingReport) -> str:
    """The report in plain lines."""
    spans = ", ".join(f"{start:.2f}-{end:.2f} s" for start, end in report.segments) or "none"
    speech = f" at {report.speech_dbfs} dBFS" if report.segments else ""
    snr = f"about {report.snr_db} dB" if report.snr_db is not None else "unknown without speech"
    lines = [
        utils.printable(report.source),
        f"  format        {report.sample_rate} Hz, {report.duration_s:.2f} s",
        f"  level         peak {report.peak_dbfs} dBFS, RMS {report.rms_dbfs} dBFS",
        f"  DC offset     {report.dc_offset:+.4f}",
        f"  clipping      {report.clipped_fraction:.2%} of the samples",
        f"  noise floor   {report.noise_floor_dbfs} dBFS",
        f"  SNR           {snr}",
        f"  speech        {spans}{speech}",
        *(f"  remark        {line}" for line in report.remarks),
        *(f"  advice        {line}" for line in report.advice),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    utils.main(run, AnalyzerSettings, __doc__)
