"""The page of what was answered: filters, charts, export, deletion."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

import config
from webapp import history_figures, shown
from webapp.history import KINDS, Filter
from webapp.service import RecognitionService

SHOWN_ROWS = 500
"""Rows of the table on the page; charts and export have all."""
WIDTHS: list[str | int] = [60, 170, 110, 170, 90, 110, 240, 70, 110]
"""Of the table's columns, in pixels."""
DAYS = {"any time": 0.0, "today": 1.0, "7 days": 7.0, "30 days": 30.0}


def build(service: RecognitionService, folder: Path, page: gr.Tab) -> None:
    """Lay the page out and wire it; exports are written below `folder`."""
    with gr.Row():
        kind = gr.Dropdown(["", *KINDS], value="", label="Way in", elem_id="history-kind")
        digit = gr.Dropdown(
            ["", *config.DIGITS, "no digit"], value="", label="Digit", elem_id="history-digit"
        )
        feedback = gr.Dropdown(["", "right", "wrong", "none"], value="", label="Feedback")
        days = gr.Dropdown(list(DAYS), value="any time", label="Time")
        text = gr.Textbox(label="Source contains", elem_id="history-text")
    with gr.Row():
        refresh = gr.Button("Refresh", elem_id="history-refresh")
        export = gr.DownloadButton("Export CSV", elem_id="history-export")
    summary = gr.HTML(padding=False, elem_id="history-summary")
    charts = gr.HTML(padding=False, elem_id="history-charts")
    table = gr.Dataframe(
        headers=list(history_figures.SHOWN),
        interactive=False,
        label=f"Answers, the newest {SHOWN_ROWS}",
        elem_id="history-table",
        wrap=True,
        column_widths=WIDTHS,
    )
    with gr.Row():
        number = gr.Number(label="Number", value=None, precision=0, elem_id="history-number")
        delete = gr.Button("Delete this one", elem_id="history-delete")
        sure = gr.Checkbox(label="Yes, forget everything", elem_id="history-sure")
        delete_all = gr.Button("Delete all", variant="stop", elem_id="history-delete-all")
    told = gr.HTML(padding=False, elem_id="history-told")
    filters: list[Any] = [kind, digit, feedback, days, text]

    def chosen(*values: Any) -> Filter:
        kind, digit, feedback, days, text = values
        return Filter(kind or "", digit or "", feedback or "", text or "", DAYS.get(days, 0.0))

    def show(*values: Any) -> tuple[Any, ...]:
        rows = service.history.rows(chosen(*values))
        drawn = "".join(
            (
                shown.chart("Answers by digit", history_figures.by_digit(rows)),
                shown.chart("Confidence", history_figures.by_confidence(rows)),
                shown.chart("Computing time", history_figures.by_latency(rows)),
                shown.chart(
                    "Right by your feedback, by day",
                    history_figures.accuracy_by_day(rows),
                    "{:.0f}%",
                    100,
                ),
            )
        )
        return (
            f'<p role="status">{shown.escaped(history_figures.summary(rows))}</p>',
            f'<div class="charts">{drawn}</div>',
            [history_figures.shown_row(row) for row in rows[:SHOWN_ROWS]],
        )

    def write(*values: Any) -> str:
        rows = service.history.rows(chosen(*values))
        place = Path(tempfile.mkdtemp(dir=folder)) / "history.csv"
        return str(history_figures.export(rows, place))

    def remove(wanted: float | None, *values: Any) -> tuple[Any, ...]:
        gone = wanted is not None and service.history.delete(int(wanted))
        told = f"Number {int(wanted or 0)} is deleted." if gone else "There is no such number."
        return told, *show(*values)

    def remove_all(certain: bool, *values: Any) -> tuple[Any, ...]:
        if not certain:
            return "Tick the box beside the button first.", False, *show(*values)
        return f"{service.history.delete_all()} answers are deleted.", False, *show(*values)

    seen = [summary, charts, table]
    quietly: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    gr.on(
        [page.select, refresh.click, *(item.change for item in filters)],
        show,
        filters,
        seen,
        **quietly,
    )
    export.click(write, filters, export, **quietly)
    delete.click(remove, [number, *filters], [told, *seen], **quietly)
    delete_all.click(remove_all, [sure, *filters], [told, sure, *seen], **quietly)
