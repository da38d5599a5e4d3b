"""From a calibration to everything that ``zarr.create_array`` wants to know, in one call.

``fast``
    The transform and the frame coder with little effort: five times smaller at gigabytes per second.
``compact``
    The frame coder with a prediction fitted to every frame: smaller, at half the speed.
``portable``
    The transform and stock codecs: a third larger, and readable without the frame coder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, Unpack, get_args

from anscombe_transform.codec.transform.curve import check_sensitivity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, DTypeLike

    from anscombe_transform.codec.zarr_v2 import AnscombeTransformV2
    from anscombe_transform.codec.zarr_v3 import AnscombeTransformV3

__all__ = ["PRESETS", "Preset", "codec_pipeline", "pipeline_for"]

Preset = Literal["fast", "compact", "portable"]
PRESETS: tuple[str, ...] = get_args(Preset)


class Calibrated(Protocol):
    """A detector's constants, as `Sensitivity` has them, from which a codec is made."""

    @property
    def codec(self) -> Callable[..., Any]:
        """Makes the codec of this detector, see `Sensitivity.codec`."""


class CodecOptions(TypedDict, total=False):
    """Options of `Sensitivity.codec`, which describes them, that `codec_pipeline` hands on."""

    signal_range: tuple[float, float] | None
    decoded_dtype: DTypeLike | None
    encoded_dtype: DTypeLike | None
    zero_code: int | None
    out_of_range: Literal["raise", "clip"]
    read_noise: float | None
    noise_increase: float | None


def codec_pipeline(
    sensitivity: Calibrated,
    *,
    sample: ArrayLike | None = None,
    preset: Preset = "fast",
    beta: float = 0.5,
    zarr_format: Literal[2, 3] = 3,
    chunks: Sequence[int] | None = None,
    time_axis: int | None = 0,
    **options: Unpack[CodecOptions],
) -> dict[str, Any]:
    """Filters, serializer and compressors for the movies of a detector.

    Parameters
    ----------
    sensitivity : Sensitivity
        Constants of the detector.
    sample : array_like, optional
        The movie or a piece of it, in the array's axes: the codes are chosen to hold its range.
    preset : {"fast", "compact", "portable"}
        Lossless coder behind the transform.
    beta : float
        Quantisation step in standard deviations of the noise; the noise variance grows by ``beta**2 / 12``.
    zarr_format : {3, 2}
        Format of the array.
    chunks : sequence of int, optional
        Shape of the array's chunks, which is then part of the result. The frame coder needs it in Zarr
        format 2.
    time_axis : int or None
        Axis along which frames follow each other; None if none does.
    **options
        Further parameters of `Sensitivity.codec`, such as `decoded_dtype`, `zero_code` or `out_of_range`.

    Returns
    -------
    dict
        Keyword arguments of ``zarr.create_array``. Where 0, zarr's fill value, has no code, there is a
        ``fill_value`` among them: the zero level, or the nearest value.

    Raises
    ------
    UntrustworthyCalibration
        If the calibration was refused.
    ValueError
        If a parameter breaks its rule, or no codec holds the sample.

    Examples
    --------
    >>> import numpy as np, zarr
    >>> from anscombe_transform import codec_pipeline
    >>> from anscombe_transform.calibration import Sensitivity
    >>> movie = np.random.default_rng(0).poisson(8, (50, 64, 64)).astype("int16") * 90 + 50
    >>> sensitivity = Sensitivity.from_known(conversion_gain=90, zero_level=50)
    >>> array = zarr.create_array({}, data=movie, **codec_pipeline(sensitivity, sample=movie))
    >>> array.nbytes / array.nbytes_stored() > 4
    True
    """
    check_sensitivity(sensitivity, "codec_pipeline(sensitivity, sample=movie)")
    codec = sensitivity.codec(zarr_format=zarr_format, sample=sample, beta=beta, **options)
    pipeline = pipeline_for(codec, preset=preset, zarr_format=zarr_format, chunks=chunks, time_axis=time_axis)
    lowest, highest = codec.representable_range
    if not lowest <= 0 <= highest:
        pipeline["fill_value"] = min(max(round(codec.zero_level), lowest), highest)
    return pipeline


