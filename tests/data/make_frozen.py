"""Write ``tests/data/frozen``: golden vectors and arrays of both formats. Run once; it refuses to overwrite.

python tests/data/make_frozen.py

Stored bytes are a promise. A test that fails on these files shows a change of a format, and formats do not
change: mend the code, or give the new format a new name and its own files.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, BytesCodec, GzipCodec, ZstdCodec

from anscombe_transform import AnscombeTransformV2, AnscombeTransformV3
from anscombe_transform.codec.transform.choice import fit
from anscombe_transform.codec.transform.configuration import Configuration
from anscombe_transform.codec.transform.plan import plan

FOLDER = Path(__file__).parent / "frozen"


def held(configuration: Configuration, low: float, high: float) -> Configuration:
    """The configuration with room for a range, and a table that ends with it."""
    return fit(configuration, low, high, choose_codes=False)


CONFIGURATIONS = {
    "v1-int16": Configuration(20, 30.0),
    "v1-int16-fraction": Configuration(225.5, 127.22852),
    "v1-low-gain": Configuration(0, 0.3, "uint16"),
    "v1-uint16": Configuration(100, 2.17, "uint16", "uint16"),
    "v1-beyond-uint8": Configuration(0, 1.0),
    "v1-uint8": Configuration(10, 4.0, "uint8", "uint8"),
    "v1-int32": Configuration(3, 8.1, "uint8", "int32"),
    "v1-negative-zero": Configuration(-50, 12.5, "uint8", "int16"),
    "v1-float32": Configuration(20, 30.0, "uint8", "float32"),
    "v2-int16": Configuration(0, 30.0, zero_code=20),
    "v2-uint16-camera": held(
        Configuration(100, 2.17, "uint16", "uint16", read_noise=3.5, zero_code=0), 60, 20000
    ),
    "v2-low-gain": held(Configuration(5, 0.4, "uint16", "int16", read_noise=1.0, zero_code=0), -60, 2000),
    "v2-int8": Configuration(-20, 2.0, "uint8", "int8", zero_code=40),
    "v2-int32-fine": held(Configuration(1000, 50.0, "uint16", "int32", beta=0.1, zero_code=0), -300, 20_000),
    "v2-uint32": held(Configuration(1000, 900.0, "uint16", "uint32", beta=1.0, zero_code=0), 900, 10**9),
    "v2-int64": held(Configuration(0, 30.0, "uint16", "int64"), -2000, 10**6),
    "v2-coarse": Configuration(20, 30.0, "uint8", "int16", beta=2.0, zero_code=9),
    "v2-clip": Configuration(20, 2.0, "uint8", "int16", zero_code=3, out_of_range="clip"),
    "v2-float32": Configuration(0, 30.0, "uint8", "float32", read_noise=4.0, zero_code=40),
    "v2-float64": held(Configuration(-0.25, 1.5, "uint16", "float64", beta=0.25, zero_code=0), -20, 9000.5),
    "v2-middles": replace(held(Configuration(100, 2.0, "uint16", zero_code=0), 0, 700), decode_table=None),
}


def signals(configuration: Configuration, rng: np.random.Generator) -> np.ndarray:
    """Values on both sides of every edge of the codes, the ends of the range, and some between."""
    p = plan(configuration)
    codes = np.unique(np.linspace(0, p.table.size, 700).astype(int))
    if p.decoded_dtype.kind == "f":
        edges = np.clip(p.edges[codes], p.lowest, p.highest)
        values = np.concatenate([edges - 1e-3, edges + 1e-3, rng.uniform(p.lowest, p.highest, 300)])
        values = np.concatenate([[p.lowest, p.highest], np.clip(values, p.lowest, p.highest)])
        # Rounding to float32 may carry an end of the range beyond it.
        values = values.astype(p.decoded_dtype)
        values = values[(values >= p.lowest) & (values <= p.highest)]
        return np.append(values, values.dtype.type(np.nan)) if configuration.keeps_nan else values
    first = np.ceil(p.edges[codes])
    values = np.concatenate([[p.lowest, p.highest], first - 1, first, rng.integers(p.lowest, p.highest, 300)])
    kept = np.unique(np.clip(values, p.lowest, p.highest)).astype(p.decoded_dtype)
    if configuration.out_of_range == "clip":
        limits = np.iinfo(p.decoded_dtype)
        kept = np.append(kept, np.array([limits.min, p.lowest - 1, p.highest + 1, limits.max], kept.dtype))
    return kept


def refused(configuration: Configuration) -> list[Any]:
    """Values of the type next to the range, which an encoder must refuse."""
    p = plan(configuration)
    if configuration.out_of_range == "clip":
        return []
    if p.decoded_dtype.kind == "f":
        step = 1e-3 * (p.highest - p.lowest)
        values = [p.lowest - step, p.highest + step, "Infinity", "-Infinity"]
        return values if configuration.keeps_nan else [*values, "NaN"]
    limits = np.iinfo(p.decoded_dtype)
    return [int(v) for v in (p.lowest - 1, p.highest + 1) if limits.min <= v <= limits.max]


def write_raw(path: Path, values: np.ndarray) -> dict[str, Any]:
    """Write little-endian numbers in C order and say what they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes())
    return {"file": str(path.relative_to(FOLDER)), "dtype": values.dtype.name, "shape": list(values.shape)}


