"""Parts of compiled functions that compile fast.

A slice of an array inside a compiled function carries the rules for negative and missing bounds, an error and
a reference count, which the compiler has to prove away each time; `row` is a pointer and a length. A function
that is called is compiled again as a part of its caller, and a loop around loops over several arrays, for
whose overlap the compiler keeps several versions, can take seconds each time: such loops are quickest to
compile as a function of flat arrays that `stay_apart` keeps from being copied into its caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, event
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

_Function = TypeVar("_Function", bound="Callable[..., Any]")

INNER: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Options of a function that only compiled functions call: what lets Python call it takes half its time."""


def inner(function: _Function) -> _Function:
    """Compile on first use as a part of other compiled functions; the type of the plain function stays."""
    return cast("_Function", njit(nogil=True, cache=True, **INNER)(function))


def _row(_: Any, array: Any, *where: Any) -> Any:
    """View of a contiguous part of a contiguous array, for compiled functions only.

    ``row(x, start, stop)`` is ``x[start:stop]``, ``row(x, i, start, stop)`` is ``x[i, start:stop]``, and so
    on for more axes. Nothing is checked: `x` has to outlive the view and to hold all of it, though a row
    may run on into those after it. The view of an array that is read-only is not marked as such, so that a
    loop over it compiles once for either.
    """
    if not isinstance(array, types.Array) or array.layout != "C" or not 2 <= len(where) <= array.ndim + 1:
        return None
    kept = array.ndim + 2 - len(where)
    view = types.Array(array.dtype, kept, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source = context.make_array(array)(context, builder, arguments[0])
        lengths = cgutils.unpack_tuple(builder, source.shape, array.ndim)
        *indices, start, stop = cgutils.unpack_tuple(builder, arguments[1], len(where))
        at = start
        if indices:
            outer = indices[0]
            for index, length in zip(indices[1:], lengths[1:], strict=False):
                outer = builder.add(builder.mul(outer, length), index)
            at = builder.add(builder.mul(outer, lengths[len(indices)]), start)
        size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(array.dtype)))
        strides = [size]
        for length in reversed(lengths[array.ndim - kept + 1 :]):
            at = builder.mul(at, length)
            strides.insert(0, builder.mul(strides[0], length))
        result = context.make_array(view)(context, builder)
        populate_array(
            result,
            data=builder.gep(source.data, [at]),
            shape=[builder.sub(stop, start), *lengths[array.ndim - kept + 1 :]],
            strides=strides,
            itemsize=size,
            meminfo=None,
        )
        return result._getvalue()

    return view(array, types.StarArgTuple.from_types([types.intp] * len(where))), generate


row: Any = intrinsic(_row)


def _stay_apart(_: Any) -> Any:
    """Keep the compiled function that calls this from being copied into its callers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate


stay_apart: Any = intrinsic(_stay_apart)


def _share_nothing(_: Any) -> Any:
    """As `stay_apart`, and promise that no array in the arguments holds memory that another one writes to.

    Nothing is checked. One version of each loop is compiled then, and loops that do more are vectorised.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.function.attributes.add("noinline")
        # The first two are where numba puts the result and an exception.
        for argument in builder.function.args[2:]:
            if isinstance(argument.type, ir.PointerType):
                argument.add_attribute("noalias")
        return context.get_dummy_value()

    return types.void(), generate


share_nothing: Any = intrinsic(_share_nothing)


def _at_least(_: Any, array: Any, start: Any, added: Any, limit: Any) -> Any:
    """Bits of 64 bytes from `start` on, the first one low: which of them, plus `added`, are `limit` or more.

    Sums are modulo 256. Nothing is checked: the array has to hold them.
    """
    if not isinstance(array, types.Array) or array.dtype != types.uint8 or array.layout != "C":
        return None
    lanes = ir.VectorType(ir.IntType(8), 64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, first, *numbers = arguments
        data = context.make_array(array)(context, builder, values).data
        place = builder.bitcast(builder.gep(data, [first]), lanes.as_pointer())
        line = builder.load(place, align=1)
        first_lanes = ir.Constant(ir.VectorType(ir.IntType(32), 64), [0] * 64)
        nothing = ir.Constant(lanes, ir.Undefined)
        spread = [
            builder.shuffle_vector(
                builder.insert_element(nothing, number, ir.IntType(32)(0)), nothing, first_lanes
            )
            for number in numbers
        ]
        found = builder.icmp_unsigned(">=", builder.add(line, spread[0]), spread[1])
        return builder.bitcast(found, ir.IntType(64))

    return types.uint64(array, types.intp, types.uint8, types.uint8), generate


at_least: Any = intrinsic(_at_least)


def _lowest_bit(_: Any, bits: Any) -> Any:
    """Number of the lowest bit that is set of 64; 64 if none is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.IntType(1)(0))

    return types.uint64(types.uint64), generate


lowest_bit: Any = intrinsic(_lowest_bit)


def _bits_set(_: Any, bits: Any) -> Any:
    """How many of 64 bits are set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.intp(types.uint64), generate


bits_set: Any = intrinsic(_bits_set)


def _times_plus(_: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` of float32, rounded once where the processor has an instruction for it, else twice.

    Which of the two is the same for every value of an array, as letting the compiler choose would not be.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        triple, _, features = context.codegen().magic_tuple()
        if "+fma," in f"{features}," or triple.startswith(("aarch64", "arm64")):
            return builder.fma(*arguments)
        return builder.fadd(builder.fmul(*arguments[:2]), arguments[2])

    return types.float32(types.float32, types.float32, types.float32), generate


times_plus: Any = intrinsic(_times_plus)


def on_compiling(tell: Callable[[bool], object]) -> AbstractContextManager[Any]:
    """Tell, within a context, when the compiling of a function begins (True) and ends (False)."""

    class Told(event.Listener):
        def on_start(self, _: event.Event) -> None:
            tell(True)

        def on_end(self, _: event.Event) -> None:
            tell(False)

    found: AbstractContextManager[Any] = event.install_listener("numba:compile", Told())
    return found
