"""The API's own page: its endpoints from OpenAPI, and an example each; it loads nothing else."""

from __future__ import annotations

import html
from typing import Any

EXAMPLES = {
    "/v1/recognize": {
        "curl": "curl -F file=@docs/seven.wav {base}/v1/recognize",
        "Python": """import requests

with open("docs/seven.wav", "rb") as file:
    answer = requests.post("{base}/v1/recognize", files={{"file": file}}, timeout=30)
print(answer.json()["digit"])""",
        "JavaScript": """const form = new FormData();
form.append("file", file);  // a File or Blob, as from an <input type="file">
const answer = await fetch("{base}/v1/recognize", {{method: "POST", body: form}});
console.log((await answer.json()).digit);""",
    },
    "/v1/recognize_batch": {
        "curl": "curl -F files=@docs/seven.wav -F files=@docs/noisy_nine.wav "
        "{base}/v1/recognize_batch",
        "Python": """import requests

names = ["docs/seven.wav", "docs/noisy_nine.wav"]
files = [("files", (name, open(name, "rb"))) for name in names]
reply = requests.post("{base}/v1/recognize_batch", files=files, timeout=300)
print([answer.get("digit") for answer in reply.json()["answers"]])""",
        "JavaScript": """const form = new FormData();
for (const file of files) form.append("files", file);
const answer = await fetch("{base}/v1/recognize_batch", {{method: "POST", body: form}});
console.log((await answer.json()).answers.map((one) => one.digit));""",
    },
    "/v1/strings": {
        "curl": "curl -F file=@docs/number.wav '{base}/v1/strings?length=7'",
        "Python": """import requests

with open("docs/number.wav", "rb") as file:
    answer = requests.post("{base}/v1/strings", files={{"file": file}}, timeout=120)
print(answer.json()["digits"])""",
        "JavaScript": """const form = new FormData();
form.append("file", file);
const answer = await fetch("{base}/v1/strings?length=7", {{method: "POST", body: form}});
console.log((await answer.json()).digits);""",
    },
    "/v1/models": {
        "curl": "curl {base}/v1/models",
        "Python": """import requests

print(requests.get("{base}/v1/models", timeout=30).json()["models"])""",
        "JavaScript": """const answer = await fetch("{base}/v1/models");
console.log((await answer.json()).models);""",
    },
    "/healthz": {
        "curl": "curl {base}/healthz",
        "Python": """import requests

print(requests.get("{base}/healthz", timeout=30).json()["status"])""",
        "JavaScript": """const answer = await fetch("{base}/healthz");
console.log((await answer.json()).status);""",
    },
    "gradio_client": {
        "Python": """from gradio_client import Client, handle_file

client = Client("{base}")
print(client.predict(handle_file("docs/seven.wav"), api_name="/recognize")["digit"])"""
    },
}
"""By endpoint and language; the tests run each of them."""
DEFAULT_BASE = "http://127.0.0.1:7860"
STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
pre { padding: .8rem; overflow-x: auto; border: 1px solid #8886; border-radius: .4rem; }
h2 { margin-top: 2.5rem; border-top: 1px solid #8886; padding-top: 1rem; }
.method { font-size: .8em; padding: .1em .5em; border: 1px solid; border-radius: .4em; }
td { padding: .1rem .8rem .1rem 0; vertical-align: top; }
"""


def page(schema: dict[str, Any], base: str = DEFAULT_BASE) -> str:
    """The page as HTML."""
    parts = [_endpoint(path, item, base) for path, item in schema["paths"].items()]
    client = _examples("gradio_client", base)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(schema['info']['title'])}: API</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{_text(schema['info']['title'])}: API</h1>"
        f"<p>{_text(schema['info']['description'])} Machine-readable: "
        '<a href="openapi.json">openapi.json</a>. <a href="./">To the app</a>.</p>'
        f"{''.join(parts)}<h2>gradio_client</h2>{client}</main></body></html>"
    )


def _endpoint(path: str, item: dict[str, Any], base: str) -> str:
    parts = []
    for method, operation in item.items():
        paragraphs = operation.get("description", "").split("\n\n")
        described = "".join(f"<p>{_text(paragraph)}</p>" for paragraph in paragraphs)
        replies = "".join(
            f"<tr><td>{_text(code)}</td><td>{_text(reply['description'])}</td></tr>"
            for code, reply in operation["responses"].items()
        )
        parts.append(
            f'<h2><span class="method">{_text(method.upper())}</span> {_text(path)}</h2>'
            f"{described}<table>{replies}</table>"
        )
    return "".join(parts) + _examples(path, base)


def _examples(name: str, base: str) -> str:
    return "".join(
        f"<h3>{_text(language)}</h3><pre><code>{_text(code.format(base=base))}</code></pre>"
        for language, code in EXAMPLES.get(name, {}).items()
    )


def _text(value: object) -> str:
    return html.escape(str(value))
