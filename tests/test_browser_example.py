"""The JavaScript example reads what Python writes: zarrita.js in Node, compared value by value."""

from __future__ import annotations

import dataclasses
import json
import os
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from anscombe_transform import AnscombeTransformV2
from anscombe_transform.codec.transform.choice import fit
from anscombe_transform.codec.transform.configuration import Configuration
from anscombe_transform.codec.transform.plan import plan

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "browser"
REFERENCE = Path(__file__).parent / "data" / "reference-1.0.0"
DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"]
V3 = zarr.__version__ >= "3"


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with zarrita installed; ANSCOMBE_NODE_MODULES names an installed one."""
    if shutil.which("node") is None:
        pytest.skip("node is not on this machine")
    folder = tmp_path_factory.mktemp("browser")
    for file in ("anscombe.js", "frames.js", "frames.wasm", "read.js", "package.json"):
        shutil.copy(EXAMPLE / file, folder)
    installed = Path(os.environ.get("ANSCOMBE_NODE_MODULES", EXAMPLE / "node_modules"))
    if (installed / "zarrita").is_dir():
        (folder / "node_modules").symlink_to(installed.resolve())
        return folder
    if shutil.which("npm") is None:
        pytest.skip("zarrita is not installed (ANSCOMBE_NODE_MODULES), and there is no npm to install it")
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefer-offline", "--no-package-lock"]
    command += ["--fetch-retries=0", "--fetch-timeout=20000"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            timeout=90,
            capture_output=True,
            text=True,
            check=False,
            shell=os.name == "nt",
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not install zarrita in time")
    if done.returncode:
        pytest.skip(f"npm could not install zarrita: {done.stderr.strip()[-300:]}")
    return folder


def node(example: Path, *arguments: str, stdin: str = "") -> Any:
    """What a script prints, as JSON."""
    done = subprocess.run(
        ["node", *arguments], cwd=example, input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused_by_node(example: Path, path: Path, out: Path) -> str:
    """What the reader says of an array that it does not read."""
    done = subprocess.run(
        ["node", "read.js", str(path), str(out)], cwd=example, capture_output=True, text=True, check=False
    )
    assert done.returncode
    return done.stderr


def assert_equal_in_node(example: Path, paths: dict[str, Path], folder: Path) -> None:
    """Node gives the shape, dtype and bits of every value that zarr-python gives."""
    files = {name: folder / f"{name}.raw" for name in paths}
    pairs = [str(p) for name, path in paths.items() for p in (path, files[name])]
    for (name, path), got in zip(paths.items(), node(example, "read.js", *pairs), strict=True):
        expected = zarr.open(str(path), mode="r")[:]
        assert got == {"shape": list(expected.shape), "dtype": expected.dtype.name}, name
        values = np.fromfile(files[name], expected.dtype.newbyteorder("<")).reshape(expected.shape)
        assert np.array_equal(values, expected, equal_nan=expected.dtype.kind == "f"), name


def make_movie(dtype: str, rng: np.random.Generator, *, negatives: bool) -> np.ndarray:
    """Counts of 8 photons at gain 30, with negatives and NaN where they are allowed."""
    movie = (30 * rng.poisson(8, (7, 20, 30)) + 20 - 60 * negatives).astype(dtype)
    if movie.dtype.kind == "f" and negatives:
        movie += rng.normal(0, 3, movie.shape).astype(dtype)
        movie[:, 3] = np.nan
    return movie


def parameters(dtype: str) -> dict[str, dict[str, Any]]:
    """Codecs that hold the movie, by name."""
    few = {"zero_level": 20, "conversion_gain": 30.0, "decoded_dtype": dtype}
    chosen: dict[str, dict[str, Any]] = {
        "v1-u1": {**few},
        "v1-u2": {**few, "conversion_gain": 0.7, "encoded_dtype": "uint16"},
    }
    # A table as long as the movie needs: cast_value of zarrita searches it for every value.
    low = 0 if np.dtype(dtype).kind == "u" else -200
    wide = Configuration(
        **few | {"conversion_gain": 0.7, "encoded_dtype": "uint16"}, read_noise=9.0, zero_code=0
    )
    for name, base in {"v2-u1": Configuration(**few, beta=0.4, zero_code=0), "v2-u2": wide}.items():
        held = fit(base, low, 2000, choose_codes=False)
        chosen[name] = {field.name: getattr(held, field.name) for field in dataclasses.fields(held)}
    return chosen


@pytest.mark.skipif(not V3, reason="zarr-python 2 has no Zarr V3")
def test_v3_arrays_read_equal(example: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    """v1 and v2, both widths of codes, integers and floats with NaN; sharded, big-endian, missing chunks."""
    from zarr.codecs import BloscCodec, BytesCodec, GzipCodec

    from anscombe_transform import AnscombeTransformV3

    layouts: list[dict[str, Any]] = [
        {},
        {"shards": (4, 32, 32), "chunks": (4, 16, 16)},
        {"serializer": BytesCodec(endian="big"), "compressors": GzipCodec()},
        {"compressors": BloscCodec(cname="lz4", typesize=1)},
        {"compressors": None},
    ]
    paths = {}
    for dtype in ("int16", "uint16", "int32", "float32", "float64", "int64"):
        for name, codec in parameters(dtype).items():
            movie = make_movie(dtype, rng, negatives="v2" in name and dtype != "uint16")
            path = tmp_path / f"{dtype}-{name}.zarr"
            layout = {"chunks": (3, 16, 16)} | layouts[len(paths) % len(layouts)]
            array = zarr.create_array(
                str(path), shape=(9, 20, 30), dtype=dtype, filters=[AnscombeTransformV3(**codec)], **layout
            )
            array[:5] = movie[:5]
            paths[path.stem] = path
    paths["1.0.0"] = REFERENCE / "movie_zarr_v3.zarr"
    assert_equal_in_node(example, paths, tmp_path)


def test_v2_arrays_read_equal(example: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    """The same in Zarr V2, with big-endian values and Fortran order, and an array of 1.0.0."""
    paths = {}
    for dtype in ("int16", ">i2", "uint16", ">u2", "int32", "float32", ">f8"):
        for name, codec in parameters(dtype).items():
            movie = make_movie(dtype, rng, negatives="v2" in name and np.dtype(dtype).kind != "u")
            path = tmp_path / f"{dtype.strip('>')}-{dtype[0] == '>'}-{name}.zarr"
            create = zarr.create_array if V3 else zarr.create
            few: dict[str, Any] = {"zarr_format": 2} if V3 else {"compressor": None}
            few["order"] = "F" if len(paths) % 3 == 1 and dtype[0] != ">" else "C"
            array = create(
                store=str(path),
                shape=(9, 20, 30),
                chunks=(3, 16, 16),
                dtype=dtype,
                fill_value=100,
                filters=[AnscombeTransformV2(**codec)],
                **few,
            )
            array[:5] = movie[:5]
            paths[path.stem] = path
    paths["1.0.0"] = REFERENCE / "movie_zarr_v2.zarr"
    assert_equal_in_node(example, paths, tmp_path)


def codes_of(
    rng: np.random.Generator, dtype: str, shape: tuple[int, ...], kind: str, axis: int | None
) -> np.ndarray:
    """Codes of a dim movie, a bright one, a slope with or without gaps, sparse counts, or of anything."""
    top = np.iinfo(dtype).max
    if kind == "anything":
        return rng.integers(0, top, shape, endpoint=True).astype(dtype)
    if kind == "sparse":
        counts = np.asarray(rng.random(shape) < 0.02, dtype)
        # Zarr writes no chunk where there is nothing but fill values.
        counts.reshape(-1)[:1] = 1
        return counts
    if kind in ("slope", "gaps"):
        slope = rng.normal(60 + np.arange(shape[-1]) / 4 if shape else 60, 2.0, shape)
        return np.rint(slope).astype(dtype) // (3 if kind == "gaps" else 1) * (3 if kind == "gaps" else 1)
    levels = rng.uniform(0, 30 if kind == "dim" else top, shape)
    if axis is not None:
        levels = np.broadcast_to(levels.mean(axis, keepdims=True), shape)
    return np.clip(np.rint(rng.normal(levels, 2.0)), 0, top).astype(dtype)


@pytest.mark.skipif(not V3, reason="zarr-python 2 has no Zarr V3")
def test_frames_read_equal(example: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    """The frame coder in V3 and V2: both widths, any time axis and shape, every way a chunk is stored."""
    from anscombe_transform import FrameCoderV2, FrameCoderV3

    paths, stored = {}, set()
    shapes: list[tuple[tuple[int, ...], int | None]] = [
        ((40, 24, 32), 0),
        ((24, 40, 20), 1),
        ((12, 2, 10, 16), 0),
        ((6, 8, 30), 2),
        ((5, 17, 9), None),
        ((50, 1, 1), 0),
        ((300,), 0),
        ((1, 30, 45), 0),
        ((20, 2, 3, 40), 2),
        ((3, 2, 11, 50), None),
    ]
    for dtype in ("uint8", "uint16"):
        for kind in ("dim", "bright", "slope", "gaps", "sparse", "anything"):
            for shape, axis in shapes:
                codes = codes_of(rng, dtype, shape, kind, axis)
                few: dict[str, Any] = {"chunks": shape, "dtype": dtype, "shape": shape}
                preset: Any = ("fast", "compact")[len(shape) % 2]
                for version in (2, 3):
                    path = tmp_path / f"{dtype}-{kind}-{len(paths)}.zarr"
                    if version == 3:
                        few |= {"serializer": FrameCoderV3(preset, axis), "compressors": None}
                        if len(paths) % 5 == 0:
                            few |= {"shards": shape}
                    else:
                        few |= {
                            "compressors": [FrameCoderV2(shape, dtype, preset=preset, time_axis=axis)],
                            "zarr_format": 2,
                        }
                    array = zarr.create_array(str(path), **few)
                    array[...] = codes
                    if version == 2 and codes.size:
                        stored.add((path / ".".join("0" * len(shape))).read_bytes()[1])
                    paths[path.stem] = path
                    few = {"chunks": shape, "dtype": dtype, "shape": shape}
    assert stored >= {0, 1}
    assert_equal_in_node(example, paths, tmp_path)


@pytest.mark.skipif(not V3, reason="zarr-python 2 has no Zarr V3")
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_compressed_movie_reads_equal(
    example: Path, tmp_path: Path, rng: np.random.Generator, zarr_format: int
) -> None:
    """Transform and frame coder together, codes of one and of two bytes, with missing chunks."""
    from anscombe_transform import AnscombeTransformV3
    from anscombe_transform.codec.pipeline import pipeline_for

    paths = {}
    for dtype in ("int16", "uint16", "float32"):
        for name, options in parameters(dtype).items():
            movie = make_movie(dtype, rng, negatives="v2" in name and dtype != "uint16")
            path = tmp_path / f"{dtype}-{name}.zarr"
            codec = (AnscombeTransformV3 if zarr_format == 3 else AnscombeTransformV2)(**options)
            pipeline = pipeline_for(codec, zarr_format=zarr_format, chunks=(3, 16, 16))
            fill = 100 if zarr_format == 2 else 0
            array = zarr.create_array(
                str(path),
                shape=(9, 20, 30),
                dtype=dtype,
                zarr_format=zarr_format,
                fill_value=fill,
                **pipeline,
            )
            array[:5] = movie[:5]
            paths[path.stem] = path
    assert_equal_in_node(example, paths, tmp_path)


@pytest.mark.skipif(not V3, reason="zarr-python 2 has no Zarr V3")
def test_portable_arrays_read_equal_without_the_decoder(
    example: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    """The cast_value of zarrita itself gives the same values, with no codec of ours registered."""
    from anscombe_transform import AnscombeTransformV3
    from anscombe_transform.codec.portable import make_portable

    script = (example / "read.js").read_text().replace("register(zarr.registry);", "")
    (example / "stock.js").write_text(script)
    expected, pairs = {}, []
    for dtype in ("int16", "uint16", "int64", "float32"):
        for name, codec in parameters(dtype).items():
            movie = make_movie(dtype, rng, negatives="v2" in name and dtype != "uint16")
            path = tmp_path / f"{dtype}-{name}.zarr"
            layout = {"shards": (6, 16, 32)} if len(expected) % 2 else {}
            array = zarr.create_array(
                str(path),
                shape=(9, 20, 30),
                dtype=dtype,
                chunks=(3, 16, 16),
                filters=[AnscombeTransformV3(**codec)],
                **layout,
            )
            array[:5] = movie[:5]
            expected[str(path)] = array[:]
            make_portable(path)
            pairs += [str(path), f"{path}.raw"]
    for (path_, values), got in zip(expected.items(), node(example, "stock.js", *pairs), strict=True):
        assert got == {"shape": list(values.shape), "dtype": values.dtype.name}
        read = np.fromfile(f"{path_}.raw", values.dtype).reshape(values.shape)
        assert np.array_equal(read, values, equal_nan=values.dtype.kind == "f"), path_


def test_the_formula_of_v1_gives_the_same_table(example: Path, rng: np.random.Generator) -> None:
    """For any parameters the JavaScript table of v1 is the Python one, bit for bit."""
    cases = []
    while len(cases) < 400:
        configuration = {
            "zero_level": float(rng.choice([0, 20, 225, 1000, rng.uniform(-20, 500)])),
            "conversion_gain": float(np.exp(rng.uniform(np.log(0.05), np.log(1000)))),
            "encoded_dtype": str(rng.choice(["uint8", "uint16", "int16", "int8", "uint32"])),
            "decoded_dtype": str(rng.choice(DTYPES)),
        }
        try:
            expected = plan(Configuration(**configuration)).table.tolist()
        except ValueError:
            continue
        cases.append((configuration, expected))
    script = (
        'import { tableV1 } from "./anscombe.js"; import { readFileSync } from "node:fs";'
        'const cases = JSON.parse(readFileSync(0, "utf8"));'
        "console.log(JSON.stringify(cases.map((c) => tableV1(c, c.decoded_dtype))));"
    )
    tables = node(example, "--input-type=module", "-e", script, stdin=json.dumps([case for case, _ in cases]))
    for (configuration, expected), got in zip(cases, tables, strict=True):
        assert got == expected, configuration


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"configuration": {"photons": 1}}, "unknown keys photons"),
        ({"configuration": {"decoded_dtype": "uint16"}}, "cannot read"),
        ({"name": "anscombe-v9"}, "anscombe-v9"),
    ],
)
@pytest.mark.skipif(not V3, reason="zarr-python 2 has no Zarr V3")
def test_what_it_does_not_know_is_an_error(
    example: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """Unknown keys, dtypes and formats are refused, not guessed at."""
    from anscombe_transform import AnscombeTransformV3

    path = tmp_path / "a.zarr"
    codec = AnscombeTransformV3(20, 30.0)
    zarr.create_array(str(path), data=np.full((4, 4), 50, "int16"), filters=[codec])
    document = json.loads((path / "zarr.json").read_text())
    document["codecs"][0]["configuration"] |= change.get("configuration", {})
    document["codecs"][0]["name"] = change.get("name", "anscombe-v1")
    (path / "zarr.json").write_text(json.dumps(document))
    assert message in refused_by_node(example, path, tmp_path / "out")


@pytest.mark.skipif(not V3, reason="zarr-python 2 has no Zarr V3")
def test_a_damaged_code_is_an_error(example: Path, tmp_path: Path) -> None:
    """A code that nobody writes is not a value."""
    from anscombe_transform import AnscombeTransformV3

    path = tmp_path / "a.zarr"
    codec = AnscombeTransformV3(20, 30.0)
    zarr.create_array(
        str(path), data=np.full((4, 4), 50, "int16"), chunks=(4, 4), filters=[codec], compressors=None
    )
    chunk = path / "c" / "0" / "0"
    chunk.write_bytes(b"\xff" + chunk.read_bytes()[1:])
    assert "the data are damaged" in refused_by_node(example, path, tmp_path / "out")


@pytest.mark.skipif(not V3, reason="zarr-python 2 has no Zarr V3")
def test_the_module_is_built_from_the_core(example: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    """The script makes a module from libanscombe that reads what the one in the repository reads."""
    for name in ("clang", "wasm-ld"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not on this machine")
    from anscombe_transform import FrameCoderV3

    folder = tmp_path / "example"
    shutil.copytree(example, folder, symlinks=True)
    module = folder / "frames.wasm"
    module.unlink()
    subprocess.run(["sh", str(EXAMPLE / "wasm" / "build.sh"), str(module)], check=True, capture_output=True)
    assert module.stat().st_size < 200_000
    paths = {}
    for dtype in ("uint8", "uint16"):
        for preset in ("fast", "compact"):
            codes = codes_of(rng, dtype, (40, 24, 70), "bright", 0)
            path = tmp_path / f"{dtype}-{preset}.zarr"
            coder = FrameCoderV3(preset)  # type: ignore[arg-type]
            zarr.create_array(str(path), data=codes, chunks=(20, 24, 70), serializer=coder, compressors=None)
            paths[path.stem] = path
    assert_equal_in_node(folder, paths, tmp_path)


@pytest.mark.skipif(not V3, reason="zarr-python 2 has no Zarr V3")
def test_damaged_frames_are_an_error(example: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    """A flipped byte in a chunk of the frame coder, or an unknown key, is refused."""
    from anscombe_transform import FrameCoderV3

    codes = codes_of(rng, "uint8", (20, 16, 16), "dim", 0)
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), data=codes, chunks=codes.shape, serializer=FrameCoderV3(), compressors=None)
    chunk, document = path / "c" / "0" / "0" / "0", path / "zarr.json"
    good, metadata = chunk.read_bytes(), document.read_text()
    script = (
        'import * as zarr from "zarrita"; import { readFile } from "node:fs/promises";'
        'import { register } from "./anscombe.js"; register(zarr.registry);'
        "const store = { get: (key) => readFile(process.argv[1] + key).catch(() => undefined) };"
        "const chain = (e) => e ? e.message + ' ' + chain(e.cause) : '';"
        'let said = "nothing"; try { await zarr.get(await zarr.open(store, { kind: "array" })); }'
        "catch (error) { said = chain(error); } console.log(JSON.stringify(said));"
    )
    for at in (0, 1, 2, 3, 4, len(good) // 2, len(good) - 1):
        chunk.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
        said = node(example, "--input-type=module", "-e", script, str(path))
        assert said != "nothing", at
    chunk.write_bytes(good)
    document.write_text(metadata.replace('"preset"', '"later"'))
    assert "unknown keys" in node(example, "--input-type=module", "-e", script, str(path))


def test_every_module_of_the_page_is_there(example: Path) -> None:
    """The page's import map names files that zarrita's packages have, and its own scripts."""
    text = (EXAMPLE / "index.html").read_text()
    imports = json.loads(text.split('<script type="importmap">')[1].split("</script>")[0])["imports"]
    assert "zarrita" in imports
    assert all((example / path).is_file() for path in imports.values())
    assert all((EXAMPLE / name).is_file() for name in ("page.js", "anscombe.js", "frames.js", "frames.wasm"))


@pytest.mark.skipif(not V3, reason="the script writes Zarr V3")
@pytest.mark.parametrize("option", [[], ["--portable"]])
def test_the_script_writes_a_movie_for_the_page(example: Path, tmp_path: Path, option: list[str]) -> None:
    """What `make_movie.py` writes is read in Node, and the page finds its photon scale."""
    path = tmp_path / "movie.zarr"
    runpy.run_path(str(EXAMPLE / "make_movie.py"))["main"]([str(path), *option])
    if not option:
        assert_equal_in_node(example, {"movie": path}, tmp_path)
    metadata = json.loads((path / "zarr.json").read_text())
    found = detect(example, metadata)
    assert (found["conversion_gain"], found["zero_level"]) == (90.0, 50.0)


def detect(example: Path, metadata: dict[str, Any]) -> Any:
    """The configuration that the page reads the photon scale from."""
    script = (
        'import { detector } from "./anscombe.js"; import { readFileSync } from "node:fs";'
        'console.log(JSON.stringify(detector(JSON.parse(readFileSync(0, "utf8"))) ?? null));'
    )
    return node(example, "--input-type=module", "-e", script, stdin=json.dumps(metadata))


def test_the_photon_scale_is_found_wherever_the_codec_is(example: Path) -> None:
    """Among the codecs, inside shards, in the filters of V2, under the alias; and not where there is none."""
    few = {"zero_level": 20, "conversion_gain": 30.0}
    codec = {"name": "numcodecs.anscombe-v1", "configuration": few}
    shards = {"name": "sharding_indexed", "configuration": {"codecs": [codec, "bytes"]}}
    assert detect(example, {"codecs": ["bytes", codec]}) == few
    assert detect(example, {"codecs": [shards]}) == few
    assert detect(example, {"filters": [{"id": "anscombe-v1", **few}]}) == {"id": "anscombe-v1", **few}
    assert detect(example, {"filters": None, "codecs": ["bytes"]}) is None
