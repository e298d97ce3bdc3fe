"""Vectors of 16 floats in compiled code, for loops in which numba does not find them by itself.

LLVM makes of them what the processor has: one AVX-512 register, two of AVX2, four of NEON. Arrays are addressed by
elements in storage order, and nothing checks that they are long enough.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16
_FLOATS = ir.VectorType(ir.FloatType(), LANES)


class Lanes(types.Type):
    """The type of such a vector."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes = Lanes()


@register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, frontend_type: Any) -> None:
        super().__init__(manager, frontend_type, _FLOATS)


@intrinsic
def splat(_context: Any, value: Any) -> Any:
    """A vector of one value."""

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        one = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), arguments[0], ir.IntType(32)(0))
        return _pick(builder, one, [0] * LANES)

    return lanes(types.float32), code


@intrinsic
def add(_context: Any, a: Any, b: Any) -> Any:
    """The sum of two vectors."""

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments)

    return lanes(lanes, lanes), code


@intrinsic
def multiply(_context: Any, a: Any, b: Any) -> Any:
    """The product of two vectors."""

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fmul(*arguments)

    return lanes(lanes, lanes), code


@intrinsic
def multiply_add(_context: Any, a: Any, b: Any, c: Any) -> Any:
    """The sum of a product and a vector."""

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        a, b, c = arguments
        return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))

    return lanes(lanes, lanes, lanes), code


@intrinsic
def load(_context: Any, array: Any, start: Any) -> Any:
    """Sixteen elements of an array of float32."""

    def code(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        array_value, start_value = arguments
        return builder.load(_place(context, builder, array, array_value, start_value, _FLOATS), align=4)

    return lanes(array, types.int64), code


@intrinsic
def store(_context: Any, array: Any, start: Any, value: Any) -> Any:
    """A vector into sixteen elements of an array of float32."""

    def code(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        array_value, start_value, value = arguments
        builder.store(value, _place(context, builder, array, array_value, start_value, _FLOATS), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, lanes), code


@intrinsic
def scatter(_context: Any, array: Any, start: Any, value: Any) -> Any:
    """A vector in four parts of four, each as far from the one before as a vector is long, into an array of float32."""

    def code(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        array_value, start_value, value = arguments
        for part in range(4):
            four = _pick(builder, value, list(range(4 * part, 4 * part + 4)))
            index = builder.add(start_value, ir.IntType(64)(LANES * part))
            builder.store(four, _place(context, builder, array, array_value, index, four.type), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, lanes), code


def _pixel_loader(channels: int) -> Any:
    # red, green and blue of each pixel, and in the fourth lane whatever follows
    picked = [min(channels * pixel + lane, 4 * channels - 1) for pixel in range(4) for lane in range(4)]

    @intrinsic
    def load_pixels(_context: Any, array: Any, start: Any) -> Any:
        def code(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            array_value, start_value = arguments
            bytes_type = ir.VectorType(ir.IntType(8), 4 * channels)
            place = _place(context, builder, array, array_value, start_value, bytes_type)
            return builder.uitofp(_pick(builder, builder.load(place, align=1), picked), _FLOATS)

        return lanes(array, types.int64), code

    return load_pixels


def _pixel_storer(channels: int) -> Any:
    @intrinsic
    def store_pixels(_context: Any, array: Any, starts: Any, value: Any) -> Any:
        def code(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            array_value, starts_value, value = arguments
            levels = _levels(builder, value, array.dtype)
            for pixel, start in enumerate(cgutils.unpack_tuple(builder, starts_value)):
                part = _pick(builder, levels, list(range(4 * pixel, 4 * pixel + channels)))
                builder.store(part, _place(context, builder, array, array_value, start, part.type), align=1)
            return context.get_dummy_value()

        return types.void(array, starts, lanes), code

    return store_pixels


def _levels(builder: Any, value: Any, dtype: Any) -> Any:
    """Levels 0 to 255, clipped: rounded for an array of uint8, as parts of 255 for one of float32."""
    for bound, beyond in ((0.0, "<"), (255.0, ">")):
        limit = ir.Constant(_FLOATS, [bound] * LANES)
        value = builder.select(builder.fcmp_ordered(beyond, value, limit, flags=("nnan", "nsz")), limit, value)
    if dtype == types.float32:
        return builder.fmul(value, ir.Constant(_FLOATS, [1 / 255] * LANES))
    raised = builder.fadd(value, ir.Constant(_FLOATS, [0.5] * LANES))
    return builder.trunc(
        builder.fptosi(raised, ir.VectorType(ir.IntType(32), LANES)), ir.VectorType(ir.IntType(8), LANES)
    )


def _place(context: Any, builder: Any, array_type: Any, array: Any, start: Any, vector: Any) -> Any:
    """The address of a vector inside an array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [start]), vector.as_pointer())


def _pick(builder: Any, vector: Any, which: list[int]) -> Any:
    """Some lanes of a vector, as a vector."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(which)), which)
    return builder.shuffle_vector(vector, vector, mask)


# Four neighbouring pixels of uint8, four lanes each.
load_rgb, load_rgbx = _pixel_loader(3), _pixel_loader(4)
# Four pixels, three elements each, to four places. The first is quicker, and spoils the element that follows each.
store_rgbx, store_rgb = _pixel_storer(4), _pixel_storer(3)
