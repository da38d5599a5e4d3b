"""Two descriptions of the same chunks: ours, and one that some readers without this package understand.

An array of the Anscombe transform and standard codecs holds codes, and decoding a code is a table look-up.
Zarr's registered codec ``cast_value`` can say that too: its ``scalar_map`` lists the value of every code. So
an array's metadata can be rewritten from one description to the other and back, without touching a chunk.

The portable description is for reading. ``cast_value`` encodes a value that its map does not list by casting
it, as if it were a code, so that another program would store most values wrongly: write to the native
description.
"""

from __future__ import annotations

import copy
import json
import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from anscombe_transform.codec.transform.configuration import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import zarr
    from zarr.core.array_spec import ArraySpec
    from zarr.storage import StoreLike, StorePath

    from anscombe_transform.codec.zarr_v3 import AnscombeTransformV3

    Document = dict[str, Any]
    Position = list[str | int]

ATTRIBUTE = "anscombe_portable"
"""The array attribute with the codecs for `make_native`."""

_CAST = "cast_value"
_SHARDING = "sharding_indexed"
_METADATA = "zarr.json"


def make_portable(array: zarr.Array[Any] | StoreLike) -> None:
    """Describe an array by the registered codec ``cast_value``, so that readers without this package open it.

    Only ``zarr.json`` is rewritten, no chunk is touched. Every stored value reads as before, the fill value
    included. The codecs for `make_native` are kept in the attribute ``anscombe_portable``.

    Parameters
    ----------
    array : zarr.Array, or store, path or URL of one
        A Zarr V3 array with the Anscombe transform and without the frame coder; its store must be writable.

    Raises
    ------
    ValueError
        If the array is of Zarr V2, has no Anscombe transform or several, has the frame coder, or is portable
        already.
    FileNotFoundError
        If there is no array.

    See Also
    --------
    make_native : the way back.

    Notes
    -----
    Open the array again afterwards: an object opened before keeps the old description, and writes it back
    when its attributes or shape are changed. The consolidated metadata of a group holds a copy of the
    description: consolidate it again.

    Write to the native description only. A program that writes to the portable one stores values correctly
    that it read before. Any other number from 0 to the largest code it would store as that code, a wrong
    value, except where values are integers and codes are uint8: there the map lists those numbers too.

    Readers known to give exact values: zarrita.js 0.7, zarr-python from 3.2 with the package
    ``cast-value-rs``, zarrs, and any zarr-python from 3.1.1 beside this package. Not tensorstore,
    neuroglancer, viv and ome-zarr.js, which know no ``cast_value`` yet; nor zarr-python 3.1 alone.

    Examples
    --------
    >>> import numpy as np, zarr
    >>> from anscombe_transform import AnscombeTransformV3
    >>> movie = np.random.default_rng(0).poisson(8, (10, 32, 32)).astype("int16") * 90 + 50
    >>> store = {}
    >>> array = zarr.create_array(store, data=movie, filters=[AnscombeTransformV3(50, 90.0)])
    >>> make_portable(array)
    >>> json.loads(store["zarr.json"].to_bytes())["codecs"][0]["name"]
    'cast_value'
    >>> make_native(array)
    >>> bool((zarr.open_array(store)[:] == array[:]).all())
    True
    """
    place = _locate(array)
    text = _read(place)
    document = _portable(json.loads(text), place)
    # Another writer may order or space its JSON differently: then its text is kept to give it back unchanged.
    if _dump(_native(copy.deepcopy(document), place)) != text:
        document["attributes"][ATTRIBUTE]["document"] = text
    _write(place, _dump(document))


