"""Build the page that recognises in the browser, into web/dist.

    python web/build.py
    python web/build.py --model vote.onnx
    python export_model.py --strings-to saved_models/strings.onnx && python web/build.py
    python -m http.server --directory web/dist

It takes npm, which fetches the two packages that package-lock.json names. The page is plain files:
any file server will do. The models are what export_model.py writes; without --model,
saved_models/student.onnx, or else saved_models/vote.onnx. With a network of strings (--strings, or
saved_models/strings.onnx) the page also hears several digits in one breath.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SAVED_MODELS = HERE.parent / "saved_models"
STRINGS = SAVED_MODELS / "strings.onnx"
MODELS = (SAVED_MODELS / "student.onnx", SAVED_MODELS / "vote.onnx")
"""The models that are looked for, the first choice first."""
PACKAGES = {
    "onnxruntime-web/dist/ort.wasm.bundle.min.mjs": "ort.wasm.bundle.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm": "runtime.wasm.gz",
    "@echogarden/fvad-wasm/fvad.js": "fvad.js",
    "@echogarden/fvad-wasm/fvad.wasm": "fvad.wasm",
    "@echogarden/fvad-wasm/LICENSE": "LICENSE.fvad.txt",
}
"""Files of npm's packages, and what they are called in the page; .gz: packed."""
RATES = (8000, 16000)
"""Hz at which the page can clean sound: its Fourier transform takes powers of two."""


class BuildError(Exception):
    """Something a user can mend, in one line."""


def described(path: Path, strings: Path | None) -> dict:
    """What the page must know of a model, and of the network of strings beside it.

    Raises
    ------
    BuildError : not a model that export_model.py wrote
    """
    sys.path.insert(0, str(HERE.parent))
    import config
    from recognition.onnx_predictor import OnnxPredictor
    from recognition.string_networks import OnnxStrings

    try:
        predictor = OnnxPredictor(path)
        if strings is not None and OnnxStrings(strings).rate != predictor.audio.sample_rate:
            raise BuildError(f"{strings}: not for {predictor.audio.sample_rate} Hz, as {path} is")
    except config.UserError as error:
        raise BuildError(str(error)) from None
    rate = predictor.audio.sample_rate
    if rate not in RATES:
        raise BuildError(f"{path}: a model for {rate} Hz; the page cleans sound of {RATES} Hz")
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    return {
        "strings": strings is not None,
        "labels": predictor.metadata["labels"],
        "sample_rate": rate,
        "threshold": predictor.threshold,
        "max_seconds": predictor.audio.max_seconds,
        "description": f"model {path.stem}: {', '.join(predictor.names)}, {size}, {rate} Hz",
    }


def install() -> Path:
    """The folder with npm's packages, as package-lock.json names them."""
    npm = shutil.which("npm")
    if npm is None:
        raise BuildError("npm is not there: install Node.js, which brings it")
    done = subprocess.run([npm, "ci", "--ignore-scripts"], cwd=HERE, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"npm ci failed: {(done.stderr.strip() or done.stdout).splitlines()[-1]}")
    return HERE / "node_modules"


def packed(path: Path) -> bytes:
    """A file's bytes, compressed, the same ones each time."""
    return gzip.compress(path.read_bytes(), mtime=0)


def build(model: Path, strings: Path | None, target: Path) -> None:
    """Put the page together in `target`, which is replaced as a whole."""
    about, packages = described(model, strings), install()
    with tempfile.TemporaryDirectory(dir=HERE) as temporary:
        page = Path(temporary, "dist")
        shutil.copytree(HERE / "src", page)
        for source, name in PACKAGES.items():
            path = packages / source
            (page / name).write_bytes(packed(path) if name.endswith(".gz") else path.read_bytes())
        (page / "model.onnx.gz").write_bytes(packed(model))
        if strings is not None:
            (page / "strings.onnx.gz").write_bytes(packed(strings))
        (page / "model.json").write_text(json.dumps(about), encoding="utf-8")
        keep_offline(page)
        if target.exists():
            shutil.rmtree(target)
        shutil.move(page, target)


def keep_offline(page: Path) -> None:
    """Tell the service worker which files there are, and which version of them."""
    worker = page / "service-worker.js"
    files = sorted(path for path in page.iterdir() if path != worker)
    version = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    names = ["./", *(path.name for path in files)]
    head = f"const VERSION = {json.dumps(version)}, FILES = {json.dumps(names)};\n"
    worker.write_text(head + worker.read_text(encoding="utf-8"), encoding="utf-8")


def main() -> int:
    """Build, and say of what the page consists."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="ONNX file of export_model.py")
    parser.add_argument("--strings", type=Path, help="the same, of the network that hears strings")
    parser.add_argument("--to", type=Path, default=HERE / "dist", help="folder of the page")
    options = parser.parse_args()
    model = options.model or next((path for path in MODELS if path.is_file()), MODELS[-1])
    strings = options.strings or (STRINGS if STRINGS.is_file() else None)
    try:
        build(model, strings, options.to)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    sizes = {path.name: path.stat().st_size / 1e6 for path in sorted(options.to.iterdir())}
    for name, size in sizes.items():
        print(f"{size:7.3f} MB  {name}")
    print(f"{sum(sizes.values()):7.3f} MB  {options.to}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
