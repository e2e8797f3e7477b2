"""The page that listens on and on: level, digits as they are spoken, threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

import audio_io
import config
from webapp import shown, uploads
from webapp.continuous import Listener
from webapp.service import RecognitionService

CHUNK_SECONDS = 0.2
"""s of sound that the browser sends at a time."""
QUIET = shown.level(-60, False)


def build(service: RecognitionService, folder: Path) -> None:
    """Lay the page out and wire it; the stream's pieces lie below `folder`."""
    listener: Any = gr.State(None)
    gr.Markdown("Press record, then speak digits with short pauses. Stop ends listening.")
    sound = gr.Audio(
        sources=["microphone"],
        streaming=True,
        type="filepath",
        label="Microphone",
        elem_id="stream-audio",
    )
    meter = gr.HTML(QUIET, padding=False, elem_id="stream-level")
    digits = gr.HTML(shown.string([]), padding=False, elem_id="stream-digits")
    with gr.Row():
        plain = gr.Textbox(
            label="The string, to copy", interactive=False, buttons=["copy"], elem_id="stream-text"
        )
        threshold = gr.Slider(
            0,
            1,
            service.choices.continuous_threshold,
            step=0.01,
            label="Confidence that a digit needs",
            elem_id="stream-threshold",
        )
    clear = gr.Button("Clear", elem_id="stream-clear")
    last = gr.HTML(padding=False, elem_id="stream-last")

    def view(heard: Listener, before: int) -> tuple[Any, ...]:
        level = shown.level(heard.level_dbfs, heard.speaking)
        if len(heard.digits) == before and heard.last is None:
            return heard, level, gr.skip(), gr.skip(), gr.skip()
        result = heard.last.result if heard.last else None
        return (
            heard,
            level,
            shown.string(heard.digits),
            "".join(map(str, heard.digits)),
            shown.answer(result) if result else "",
        )

    def feed(chunk: str | None, heard: Listener | None, least: float) -> tuple[Any, ...]:
        heard = heard or Listener(service)
        before, heard.last = len(heard.digits), None
        if chunk is not None:
            try:
                piece = audio_io.read_audio(uploads.uploaded(chunk, folder))
                heard.feed(*piece, least)
            except config.UserError as error:
                return heard, shown.refusal(error), gr.skip(), gr.skip(), gr.skip()
        return view(heard, before)

    def stop(heard: Listener | None, least: float) -> tuple[Any, ...]:
        heard = heard or Listener(service)
        before, heard.last = len(heard.digits), None
        heard.stop(least)
        return view(heard, before)

    def forget(heard: Listener | None) -> tuple[Any, ...]:
        heard = heard or Listener(service)
        heard.clear()
        return heard, shown.string([]), "", ""

    outputs = [listener, meter, digits, plain, last]
    sound.stream(
        feed,
        [sound, listener, threshold],
        outputs,
        stream_every=CHUNK_SECONDS,
        time_limit=None,
        show_progress="hidden",
        api_visibility="private",
        concurrency_limit=None,
    )
    sound.stop_recording(
        stop, [listener, threshold], outputs, show_progress="hidden", api_visibility="private"
    )
    clear.click(
        forget,
        listener,
        [listener, digits, plain, last],
        show_progress="hidden",
        api_visibility="private",
    )
