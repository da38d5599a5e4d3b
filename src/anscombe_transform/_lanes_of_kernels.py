"""Parts of compiled loops that take sixteen pixels at once, in instructions that compilers do not find.

Processors multiply short integers in pairs and add the two products in one instruction, which takes half the
lanes and half the time of products of whole integers. A compiler does not come upon it for weighted sums of
several arrays; here it is spelt out, with what the instruction does where a processor lacks it.

A loop over these parts runs past its end, by fifteen pixels at most: the arrays have to have room for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Sequence

LANES = 16
"""Pixels at once."""

_SHORT, _WHOLE, _LONG = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_SHORTS, _WHOLES = ir.VectorType(_SHORT, 16), ir.VectorType(_WHOLE, 8)
# The instructions work in two halves of eight: the first vector of products has pixels 0 to 3 and 8 to 11.
_FIRST, _SECOND = (0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)


class _Lanes:
    """Builds vectors of one part."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self._context = context
        self.builder = builder
        self._types = signature.args
        self._has_instructions = "+avx2," in f"{context.codegen().magic_tuple()[2]},"
        self.values = arguments

    def place(self, argument: int, at: Any, kind: Any) -> Any:
        """Pointer to a vector in the array that is an argument."""
        array = self._context.make_array(self._types[argument])
        data = array(self._context, self.builder, self.values[argument]).data
        return self.builder.bitcast(self.builder.gep(data, [at]), kind.as_pointer())

    def load(self, argument: int, at: Any, kind: Any = _SHORTS) -> Any:
        return self.builder.load(self.place(argument, at, kind), align=1)

    def store(self, values: Any, argument: int, at: Any) -> None:
        self.builder.store(values, self.place(argument, at, values.type), align=1)

    def shuffle(self, a: Any, b: Any, lanes: Sequence[int]) -> Any:
        mask = ir.Constant(ir.VectorType(_WHOLE, len(lanes)), list(lanes))
        return self.builder.shuffle_vector(a, b, mask)

    def spread(self, kind: Any, *numbers: Any) -> Any:
        """Vector of one number, or of several in turn."""
        vector = ir.Constant(kind, ir.Undefined)
        for lane, number in enumerate(numbers):
            vector = self.builder.insert_element(vector, number, _WHOLE(lane))
        return self.shuffle(vector, vector, [lane % len(numbers) for lane in range(kind.count)])

    def products(self, a: Any, b: Any, weights: Any) -> tuple[Any, Any]:
        """``a * weights[0] + b * weights[1]``, whole, as two vectors."""
        halves = []
        for start in (0, 4):
            lanes = [
                at + part
                for half in (0, 8)
                for at in range(start + half, start + half + 4)
                for part in (0, 16)
            ]
            halves.append(self._paired(self.shuffle(a, b, lanes), weights))
        return halves[0], halves[1]

    def _paired(self, values: Any, weights: Any) -> Any:
        """Sums of the products of neighbours."""
        build = self.builder
        if self._has_instructions:
            kind = ir.FunctionType(_WHOLES, [_SHORTS, _SHORTS])
            found = _declared(build, kind, "llvm.x86.avx2.pmadd.wd")
            return build.call(found, [values, weights])
        wide = ir.VectorType(_WHOLE, 16)
        product = build.mul(build.sext(values, wide), build.sext(weights, wide))
        even, odd = (self.shuffle(product, product, range(part, 16, 2)) for part in (0, 1))
        return build.add(even, odd)

    def short(self, first: Any, second: Any) -> Any:
        """The sixteen short integers of two vectors of whole ones, which saturate."""
        build = self.builder
        if self._has_instructions:
            kind = ir.FunctionType(_SHORTS, [_WHOLES, _WHOLES])
            return build.call(_declared(build, kind, "llvm.x86.avx2.packssdw"), [first, second])
        parts = []
        for part in (first, second):
            low, high = (ir.Constant(_WHOLES, [limit] * 8) for limit in (-32768, 32767))
            part = build.select(build.icmp_signed("<", part, low), low, part)
            part = build.select(build.icmp_signed(">", part, high), high, part)
            parts.append(build.trunc(part, ir.VectorType(_SHORT, 8)))
        return self.shuffle(parts[0], parts[1], (*_FIRST, *_SECOND))

    def inside(self, values: Any, top: Any) -> Any:
        """Short integers from 0 to a number."""
        build = self.builder
        nothing, top = ir.Constant(_SHORTS, [0] * 16), self.spread(_SHORTS, top)
        values = build.select(build.icmp_signed(">", values, nothing), values, nothing)
        return build.select(build.icmp_signed("<", values, top), values, top)

    def shifted(self, values: Any, bits: int) -> Any:
        return self.builder.ashr(values, ir.Constant(_WHOLES, [bits] * 8))

    def nothing(self) -> Any:
        return self._context.get_dummy_value()


