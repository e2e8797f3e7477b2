"""The page for one recording: microphone or file, trimmed at will, and its answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

import audio_io
import config
from live.recording_store import cleaned_sound
from webapp import shown, uploads
from webapp.figures import Figures
from webapp.service import Answer, RecognitionService

EMPTY = '<p class="said">Record a digit or choose a sound file; the answer appears here.</p>'
RECORDED_NAME = "audio.wav"
"""What browsers' recordings, and what was trimmed in the page, are called."""
RIGHT = "right"


def judgements(vocabulary: config.Vocabulary) -> list[str]:
    """What can be said of an answer: that it was right, or what was said in truth."""
    right = RIGHT if RIGHT not in vocabulary.labels else "as answered"
    return [right, *vocabulary.labels, vocabulary.none]


def build(service: RecognitionService, figures: Figures, folder: Path) -> None:
    """Lay the page out and wire it; uploads lie below `folder`."""
    vocabulary = service.recognizer().vocabulary
    choices = judgements(vocabulary)
    answer: Any = gr.State(None)
    recorded: Any = gr.State(False)
    with gr.Row():
        with gr.Column(min_width=300):
            sound = gr.Audio(
                sources=["microphone", "upload"],
                type="filepath",
                label="Recording: the scissors trim it",
                elem_id="single-audio",
                buttons=["download"],
                waveform_options=gr.WaveformOptions(
                    waveform_color="#0072b2", waveform_progress_color="#d55e00"
                ),
            )
            again = gr.Button("Recognise again", elem_id="single-again")
            with gr.Group():
                judged = gr.Radio(
                    choices,
                    label="Was it right? Otherwise: it was …",
                    elem_id="single-feedback",
                    interactive=True,
                )
            noted = gr.HTML(padding=False, elem_id="single-noted")
        with gr.Column(min_width=300):
            text = gr.HTML(EMPTY, padding=False, elem_id="single-answer")
            bars = gr.HTML(padding=False, elem_id="single-bars")
    with gr.Row():
        cleaned = gr.Audio(
            label="Cleaned clip, as the networks heard it",
            interactive=False,
            elem_id="single-cleaned",
            buttons=["download"],
        )
    gr.Markdown("Recorded and cleaned: waveforms and spectrograms")
    figure = gr.HTML(padding=False, elem_id="single-figure")

    def answer_recording(path: str | None, spoken: bool) -> tuple[Any, ...]:
        if path is None:
            return None, EMPTY, "", None, ""
        name, kind = Path(path).name, "upload"
        if name == RECORDED_NAME and spoken:
            name = kind = "microphone"
        try:
            found = service.recognize(name, uploads.uploaded(path, folder), kind)
        except config.UserError as error:
            return None, shown.refusal(error), "", None, ""
        result = found.result
        return found, shown.answer(result), shown.posteriors(result), None, ""

    def details(found: Answer | None) -> tuple[Any, Any]:
        if found is None:
            return None, ""
        clip = cleaned_sound(found.result)
        playable = (found.result.rate, audio_io.to_int16(clip)) if clip.size else None
        return playable, shown.picture(figures.comparison(found.result))

    def feed_back(found: Answer | None, word: str | None) -> str:
        if found is None or word is None:
            return ""
        digit, none = found.result.digit, vocabulary.reject
        label = choices.index(word) - 1
        if word == choices[0]:
            label = none if digit is None else digit
        return f'<p role="status">{shown.escaped(service.feed_back(found, label))}</p>'

    outputs = [answer, text, bars, judged, noted]
    for event in (sound.change, again.click):
        event(
            answer_recording,
            [sound, recorded],
            outputs,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
            trigger_mode="always_last",
        ).then(details, answer, [cleaned, figure], show_progress="hidden", api_visibility="private")
    # before what was recorded arrives; what is trimmed later keeps where it came from
    sound.start_recording(lambda: True, None, recorded, queue=False, api_visibility="private")
    sound.clear(lambda: False, None, recorded, queue=False, api_visibility="private")
    judged.input(
        feed_back, [answer, judged], noted, show_progress="hidden", api_visibility="private"
    )
