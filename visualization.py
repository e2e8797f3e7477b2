"""Every figure of the project, saved as PNG; nothing here computes a result.

Figures are made without pyplot: no window system is touched, nothing stays open, and a thread of
the live script may draw while another records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import config
import utils

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from audio_cleaning import Cleaned
    from recognition.prediction import Prediction

DPI = 120
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#5d5d5d")
"""Okabe and Ito's colours, which colour-blind readers can tell apart."""
COLOURS = {"cnn": PALETTE[0], "rnn": PALETTE[1], "vote": PALETTE[2]}
SPECTROGRAM_RANGE_DB = 70.0
"""dB shown below a spectrogram's loudest point; room noise lies about there."""


def _colour(name: str, position: int) -> str:
    return COLOURS.get(name, PALETTE[position % len(PALETTE)])


def _figure(width: float, height: float, title: str = "") -> Figure:
    """An empty figure of `width` x `height` inches that belongs to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize=13, fontweight="bold", wrap=True)
    return figure


def _save(figure: Figure, path: Path | str) -> Path:
    with utils.atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return Path(path)


def _tidy(axes: Axes, xlabel: str = "", ylabel: str = "", title: str = "") -> None:
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title, fontsize=11, loc="left")
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def plot_learning_curves(
    history: Mapping[str, Sequence[Mapping[str, float]]], path: Path | str
) -> Path:
    """Loss and accuracy by epoch, a colour for each model; the lowest validation loss is marked.

    Parameters
    ----------
    history : model name -> one mapping an epoch with ``epoch``, ``train_loss``,
        ``train_accuracy``, ``validation_loss``, ``validation_accuracy`` (accuracies in [0, 1])
    """
    figure = _figure(11, 4.5)
    (left, right), best = figure.subplots(1, 2), {}
    shown = {name: rows for name, rows in history.items() if rows}
    for position, (name, rows) in enumerate(shown.items()):
        colour = _colour(name, position)
        best[name] = min(rows, key=lambda row: row["validation_loss"])
        _draw_history(left, rows, "loss", 1.0, colour, name, best[name])
        _draw_history(right, rows, "accuracy", 100.0, colour, name, best[name])
    _tidy(left, "epoch", "cross-entropy")
    _tidy(right, "epoch", "accuracy (%)")
    figure.suptitle(
        "Best validation: "
        + ", ".join(
            f"{config.display_name(name)} {row['validation_accuracy']:.2%} (epoch {row['epoch']:g})"
            for name, row in best.items()
        ),
        fontsize=13,
        fontweight="bold",
    )
    if best:
        right.legend(frameon=False, fontsize=9)
    return _save(figure, path)


def _draw_history(
    axes: Axes,
    rows: Sequence[Mapping[str, float]],
    quantity: str,
    scale: float,
    colour: str,
    name: str,
    best: Mapping[str, float],
) -> None:
    epochs = [row["epoch"] for row in rows]
    for part, style in (("train", "--"), ("validation", "-")):
        values = [row[f"{part}_{quantity}"] * scale for row in rows]
        axes.plot(
            epochs,
            values,
            style,
            color=colour,
            linewidth=1.6,
            alpha=0.6 if part == "train" else 1.0,
            label=f"{config.display_name(name)}, {part}",
        )
    axes.plot(best["epoch"], best[f"validation_{quantity}"] * scale, "o", color=colour)


def plot_confusion(
    matrix: np.ndarray,
    labels: Sequence[str],
    path: Path | str,
    title: str,
    answers: Sequence[str] | None = None,
) -> Path:
    """Confusion matrix: counts in the cells, colour by share of the row.

    Parameters
    ----------
    matrix : int (rows, columns); rows are what was spoken, columns what was answered
    labels : names of the rows
    answers : names of the columns; `labels` by default
    """
    import seaborn

    matrix = np.asarray(matrix)
    share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    text = np.where(matrix > 0, matrix.astype(str), "")
    axes = (figure := _figure(7.4, 6.4)).subplots()
    seaborn.heatmap(
        share,
        annot=text,
        fmt="",
        cmap="Blues",
        vmin=0,
        vmax=100,
        square=True,
        ax=axes,
        linewidths=0.5,
        linecolor="#dddddd",
        xticklabels=list(answers or labels),
        yticklabels=list(labels),
        cbar_kws={"label": "share of row (%)", "shrink": 0.8},
    )
    axes.set(xlabel="answered", ylabel="spoken")
    axes.tick_params(axis="y", rotation=0)
    axes.set_title(title, fontsize=12, fontweight="bold", wrap=True)
    return _save(figure, path)


def plot_trade_offs(
    points: Sequence[Mapping[str, Any]],
    fronts: Mapping[str, Sequence[int]],
    path: Path | str,
    title: str,
    ylabel: str,
) -> Path:
    """Accuracy against what it costs, a panel for each cost; a line joins the Pareto front.

    Parameters
    ----------
    points : one a network: ``name``, ``accuracy`` (percent) and each cost
    fronts : cost (``latency_ms``, ``megabytes``) -> indices of the points that none beats in both
    """
    labels = {"latency_ms": "ms a clip, one thread", "megabytes": "MB of files"}
    figure = _figure(6.5 * len(fronts), 5.2, title)
    (panels,) = figure.subplots(1, len(fronts), squeeze=False)
    for axes, (cost, front) in zip(panels, fronts.items(), strict=True):
        edge = [points[index] for index in front]
        axes.plot(
            [point[cost] for point in edge],
            [point["accuracy"] for point in edge],
            color=PALETTE[2],
            linewidth=1.4,
            label="Pareto front",
        )
        for index, point in enumerate(points):
            colour = PALETTE[2] if index in front else PALETTE[6]
            place = point[cost], point["accuracy"]
            axes.plot(*place, "o", color=colour)
            axes.annotate(
                point["name"], place, (5, 5), textcoords="offset points", fontsize=9, color=colour
            )
        axes.set_xscale("log")
        axes.margins(x=0.15, y=0.1)
        _tidy(axes, labels.get(cost, cost), ylabel)
        axes.legend(frameon=False, fontsize=9, loc="lower right")
    return _save(figure, path)


def plot_reliability(panels: Mapping[str, Mapping[str, Any]], path: Path | str, title: str) -> Path:
    """Reliability diagram: accuracy against confidence, a panel for each set of clips.

    Parameters
    ----------
    panels : panel name -> curve name -> a calibration curve (anything with arrays
        ``confidence``, ``accuracy``, ``count`` by bin, and ``error``)
    """
    figure = _figure(4.6 * len(panels), 5.6, title)
    grid = figure.subplots(2, len(panels), squeeze=False, height_ratios=(3, 1), sharex=True)
    for column, (panel, curves) in enumerate(panels.items()):
        top, bottom = grid[:, column]
        top.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":", label="perfect")
        for position, (name, curve) in enumerate(curves.items()):
            colour = PALETTE[(1, 2, 0)[position % 3]]
            used = np.asarray(curve.count) > 0
            x = np.asarray(curve.confidence)[used]
            y, count = np.asarray(curve.accuracy)[used], np.asarray(curve.count)[used]
            top.plot(x, y, color=colour, alpha=0.4, linewidth=1.2)
            top.scatter(
                x,
                y,
                6 + 60 * np.sqrt(count / count.max(initial=1)),
                color=colour,
                label=f"{name}: ECE {curve.error:.1%}",
            )
            bottom.step(x, count, where="mid", color=colour, linewidth=1.4)
        _tidy(top, "", "share right" if column == 0 else "", panel)
        _tidy(bottom, "confidence", "clips" if column == 0 else "")
        top.set(xlim=(0, 1.01), ylim=(0, 1.02))
        bottom.set(yscale="symlog", ylim=(0, None))
        top.legend(frameon=False, fontsize=9, loc="lower right")
    return _save(figure, path)


def plot_noise(rows: Sequence[Mapping[str, Any]], path: Path | str, title: str) -> Path:
    """Accuracy against signal-to-noise ratio, a colour for each noise, dashed without cleaning.

    Parameters
    ----------
    rows : mappings with ``noise`` (name), ``snr_db`` (dB, None is clean), ``cleaning`` (bool),
        ``accuracy``, ``low`` and ``high`` (proportions in [0, 1])
    """
    levels = sorted({row["snr_db"] for row in rows if row["snr_db"] is not None})
    place = {level: position for position, level in enumerate(levels)} | {None: len(levels)}
    noises = list(dict.fromkeys(row["noise"] for row in rows if row["noise"] != "none"))
    axes = (figure := _figure(9, 5.2, title)).subplots()
    for position, noise in enumerate(noises):
        for cleaning in sorted({row["cleaning"] for row in rows}, reverse=True):
            line = sorted(
                (place[row["snr_db"]], row["accuracy"], row["low"], row["high"])
                for row in rows
                if row["cleaning"] == cleaning and row["noise"] in (noise, "none")
            )
            x, y, low, high = np.array(line).T
            colour, style = PALETTE[position], "o-" if cleaning else "s--"
            axes.plot(
                x,
                100 * y,
                style,
                color=colour,
                markersize=4,
                label=f"{noise}, {'with' if cleaning else 'without'} cleaning",
            )
            if cleaning:
                axes.fill_between(x, 100 * low, 100 * high, color=colour, alpha=0.1, linewidth=0)
    axes.set_xticks(list(place.values()), [*(f"{level:g}" for level in levels), "clean"])
    _tidy(axes, "signal-to-noise ratio (dB); band: 95 % interval with cleaning", "accuracy (%)")
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="lower right")
    return _save(figure, path)


def plot_proportions(
    rows: Sequence[Mapping[str, Any]], path: Path | str, title: str, xlabel: str = "accuracy (%)"
) -> Path:
    """Proportions with their 95 % intervals: a line each group, a colour each series.

    Parameters
    ----------
    rows : mappings with ``group`` (the line), ``series`` (the colour), ``value``, ``low``, ``high``
        (proportions in [0, 1]) and optionally ``total``
    """
    groups, series = ([*dict.fromkeys(row[key] for row in rows)] for key in ("group", "series"))
    height = 1.9 + 0.17 * len(groups) * (1 + len(series))
    axes = (figure := _figure(8.5, height, title)).subplots()
    for row in rows:
        turn = series.index(row["series"])
        y = groups.index(row["group"]) + 0.22 * (turn - (len(series) - 1) / 2)
        value, low, high = (100 * row[key] for key in ("value", "low", "high"))
        colour = _colour(row["series"], turn)
        axes.plot([low, high], [y, y], color=colour, linewidth=1.6, alpha=0.6)
        axes.plot(value, y, "o", color=colour, markersize=5)
    for turn, name in enumerate(series):
        axes.plot([], [], "o-", color=_colour(name, turn), label=config.display_name(name))
    totals = {row["group"]: row.get("total") for row in rows}
    axes.set_yticks(
        range(len(groups)),
        [f"{group} (n={totals[group]})" if totals[group] else str(group) for group in groups],
    )
    axes.set_ylim(len(groups) - 0.4, -0.6)
    _tidy(axes, f"{xlabel}; line: 95 % interval")
    if len(series) > 1:
        figure.legend(frameon=False, fontsize=9, ncols=len(series), loc="outside lower right")
    return _save(figure, path)


def plot_ablation(
    changes: Mapping[str, float],
    path: Path | str,
    title: str,
    xlabel: str = "change of accuracy when switched off (points)",
) -> Path:
    """Horizontal bars, sorted: what each part is worth. Bars to the left are losses.

    Parameters
    ----------
    changes : name of the part -> change in percentage points
    """
    names, values = zip(*sorted(changes.items(), key=lambda item: item[1]), strict=True)
    axes = (figure := _figure(8.5, 1.6 + 0.32 * len(names), title)).subplots()
    axes.barh(names, values, color=[PALETTE[1] if value < 0 else PALETTE[2] for value in values])
    axes.bar_label(axes.containers[0], [f"{value:+.2f}" for value in values], padding=3, fontsize=9)
    axes.axvline(0, color="#444444", linewidth=0.8)
    axes.margins(x=0.15)
    axes.invert_yaxis()
    _tidy(axes, xlabel)
    return _save(figure, path)


def plot_augmentations(
    features: Mapping[str, np.ndarray],
    path: Path | str,
    title: str = "One clip under each augmentation",
) -> Path:
    """The features of one clip under each augmentation, in a grid.

    Parameters
    ----------
    features : name of the augmentation -> float32 (n_features, frames)
    """
    columns, lines = min(4, len(features)), -(-len(features) // 4)
    figure = _figure(3.1 * columns, 0.7 + 2.0 * lines, title)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[len(features) :]:
        axes.set_axis_off()
    for axes, (name, values) in zip(grid, features.items(), strict=False):
        axes.imshow(values, origin="lower", aspect="auto", cmap="magma", interpolation="nearest")
        axes.set_title(name, fontsize=10, loc="left")
        axes.set(xticks=[], yticks=[])
    grid[0].set(xlabel="time", ylabel="band")
    return _save(figure, path)


def plot_comparison(
    cleaned: Cleaned, sample_rate: int, prediction: Prediction | None, path: Path | str
) -> Path:
    """A recording before and after cleaning, the span of speech, and each network's posteriors.

    Parameters
    ----------
    cleaned : what :func:`audio_cleaning.clean` returned
    sample_rate : Hz of its waveforms
    prediction : the answer, or None where no network was used: the bars are left out then
    """
    figure = _figure(11, 7.6 if prediction else 5.2, _headline(cleaned, prediction))
    gate = "spectral gating" if cleaned.gated is not cleaned.highpassed else "no gating needed"
    stages = {
        "recorded": cleaned.original,
        "high-pass": cleaned.highpassed,
        f"{gate}; speech found": cleaned.gated,
    }
    sides = range(len(stages))
    rows = [[f"{row}{side}" for side in sides] for row in ("wave", "spec")]
    axes = figure.subplot_mosaic([*rows, *([["bars" for _ in sides]] if prediction else [])])
    peak = max(float(np.abs(cleaned.original).max(initial=0.0)), 1e-4)
    images = []
    for side, (name, waveform) in enumerate(stages.items()):
        _draw_waveform(axes[f"wave{side}"], waveform, sample_rate, peak, name)
        images.append(_draw_spectrogram(axes[f"spec{side}"], waveform, sample_rate))
    for image in images:  # one scale for all, on which no rumble dims the rest
        image.set_clim(images[1].get_clim())
    _shade_speech(axes[rows[0][-1]], axes[rows[1][-1]], cleaned)
    axes["spec0"].set_ylabel("frequency (kHz)")
    axes["wave0"].set_ylabel("amplitude")
    if prediction:
        _draw_posteriors(axes["bars"], prediction)
    return _save(figure, path)


def plot_string(
    waveform: np.ndarray,
    sample_rate: int,
    spoken: Sequence[tuple[int, float, float, float]],
    path: Path | str,
) -> Path:
    """A spectrogram with the digits of a string over it.

    Parameters
    ----------
    waveform : float32 (samples,)
    spoken : digit, beginning and end in s, and confidence of each
    """
    seconds = len(waveform) / sample_rate
    figure = _figure(max(6.0, min(20.0, 2.2 * seconds)), 3.6)
    axes = figure.subplots()
    _draw_spectrogram(axes, waveform, sample_rate)
    top = axes.get_ylim()[1]
    for digit, start, end, confidence in spoken:
        axes.axvspan(start, end, color="white", alpha=0.14, linewidth=0)
        for edge in (start, end):
            axes.axvline(edge, color="white", alpha=0.6, linewidth=0.8)
        axes.text(
            (start + end) / 2,
            0.97 * top,
            f"{digit}\n{confidence:.0%}",
            color="white",
            fontsize=11,
            fontweight="bold",
            ha="center",
            va="top",
        )
    axes.set_title("".join(str(one[0]) for one in spoken), fontsize=13, loc="left")
    axes.set_xlabel("time (s)")
    return _save(figure, path)


def _headline(cleaned: Cleaned, prediction: Prediction | None) -> str:
    if cleaned.speech_start_s is None:
        speech = "No speech found"
    else:
        speech = f"Speech from {cleaned.speech_start_s:.2f} to {cleaned.speech_end_s:.2f} s"
        speech += f", SNR about {cleaned.snr_db:.0f} dB"
    if prediction is None:
        return speech
    vocabulary = prediction.vocabulary
    answer = vocabulary.none
    if prediction.digit is not None:
        answer = f'"{vocabulary.words[prediction.digit]}"'
    return f"Recognised {answer} with confidence {prediction.confidence:.0%}. {speech}"


def _draw_waveform(
    axes: Axes, waveform: np.ndarray, sample_rate: int, peak: float, name: str
) -> None:
    axes.plot(np.arange(len(waveform)) / sample_rate, waveform, color="#333333", linewidth=0.5)
    axes.set(xlim=(0, max(len(waveform), 1) / sample_rate), ylim=(-1.05 * peak, 1.05 * peak))
    _tidy(axes, title=name)


def _draw_spectrogram(axes: Axes, waveform: np.ndarray, sample_rate: int) -> AxesImage:
    """32 ms frames, 8 ms apart: about what the front end takes."""
    from matplotlib import mlab

    frame = round(0.032 * sample_rate)
    padded = np.pad(waveform, (0, max(0, 2 * frame - len(waveform))))
    power, _, _ = mlab.specgram(padded, NFFT=frame, Fs=sample_rate, noverlap=3 * frame // 4)
    decibels = 10 * np.log10(power + 1e-14)
    image = axes.imshow(
        decibels,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmax=decibels.max(),
        vmin=decibels.max() - SPECTROGRAM_RANGE_DB,
        extent=(0, len(padded) / sample_rate, 0, sample_rate / 2000),
    )
    axes.set_xlabel("time (s)")
    return image


def _shade_speech(wave: Axes, spectrogram: Axes, cleaned: Cleaned) -> None:
    edges = cleaned.speech_start_s, cleaned.speech_end_s
    if None in edges:
        return
    wave.axvspan(*edges, color=PALETTE[2], alpha=0.18, linewidth=0, label="speech")
    wave.legend(frameon=False, fontsize=9, loc="upper right")
    for edge in edges:
        spectrogram.axvline(edge, color="#ffffff", linewidth=1.2, linestyle="--")


def _draw_posteriors(axes: Axes, prediction: Prediction) -> None:
    """Grouped bars over the labels, one colour for each network and one for their vote."""
    predictions = {
        name: model_prediction.posteriors
        for name, model_prediction in prediction.predictions.items()
    }
    heights = predictions | {"vote": prediction.posteriors}
    width = 0.8 / len(heights)
    for position, (name, values) in enumerate(heights.items()):
        x = np.arange(len(values)) + (position - (len(heights) - 1) / 2) * width
        axes.bar(
            x,
            100 * np.asarray(values),
            width,
            color=_colour(name, position),
            label=config.display_name(name),
        )
    vocabulary = prediction.vocabulary
    titles = [vocabulary.title(index).replace(" ", "\n") for index in range(vocabulary.reject)]
    axes.set_xticks(range(vocabulary.reject), titles)
    axes.set_ylim(0, 100)
    other = "non-digit" if vocabulary.is_digits else "other words"
    _tidy(
        axes,
        ylabel="posterior (%)",
        title=f"Posterior of each network; {other}: {prediction.reject_probability:.0%}",
    )
    axes.legend(frameon=False, fontsize=9)