def make_vectors(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Signals, their codes and what the codes decode to, for every configuration."""
    vectors = []
    for name, configuration in CONFIGURATIONS.items():
        p = plan(configuration)
        signal = signals(configuration, rng)
        codes = p.encode(signal)
        vectors.append(
            {
                "name": name,
                "format": configuration.format,
                "configuration": configuration.to_json(),
                "lowest": p.lowest,
                "highest": p.highest,
                "refused": refused(configuration),
                "signal": write_raw(FOLDER / "vectors" / f"{name}.signal.raw", signal),
                "codes": write_raw(FOLDER / "vectors" / f"{name}.codes.raw", codes),
                "decoded": write_raw(FOLDER / "vectors" / f"{name}.decoded.raw", p.decode(codes)),
            }
        )
    return vectors


def make_arrays(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Small movies in both Zarr formats, with missing and overhanging chunks."""
    photons = rng.poisson(8, (5, 12, 20))
    counts = (30 * photons + 20).astype("int16")
    dark = (30 * photons - 200).astype("int16")
    floats = (30 * photons - 100 + rng.normal(0, 5, photons.shape)).astype("float32")
    floats[:, :2] = np.nan
    v1 = {"zero_level": 20, "conversion_gain": 30.0}
    below = {"zero_level": 0, "conversion_gain": 30.0, "zero_code": 30, "read_noise": 5.0}
    tenth = held(Configuration(0, 30.0, "uint16", beta=0.1, read_noise=5.0, zero_code=0), -300, 900)
    fine = {
        **below,
        "encoded_dtype": "uint16",
        "beta": 0.1,
        "bins": tenth.bins,
        "decode_table": tenth.decode_table,
    }
    few = fit(Configuration(0, 30.0, "uint8", "float32", read_noise=5.0, zero_code=0), -300, 1500)
    floating = {**below, "decoded_dtype": "float32", "bins": few.bins, "decode_table": few.decode_table}
    big = BytesCodec(endian="big")
    v3: dict[str, tuple[np.ndarray, dict[str, Any], dict[str, Any]]] = {
        "v3-v1": (counts, v1, {}),
        "v3-v1-sharded": (counts, v1, {"shards": (4, 16, 16)}),
        "v3-v2": (dark, below, {"fill_value": -60, "compressors": GzipCodec()}),
        "v3-v2-uint16-codes-big-endian": (dark, fine, {"serializer": big, "compressors": ZstdCodec(level=1)}),
        "v3-v2-float32": (floats, floating, {"fill_value": np.nan, "compressors": BloscCodec(typesize=1)}),
    }
    v2: dict[str, tuple[np.ndarray, dict[str, Any], dict[str, Any]]] = {
        "v2-v1": (counts, v1, {}),
        "v2-v1-big-endian": (counts.astype(">i2"), {**v1, "decoded_dtype": ">i2"}, {}),
        "v2-v2-fortran": (dark, below, {"order": "F"}),
        "v2-v2-uint16-codes-big-endian": (dark.astype(">i2"), {**fine, "decoded_dtype": ">i2"}, {}),
        "v2-v2-float32": (floats, floating, {}),
    }
    arrays = []
    for zarr_format, cases in ((3, v3), (2, v2)):
        codec: Any = AnscombeTransformV3 if zarr_format == 3 else AnscombeTransformV2
        for name, (movie, parameters, layout) in cases.items():
            array = zarr.create_array(
                str(FOLDER / "arrays" / f"{name}.zarr"),
                shape=(7, 12, 20),
                chunks=(2, 8, 16),
                dtype=movie.dtype,
                zarr_format=zarr_format,
                filters=[codec(**parameters)],
                **{"fill_value": 0} | layout,
            )
            array[:5] = movie
            values = array[:]
            arrays.append(
                {
                    "name": name,
                    "zarr_format": zarr_format,
                    "array": f"arrays/{name}.zarr",
                    "values": write_raw(FOLDER / "arrays" / f"{name}.values.raw", values),
                }
            )
    return arrays


def main() -> None:
    """Write everything, unless it is there."""
    for name in ("vectors.json", "arrays.json", "vectors", "arrays"):
        if (FOLDER / name).exists():
            raise SystemExit(f"{FOLDER / name} exists: frozen data are never written again")
    rng = np.random.default_rng(2026)
    for name, content in {"vectors": make_vectors(rng), "arrays": make_arrays(rng)}.items():
        lines = ",\n".join(json.dumps(entry, allow_nan=False) for entry in content)
        (FOLDER / f"{name}.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
