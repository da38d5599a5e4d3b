"""The native core under the sanitizers of the compiler, on sound and damaged chunks."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("frames", "predict", "rans", "rans_avx512", "choose", "checksum")
CHECKS = "-fsanitize=address,undefined"


@pytest.mark.parametrize("dispatch", [["-DANSCOMBE_DISPATCH"], []], ids=["vectors", "plain"])
def test_damaged_chunks_leave_memory_alone(dispatch: list[str], tmp_path: Path) -> None:
    """Neither encoding nor decoding of sound or damaged chunks reads or writes outside of its memory."""
    compiler = shutil.which(os.environ.get("CC", "gcc"))
    if compiler is None:
        pytest.skip("no C compiler is installed")
    files = [str(ROOT / "src" / "libanscombe" / f"{name}.c") for name in SOURCES]
    harness = [str(ROOT / "tests" / "fuzz" / "decode_frames.c"), "-DSTANDALONE"]
    options = ["-std=c11", "-O1", CHECKS, "-fno-sanitize-recover=all", f"-I{ROOT / 'src' / 'libanscombe'}"]
    command = [compiler, *options, *dispatch, *harness, *files, "-lm", "-o", str(tmp_path / "fuzz")]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode and "sanitize" in built.stderr:
        pytest.skip("the compiler has no sanitizers")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([str(tmp_path / "fuzz"), "40"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
