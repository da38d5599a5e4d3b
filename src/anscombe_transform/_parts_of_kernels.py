"""Parts of compiled functions that compile fast.

A slice of an array inside a compiled function carries the rules for negative and missing bounds, an error and
a reference count, which the compiler has to prove away each time; `row` is a pointer and a length. A function
that is called is compiled again as a part of its caller, and a loop around loops over several arrays, for
whose overlap the compiler keeps several versions, can take seconds each time: such loops are quickest to
compile as a function of flat arrays that `stay_apart` keeps from being copied into its caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numba import types
from numba.core import cgutils, event
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

INNER: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Options of a function that only compiled functions call: what lets Python call it takes half its time."""


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


def on_compiling(tell: Callable[[bool], object]) -> AbstractContextManager[Any]:
    """Tell, within a context, when the compiling of a function begins (True) and ends (False)."""

    class Told(event.Listener):
        def on_start(self, _: event.Event) -> None:
            tell(True)

        def on_end(self, _: event.Event) -> None:
            tell(False)

    found: AbstractContextManager[Any] = event.install_listener("numba:compile", Told())
    return found
