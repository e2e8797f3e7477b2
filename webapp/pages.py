"""All pages together, as one Gradio application that loads nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

import config
from webapp import (
    page_batch,
    page_continuous,
    page_history,
    page_settings,
    page_single,
    shown,
    uploads,
)
from webapp.figures import Figures
from webapp.service import RecognitionService
from webapp.settings import ServerSettings

TITLE = "Spoken digits"
STYLE = """
.gradio-container main { max-width: 70rem !important; width: 100%; margin: auto; }
:focus-visible { outline: 3px solid #e69f00 !important; outline-offset: 2px; }
@media (max-width: 640px) { .gradio-container { padding: .5rem !important; }
  .digit { font-size: 5rem; } }
@media (prefers-reduced-motion: reduce) {
  * { animation: none !important; transition: none !important; } }
"""
HOURS_KEPT = 4
"""Hours after which uploads and figures are removed."""


def theme() -> gr.themes.Base:
    """Fonts of the system: the default theme's come from elsewhere."""
    return gr.themes.Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )


def build(service: RecognitionService, folder: Path) -> gr.Blocks:
    """The pages as tabs; uploads, and files for download, lie below `folder`."""
    figures = Figures(folder)
    with gr.Blocks(
        title=TITLE, fill_width=True, analytics_enabled=False, delete_cache=(600, 3600 * HOURS_KEPT)
    ) as blocks:
        gr.Markdown(f"# {TITLE}")
        with gr.Tabs():
            with gr.Tab("Single"):
                page_single.build(service, figures, folder)
            with gr.Tab("Continuous"):
                page_continuous.build(service, folder, blocks)
            with gr.Tab("Batch"):
                page_batch.build(service, folder)
            with gr.Tab("History") as history:
                page_history.build(service, folder, history)
            with gr.Tab("Settings") as settings:
                page_settings.build(service, blocks, settings)
        gr.HTML('<p>Nothing leaves this computer. <a href="docs">API</a></p>', padding=False)
        client_endpoint(service, folder)
    blocks.queue(default_concurrency_limit=8, max_size=service.settings.max_waiting)
    return blocks


def client_endpoint(service: RecognitionService, folder: Path) -> None:
    """The named endpoint for gradio_client: Gradio sees that it gets nothing but uploads."""
    recording = gr.Audio(type="filepath", label="recording", visible=False)
    answer = gr.JSON(visible=False)

    def recognize(path: str | None) -> dict[str, Any]:
        """Which digit a recording holds; "digit" is None for "no digit"."""
        try:
            if path is None:
                raise uploads.Refused("no recording")
            source = uploads.uploaded(path, folder)
            return service.recognize(source.name, source, "api").as_dict()
        except config.UserError as error:
            raise gr.Error(str(error), print_exception=False) from None

    gr.Button(visible=False).click(recognize, recording, answer, api_name="recognize")


def options(settings: ServerSettings, folder: Path) -> dict[str, Any]:
    """How Gradio mounts them."""
    return {
        "allowed_paths": [str(folder)],
        "show_error": True,
        "max_file_size": settings.max_bytes,
        "ssr_mode": False,
        "enable_monitoring": False,
        "run_history": False,
        "footer_links": [],
        "theme": theme(),
        "css": shown.STYLE + STYLE,
    }
