"""The page for many files: progress, a table, CSV, accuracy and confusion where names tell."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

import config
from webapp import batch, shown, uploads
from webapp.service import RecognitionService, confusion

SHOWN_EVERY = 20
"""Rows after which the table is shown anew."""


def build(service: RecognitionService, folder: Path) -> None:
    """Lay the page out and wire it; uploads and tables lie below `folder`."""
    gr.Markdown(
        "Sound files or zip archives. Where names carry the digit (`7_ada_0.wav`, `seven.wav`), "
        "accuracy and a confusion matrix follow."
    )
    files = gr.File(file_count="multiple", label="Files", elem_id="batch-files", height=180)
    with gr.Row():
        start = gr.Button("Recognise all", variant="primary", elem_id="batch-start")
        stop = gr.Button("Stop", elem_id="batch-stop")
    state = gr.HTML(padding=False, elem_id="batch-state")
    download = gr.DownloadButton("CSV", interactive=False, elem_id="batch-csv")
    table = gr.Dataframe(
        headers=list(batch.COLUMNS),
        interactive=False,
        label="Answers; a click on a heading sorts",
        elem_id="batch-table",
        show_search="filter",
        wrap=True,
    )
    matrix = gr.HTML(padding=False, elem_id="batch-matrix")

    def run(paths: list[str] | None) -> Iterator[tuple[Any, ...]]:
        if not paths:
            yield shown.refusal("Choose files first."), gr.skip(), gr.skip(), ""
            return
        rows = []
        try:
            sources = uploads.expand(
                [(Path(path).name, uploads.uploaded(path, folder)) for path in paths],
                service.settings.max_files,
            )
            for row in batch.answers(service, sources):
                rows.append(row)
                if len(rows) % SHOWN_EVERY == 0 and len(rows) < len(sources):
                    yield progress(len(rows), len(sources)), gr.skip(), gr.skip(), ""
        except config.UserError as error:
            yield shown.refusal(error), gr.skip(), gr.skip(), ""
            return
        written = batch.write_csv(rows, Path(tempfile.mkdtemp(dir=folder)))
        pairs = batch.labelled(rows)
        failed = sum(row["error"] is not None for row in rows)
        yield (
            progress(len(rows), len(rows), failed),
            [batch.shown_row(row) for row in rows],
            gr.DownloadButton(value=str(written), interactive=True),
            shown.confusion(*confusion(pairs)) if pairs else "",
        )

    running = start.click(
        run,
        files,
        [state, table, download, matrix],
        show_progress="hidden",
        api_visibility="private",
        concurrency_limit=None,
    )
    stop.click(None, cancels=[running], api_visibility="private")


def progress(done: int, total: int, failed: int = 0) -> str:
    """How far it is."""
    text = f"{done} of {total} files" + (f", {failed} of them unreadable" if failed else "")
    return (
        f'<div role="progressbar" aria-valuemin="0" aria-valuemax="{total}" '
        f'aria-valuenow="{done}" aria-label="progress">'
        f"{shown.bar(done / total, shown.COLOURS['vote'], text)}</div>"
    )