def make_native(array: zarr.Array[Any] | StoreLike) -> None:
    """Describe an array by its own codec again: the reverse of `make_portable`.

    Only ``zarr.json`` is rewritten. It is restored byte for byte as before `make_portable`, unless the
    attributes or the shape were changed in between; those changes are kept.

    Parameters
    ----------
    array : zarr.Array, or store, path or URL of one
        An array that `make_portable` has rewritten; its store must be writable.

    Raises
    ------
    ValueError
        If the array was not made portable by `make_portable`, or its codecs were changed since.
    FileNotFoundError
        If there is no array.
    """
    place = _locate(array)
    document = json.loads(_read(place))
    text = document.get("attributes", {}).get(ATTRIBUTE, {}).get("document")
    if text is not None:
        unchanged = _portable(json.loads(text), place)
        unchanged["attributes"][ATTRIBUTE]["document"] = text
        if _dump(unchanged) == _dump(document):
            _write(place, text)
            return
    _write(place, _dump(_native(document, place)))


# -- the two descriptions --------------------------------------------------------------------------------


def _portable(document: Document, place: StorePath) -> Document:
    """The portable description of a native one."""
    if document.get("node_type") != "array":
        raise ValueError(f"{place} is a {document.get('node_type')}, not an array: give one of its arrays")
    if ATTRIBUTE in document.get("attributes", {}):
        raise ValueError(f"{place} is portable already: make_native gives it its own codec back")
    named = list(_codecs(document["codecs"], ["codecs"]))
    ours = [position for position, name in named if name in NAMES]
    if any(name == "anscombe_frames" for _, name in named):
        raise ValueError(
            f"{place} is stored with the frame coder, which no registered codec can describe: copy it to an "
            "array of the transform and a standard compressor such as zstd"
        )
    if len(ours) != 1:
        raise ValueError(
            f"{place} must have one Anscombe transform to be made portable, it has {len(ours)} "
            f"(codecs: {', '.join(name for _, name in named)})"
        )
    codec, spec = _opened(document)
    rewritten = copy.deepcopy(document)
    holder, last = _find(rewritten, ours[0])
    native, holder[last] = holder[last], _cast_value(codec, spec)
    rewritten.setdefault("attributes", {})[ATTRIBUTE] = {"codec": native, "position": ours[0]}
    return rewritten


def _native(document: Document, place: StorePath) -> Document:
    """The native description that a portable one was made of; changes `document`."""
    note = document.get("attributes", {}).pop(ATTRIBUTE, None)
    if note is None:
        raise ValueError(f"{place} was not made portable by make_portable: it has no attribute {ATTRIBUTE!r}")
    try:
        holder, last = _find(document, note["position"])
        if holder[last]["name"] != _CAST or note["codec"]["name"] not in NAMES:
            raise LookupError(note["position"])
    except (LookupError, TypeError) as error:
        raise ValueError(
            f"the codecs of {place} were changed since make_portable: {note.get('position')} must be "
            f"{_CAST}, for {note.get('codec')} to take its place"
        ) from error
    holder[last] = note["codec"]
    return document


def _cast_value(codec: AnscombeTransformV3, spec: ArraySpec) -> Document:
    """The codec ``cast_value`` that gives the value of every code, and the code of the fill value."""
    plan = codec.plan
    integers = plan.decoded_dtype.kind != "f"
    codes = np.arange(plan.table.size)
    values = plan.decode(codes.astype(plan.encoded_dtype))
    decoded = list(zip(codes.tolist(), values.tolist(), strict=True))
    # Values that were read are stored again as the codes they came from.
    listed = values
    if integers and plan.encoded_dtype.itemsize == 1:
        # Numbers that a cast would take for codes are few enough here to list the right code of each.
        largest = min(plan.configuration.last_code, int(np.iinfo(plan.decoded_dtype).max))
        listed = np.concatenate([values, np.arange(largest + 1, dtype=plan.decoded_dtype)])
    listed = listed[(listed >= plan.lowest) & (listed <= plan.highest)]
    encoded: dict[Any, int] = dict(zip(listed.tolist(), plan.encode(listed).tolist(), strict=True))
    if plan.configuration.keeps_nan:
        nan_code = plan.configuration.last_code + 1
        decoded.append((nan_code, math.nan))
        encoded["NaN"] = nan_code
    fill = np.asarray(spec.fill_value, plan.decoded_dtype).item()
    encoded[_scalar(fill)] = int(codec.resolve_metadata(spec).fill_value)
    return {
        "name": _CAST,
        "configuration": {
            "data_type": codec.encoded_dtype,
            "scalar_map": {
                "encode": [[value, code] for value, code in encoded.items()],
                "decode": [[code, _scalar(value)] for code, value in decoded],
            },
        },
    }


