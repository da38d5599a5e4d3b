"""How fast the module for browsers decodes, beside the package's own core on one thread.

    python tests/benchmarks/browser.py [--before FRAMES.js]

Needs node. `--before` names another `frames.js` that registers the same codec (of an earlier commit), to
be measured in the same run. Prints megabytes of codes a second and ratios.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

import anscombe_transform as at
from anscombe_transform.codec.frames import FrameConfiguration
from anscombe_transform.codec.frames.chunk import decode_chunk, encode_chunk

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "browser"
SHAPE = (64, 256, 256)
SCRIPT = """
import { readFileSync } from "node:fs";
const { registerFrames } = await import(process.argv[2]);
const registry = new Map();
registerFrames(registry);
const codec = (await registry.get("anscombe_frames")()).fromConfig(
  { preset: "fast", time_axis: 0 }, { shape: SHAPE, dataType: "uint8" });
const found = {};
for (const name of process.argv.slice(3)) {
  const bytes = new Uint8Array(readFileSync(name));
  await codec.decode(bytes);
  const times = [];
  for (let i = 0; i < 5; i++) {
    const start = process.cpuUsage();
    await codec.decode(bytes);
    const used = process.cpuUsage(start);
    times.push((used.user + used.system) / 1e6);
  }
  found[name] = times.sort((a, b) => a - b)[2];
}
console.log(JSON.stringify(found));
"""


def measure_script(script: Path, chunks: list[Path], folder: Path) -> dict[str, float]:
    """CPU seconds that a `frames.js` takes for each chunk."""
    program = folder / "measure.mjs"
    program.write_text(SCRIPT.replace("SHAPE", json.dumps(SHAPE)))
    command = ["node", str(program), str(script), *map(str, chunks)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--before", type=Path)
    arguments = parser.parse_args()
    movie, _ = at.simulate_movie(SHAPE, conversion_gain=90.0, zero_level=50.0, rng=0)
    codec = at.Sensitivity.from_known(conversion_gain=90, zero_level=50).codec(sample=movie)
    codes = codec.plan.encode(movie)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chunks, native = [], {}
        for preset in ("fast", "compact"):
            configuration = FrameConfiguration(preset)
            chunks.append(folder / preset)
            data = encode_chunk(codes, configuration)
            chunks[-1].write_bytes(data)
            times = []
            for _ in range(5):
                start = time.process_time()
                decode_chunk(data, codes.shape, codes.dtype, configuration)
                times.append(time.process_time() - start)
            native[str(chunks[-1])] = float(np.median(times))
        scripts = {"module": EXAMPLE / "frames.js"}
        if arguments.before:
            scripts["before"] = Path(shutil.copy(arguments.before, folder / "before.mjs"))
        found = {label: measure_script(path.resolve(), chunks, folder) for label, path in scripts.items()}
        for chunk in map(str, chunks):
            line = f"{Path(chunk).name:8} core {codes.nbytes / native[chunk] / 1e6:6.0f} MB/s"
            for label, seconds in found.items():
                speed = codes.nbytes / seconds[chunk] / 1e6
                line += f"   {label} {speed:6.0f} MB/s ({native[chunk] / seconds[chunk]:.2f} of the core)"
            print(line)


if __name__ == "__main__":
    main()