def _declared(builder: Any, kind: Any, name: str) -> Any:
    """A function of the compiler, declared once in a module."""
    known = builder.module.globals.get(name)
    return ir.Function(builder.module, kind, name) if known is None else known


def _mixed_lanes(_: Any, ea: Any, eb: Any, at: Any, w2: Any, w3: Any, mixed: Any) -> Any:
    """``mixed = (ea * w2 + eb * w3) >> 4``, of short integers, whole."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = _Lanes(context, builder, signature, arguments)
        place = arguments[2]
        weights = lanes.spread(_SHORTS, arguments[3], arguments[4])
        first, second = (
            lanes.shifted(part, 4)
            for part in lanes.products(lanes.load(0, place), lanes.load(1, place), weights)
        )
        lanes.store(lanes.shuffle(first, second, _FIRST), 5, place)
        lanes.store(lanes.shuffle(first, second, _SECOND), 5, builder.add(place, _LONG(8)))
        return lanes.nothing()

    return types.void(ea, eb, types.intp, types.int16, types.int16, mixed), generate


mixed_lanes: Any = intrinsic(_mixed_lanes)


def _level_lanes(
    _: Any, ea: Any, eb: Any, sums: Any, at: Any, w0: Any, w1: Any, b: Any, top: Any, level: Any
) -> Any:
    """``level = (ea * w0 + eb * w1 + sums[-1] + 2 * sums + sums[1] + b) >> 8``, from 0 to `top`.

    `sums` begin one pixel before the others.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = _Lanes(context, builder, signature, arguments)
        place = arguments[3]
        smooth = []
        for start in (0, 8):
            left, here, right = (
                lanes.load(2, builder.add(place, _LONG(start + k)), _WHOLES) for k in range(3)
            )
            smooth.append(builder.add(builder.add(left, right), builder.add(here, here)))
        weights = lanes.spread(_SHORTS, arguments[4], arguments[5])
        bias = lanes.spread(_WHOLES, arguments[6])
        parts = []
        own = lanes.products(lanes.load(0, place), lanes.load(1, place), weights)
        for part, half in zip(own, (_FIRST, _SECOND), strict=True):
            parts.append(
                lanes.shifted(
                    builder.add(builder.add(part, bias), lanes.shuffle(smooth[0], smooth[1], half)), 8
                )
            )
        lanes.store(lanes.inside(lanes.short(*parts), arguments[7]), 8, place)
        return lanes.nothing()

    kinds = (types.int16, types.int16, types.int32, types.int16)
    return types.void(ea, eb, sums, types.intp, *kinds, level), generate


level_lanes: Any = intrinsic(_level_lanes)


def _sharp_lanes(
    _: Any, level: Any, s: Any, at: Any, c0: Any, c1: Any, c2: Any, c3: Any, c4: Any, top: Any, sharp: Any
) -> Any:
    """``sharp = level + (the five weighted sums from s on + 512 >> 10)``, from 0 to `top`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = _Lanes(context, builder, signature, arguments)
        place, weights = arguments[2], arguments[3:8]
        s = [lanes.load(1, builder.add(place, _LONG(k))) for k in range(5)]
        # The last pair is completed by one half of what is divided by.
        s.append(ir.Constant(_SHORTS, [1] * 16))
        weights = [*weights, _SHORT(512)]
        pairs = [
            lanes.products(s[k], s[k + 1], lanes.spread(_SHORTS, weights[k], weights[k + 1]))
            for k in (0, 2, 4)
        ]
        moved = [lanes.shifted(builder.add(builder.add(a, b), c), 10) for a, b, c in zip(*pairs, strict=True)]
        kind = ir.FunctionType(_SHORTS, [_SHORTS, _SHORTS])
        add = _declared(builder, kind, "llvm.sadd.sat.v16i16")
        found = builder.call(add, [lanes.load(0, place), lanes.short(*moved)])
        lanes.store(lanes.inside(found, arguments[8]), 9, place)
        return lanes.nothing()

    return types.void(level, s, types.intp, *(types.int16,) * 6, sharp), generate


sharp_lanes: Any = intrinsic(_sharp_lanes)
