"""What a start imports: nothing that takes seconds is needed on the way to an answer."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_verify_setup import blocked
from waiting import PATIENCE

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "torchaudio", "scipy", "pandas", "sklearn", "librosa", "noisereduce", "onnx"}
HEAVY |= {"matplotlib", "seaborn", "pyarrow", "joblib", "onnxscript", "tensorboard"}
TELL = """
import atexit, sys
atexit.register(lambda: print("modules", sorted(name for name in sys.modules if "." not in name)))
"""
WITHOUT_TORCH = blocked("torch")


def script(
    name: str, *words: object, folder: Path, code: str = TELL
) -> subprocess.CompletedProcess:
    """Run a script of the program in a folder, after some code."""
    code += (
        f"import runpy, sys\nsys.argv = [{name!r}, *{list(map(str, words))!r}]\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"if __name__ == '__main__': runpy.run_path({str(ROOT / name)!r}, run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=PATIENCE
    )


@pytest.mark.parametrize("clip", ["seven.wav", "noisy_nine.wav"])
def test_an_answer_imports_nothing_heavy(small_vote_dir, tmp_path, clip):
    words = ["--wav", ROOT / "docs" / clip, "--no-save", "--json"]
    words += ["--decision.models-dir", small_vote_dir]
    done = script("microphone_inference.py", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    answer, modules = done.stdout.splitlines()
    assert 0 <= json.loads(answer)["best_guess"] <= 9
    imported = set(ast.literal_eval(modules.removeprefix("modules ")))
    assert "onnxruntime" in imported and not imported & HEAVY


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_pytorch_and_onnx_give_the_same_answer(small_vote_dir, tmp_path, kind):
    """The small file with PyTorch imported, which only the latter does."""
    words = ["--wav", ROOT / "docs/seven.wav", "--no-save", "--decision.runtime", kind]
    words += ["--decision.models-dir", small_vote_dir / "cnn.pt"]
    done = script("microphone_inference.py", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ("'torch'" in done.stdout) == (kind == "torch")


def test_files_are_answered_where_pytorch_cannot_be_imported(small_vote_dir, tmp_path):
    words = [ROOT / "docs", "--output", "answers.csv", "--decision.models-dir", small_vote_dir]
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_TORCH)
    done = subprocess.run(
        [sys.executable, ROOT / "batch_inference.py", *map(str, words)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert "3 files" in done.stdout and " 0 unreadable" in done.stdout


def test_without_pytorch_and_onnx_file_one_line_says_what_to_install(small_vote_dir, tmp_path):
    (tmp_path / "cnn.pt").write_bytes((small_vote_dir / "cnn.pt").read_bytes())
    words = ["--wav", ROOT / "docs/seven.wav", "--decision.models-dir", tmp_path]
    done = script("microphone_inference.py", *words, folder=tmp_path, code=WITHOUT_TORCH)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "pip install -r requirements.txt" in done.stderr
