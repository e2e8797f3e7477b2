"""The page of settings: networks, runtime, cleaning, thresholds, theme; saved, and set back."""

from __future__ import annotations

import dataclasses
from typing import Any

import gradio as gr

import config
from webapp import shown
from webapp.service import RecognitionService
from webapp.settings import THEMES, VOTE, Choices

HEADINGS = ("model", "size (MB)", "parameters", "validation accuracy", "threshold")
THEME_SCRIPT = """
(theme) => {
  const dark = theme === "dark" ||
    (theme === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.body.classList.toggle("dark", dark);
}
"""
"""JavaScript that shows the page in a theme."""
NAMES = tuple(item.name for item in dataclasses.fields(Choices))


def build(service: RecognitionService, page: gr.Blocks, tab: gr.Tab) -> None:
    """Lay the page out and wire it."""
    now = service.choices
    with gr.Row():
        with gr.Column(min_width=280):
            gr.Markdown("### Networks")
            models = gr.Radio(
                [VOTE, now.models], value=now.models, label="Who answers", elem_id="settings-models"
            )
            runtime = gr.Radio(["auto", "onnx", "torch"], value=now.runtime, label="Runtime")
            threshold = gr.Slider(
                0,
                1,
                now.threshold,
                step=0.01,
                label="Least confidence of a digit",
                info="The networks' own threshold holds as well.",
                elem_id="settings-threshold",
            )
            continuous = gr.Slider(
                0, 1, now.continuous_threshold, step=0.01, label="The same, in continuous mode"
            )
            oh = gr.Checkbox(now.oh, label='Take "oh" for zero', elem_id="settings-oh")
        with gr.Column(min_width=280):
            gr.Markdown("### Cleaning")
            highpass = gr.Checkbox(now.highpass, label="High-pass filter")
            gate = gr.Radio(["auto", "on", "off"], value=now.gate, label="Spectral gating")
            trim = gr.Checkbox(now.trim, label="Trim to the speech")
            sensitivity = gr.Slider(
                0, 3, now.sensitivity, step=1, label="Sensitivity of the voice activity detector"
            )
            gr.Markdown("### Page")
            theme = gr.Radio(list(THEMES), value=now.theme, label="Theme", elem_id="settings-theme")
    with gr.Row():
        save = gr.Button("Save", variant="primary", elem_id="settings-save")
        reset = gr.Button("Back to defaults", elem_id="settings-reset")
    told = gr.HTML(padding=False, elem_id="settings-told")
    table = gr.Dataframe(
        headers=list(HEADINGS), interactive=False, label="Trained networks", wrap=True
    )
    fields = [models, runtime, highpass, gate, trim, sensitivity, threshold, continuous, oh, theme]

    def values_of(choices: Choices) -> list[Any]:
        values: list[Any] = [getattr(choices, name) for name in NAMES]
        names = [(config.display_name(name), name) for name in [VOTE, *service.network_names()]]
        return [gr.Radio(choices=names, value=choices.models), *values[1:]]

    def show() -> list[Any]:
        rows = [
            [
                item["display_name"],
                item["megabytes"],
                f"{item['parameters']:,}" if item["parameters"] else "",
                item["validation_accuracy"] and round(item["validation_accuracy"], 4),
                item["threshold"],
            ]
            for item in service.models()
        ]
        return [*values_of(service.choices), rows]

    def keep(*values: Any) -> str:
        try:
            service.choose(Choices(**dict(zip(NAMES, values, strict=True))))
        except (config.UserError, TypeError) as error:
            return shown.refusal(error)
        return '<p role="status">Saved.</p>'

    def defaults() -> list[Any]:
        service.choose(Choices())
        return [*values_of(Choices()), '<p role="status">Back to defaults, and saved.</p>']

    quietly: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    tab.select(show, None, [*fields, table], **quietly)
    save.click(keep, fields, told, **quietly)
    reset.click(defaults, None, [*fields, told], **quietly)
    theme.change(None, theme, None, js=THEME_SCRIPT, api_visibility="private")
    page.load(lambda: service.choices.theme, None, theme, **quietly).then(
        None, theme, None, js=THEME_SCRIPT, api_visibility="private"
    )