def array_in_memory(
    frames: Any, sensitivity: Calibrated, *, preset: Preset, beta: float = 0.5, chunks: Sequence[int]
) -> Any:
    """Frames as an array of Zarr in memory with the pipeline of a preset, to measure sizes and speeds."""
    import zarr

    pipeline = codec_pipeline(sensitivity, sample=frames, preset=preset, beta=beta, chunks=chunks)
    return zarr.create_array({}, data=frames, **pipeline)


def pipeline_for(
    codec: AnscombeTransformV2 | AnscombeTransformV3,
    *,
    preset: Preset = "fast",
    zarr_format: Literal[2, 3] = 3,
    chunks: Sequence[int] | None = None,
    time_axis: int | None = 0,
) -> dict[str, Any]:
    """Filters, serializer and compressors around a transform that is chosen already.

    Parameters
    ----------
    codec : AnscombeTransformV2 or AnscombeTransformV3
        The transform, of the array's Zarr format.
    preset, zarr_format, chunks, time_axis
        As in `codec_pipeline`.

    Returns
    -------
    dict
        Keyword arguments of ``zarr.create_array``.

    Raises
    ------
    ValueError
        If a parameter breaks its rule.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    if zarr_format not in (2, 3):
        raise ValueError(f"zarr_format must be 2 or 3, got {zarr_format!r}")
    dtype = codec.plan.encoded_dtype
    found: dict[str, Any] = {"filters": [codec]}
    if chunks is not None:
        found["chunks"] = tuple(chunks)
    if preset == "portable":
        if zarr_format == 2:
            return found | _stock_pipeline_v2(codec, dtype.itemsize)
        return found | {"compressors": _stock_compressors(dtype.itemsize)}
    if chunks is None and zarr_format == 2:
        raise ValueError(
            f'preset="{preset}" needs chunks= in Zarr format 2, whose arrays do not tell a compressor the '
            'shape of a chunk: give the chunks of the array, or preset="portable"'
        )
    coder: dict[str, Any] = {"preset": preset, "time_axis": time_axis}
    if zarr_format == 2:
        from anscombe_transform.codec.zarr_v2 import FrameCoderV2

        return found | {"compressors": [FrameCoderV2(found["chunks"], dtype.name, **coder)]}
    from anscombe_transform.codec.zarr_v3 import FrameCoderV3

    # The frame coder's chunks have a checksum, so that nothing needs to follow.
    return found | {"serializer": FrameCoderV3(**coder), "compressors": None}


def _stock_pipeline_v2(codec: Any, bytes_per_code: int) -> dict[str, Any]:
    """Filters and compressor of Zarr format 2: zstd with its checksum, as Blosc has none that it checks.

    The bytes of wider codes are sorted by a filter of their own, since their high bytes repeat.
    """
    import numcodecs

    shuffle = [] if bytes_per_code == 1 else [numcodecs.Shuffle(bytes_per_code)]
    return {"filters": [codec, *shuffle], "compressors": [numcodecs.Zstd(level=1, checksum=True)]}


def _stock_compressors(bytes_per_code: int) -> list[Any]:
    """The codecs of Zarr format 3 itself that compress codes best, with a checksum.

    Zstd at level 1: the matches that higher levels search cost time and bytes in noise. Codes of two bytes
    are sorted by Blosc first, as their high bytes repeat; the checksum is tested before Blosc sees a byte.
    """
    from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

    if bytes_per_code == 1:
        return [ZstdCodec(level=1, checksum=True)]
    # The array's dtype is not the codes', so that blosc cannot be left to find out its size.
    return [
        BloscCodec(typesize=bytes_per_code, cname="zstd", clevel=1, shuffle="shuffle"),
        Crc32cCodec(),
    ]