def _scalar(value: Any) -> Any:
    """A number as Zarr V3 writes it in JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


# -- codecs in a document --------------------------------------------------------------------------------


def _codecs(codecs: list[Any], position: Position) -> Iterator[tuple[Position, str]]:
    """Where every codec of a list is in the document, and its name; those inside shards too."""
    for index, entry in enumerate(codecs):
        here = [*position, index]
        name = entry if isinstance(entry, str) else entry["name"]
        yield here, name
        if name == _SHARDING:
            yield from _codecs(entry["configuration"]["codecs"], [*here, "configuration", "codecs"])


def _find(document: Document, position: Position) -> tuple[Any, Any]:
    """The list that holds the codec at a position, and its index there."""
    holder: Any = document
    for step in position[:-1]:
        holder = holder[step]
    return holder, position[-1]


def _opened(document: Document) -> tuple[AnscombeTransformV3, ArraySpec]:
    """The array's transform as zarr opens it, and the chunk specification that reaches it."""
    from zarr.abc.codec import ArrayArrayCodec
    from zarr.codecs import ShardingCodec
    from zarr.core.array_spec import ArrayConfig, ArraySpec
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.metadata.v3 import ArrayV3Metadata

    # zarr.registry knows our codecs by entry point too, but not in a tree that is not installed.
    from anscombe_transform.codec.zarr_v3 import AnscombeTransformV3

    metadata = ArrayV3Metadata.from_dict(document)
    spec = ArraySpec(
        shape=metadata.shape,
        dtype=metadata.data_type,
        fill_value=metadata.fill_value,
        config=ArrayConfig(order="C", write_empty_chunks=False),
        prototype=default_buffer_prototype(),
    )
    codecs: Iterable[Any] = metadata.codecs
    while True:
        for codec in codecs:
            if isinstance(codec, AnscombeTransformV3):
                return codec, spec
            if isinstance(codec, ShardingCodec):
                codecs = codec.codecs
                break
            if isinstance(codec, ArrayArrayCodec):
                spec = codec.resolve_metadata(spec)
        else:
            raise ValueError("the Anscombe transform is not where zarr applies it to arrays")


# -- the store -------------------------------------------------------------------------------------------


def _locate(array: Any) -> StorePath:
    from zarr.core.sync import sync
    from zarr.storage._common import make_store_path

    place = getattr(array, "store_path", None)
    return cast("StorePath", sync(make_store_path(array)) if place is None else place)


def _read(place: StorePath) -> str:
    """The text of ``zarr.json``."""
    from zarr.core.sync import sync

    stored = sync((place / _METADATA).get())
    if stored is not None:
        return stored.to_bytes().decode()
    if sync((place / ".zarray").exists()):
        raise ValueError(
            f"{place} is a Zarr V2 array, and cast_value is a codec of Zarr V3: copy it to a V3 array"
        )
    raise FileNotFoundError(f"no Zarr array at {place}")


def _write(place: StorePath, text: str) -> None:
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    sync((place / _METADATA).set(default_buffer_prototype().buffer.from_bytes(text.encode())))


def _dump(document: Document) -> str:
    """A document as zarr-python writes it."""
    from zarr.core.config import config

    return json.dumps(document, allow_nan=True, indent=config.get("json_indent"))
