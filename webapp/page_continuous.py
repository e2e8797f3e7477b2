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
STOPPED = shown.level(-120, "not listening")


def build(service: RecognitionService, folder: Path, page: gr.Blocks) -> None:
    """Lay the page out and wire it; the stream's pieces lie below `folder`."""
    listener: Any = gr.State(None)
    gr.Markdown("Press record, then speak digits. Stop ends listening.")
    fluent = gr.Checkbox(
        label="Digits in one breath, such as a telephone number (otherwise with short pauses)",
        visible=service.hears_strings(),
        elem_id="stream-fluent",
    )
    sound = gr.Audio(
        sources=["microphone"],
        streaming=True,
        type="filepath",
        label="Microphone",
        elem_id="stream-audio",
    )
    meter = gr.HTML(STOPPED, padding=False, elem_id="stream-level")
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
            label="Confidence that a single digit needs",
            elem_id="stream-threshold",
        )
    clear = gr.Button("Clear", elem_id="stream-clear")
    last = gr.HTML(padding=False, elem_id="stream-last")

    def level(heard: Listener) -> str:
        return shown.level(heard.level_dbfs, "speech" if heard.speaking else "listening")

    def view(heard: Listener, meter: str) -> tuple[Any, ...]:
        return (
            heard,
            meter,
            shown.string(heard.digits),
            "".join(map(str, heard.digits)),
            shown.answer_or_string(heard.last) if heard.last else gr.skip(),
        )

    def feed(
        chunk: str | None, heard: Listener | None, least: float, strings: bool
    ) -> tuple[Any, ...]:
        heard = heard or Listener(service)
        heard.changed = False
        if chunk is not None:
            try:
                piece = audio_io.read_audio(uploads.uploaded(chunk, folder))
                heard.feed(*piece, least, strings)
            except config.UserError as error:
                return heard, shown.refusal(error), gr.skip(), gr.skip(), gr.skip()
        if not heard.changed:
            return heard, level(heard), *[gr.skip()] * 3
        return view(heard, level(heard))

    def stop(heard: Listener | None, least: float) -> tuple[Any, ...]:
        heard = heard or Listener(service)
        heard.stop(least)
        # all of it: the page may have missed the last pieces' answers
        return view(heard, STOPPED)

    def forget(heard: Listener | None) -> tuple[Any, ...]:
        heard = heard or Listener(service)
        heard.clear()
        return heard, shown.string([]), "", ""

    outputs = [listener, meter, digits, plain, last]
    in_order: dict[str, Any] = {
        "concurrency_id": "stream",
        "concurrency_limit": 1,
        "trigger_mode": "multiple",
        "show_progress": "hidden",
        "api_visibility": "private",
    }
    streaming = sound.stream(
        feed, [sound, listener, threshold, fluent], outputs, stream_every=CHUNK_SECONDS, **in_order
    )
    # over Gradio's own connection for streams a piece replaces one that still waits, and digits
    # are lost; as events of their own all of them queue
    page.fns[streaming["id"]].connection = "sse"
    sound.stop_recording(stop, [listener, threshold], outputs, **in_order)
    clear.click(
        forget,
        listener,
        [listener, digits, plain, last],
        show_progress="hidden",
        api_visibility="private",
    )
