"""libjpeg-turbo's decoder for compiled code: slow exact DCT, smooth upsampling, four bytes a pixel.

Compiled code names the library's functions by symbols, which are filled in when this module is imported: an address
is never part of numba's cache, and a cached kernel serves every process. ImportError where there is no library.
"""

from __future__ import annotations

import ctypes
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from numba import carray, types
from numpy.typing import NDArray

from harness.data.errors import DataError
from harness.data.kernel import kernel

BROKEN, OTHER_SIZE = 1, 2  # what `decode` says of an image that it could not read
CHANNELS = 4  # red, green, blue and an unused byte: a pixel is one aligned vector for what follows

_LIBRARIES = ("libturbojpeg.so.0", "libturbojpeg.so", "libturbojpeg.0.dylib", "turbojpeg.dll")
_RGBX = np.int32(2)
_ACCURATE_DCT = np.int32(4096)
_WARNING = 0
# Warnings of libjpeg after which every pixel is there. Any other means that data is missing or wrong.
_HARMLESS = tuple(
    np.frombuffer(text, np.uint8)
    for text in (b"extraneous bytes", b"unknown JFIF revision", b"Unknown Adobe color", b"Invalid SOS parameters")
)
_LONGEST_MESSAGE = 200


def _load() -> ctypes.CDLL:
    """libjpeg-turbo, as the system has it."""
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.tjGetErrorStr2.argtypes, library.tjGetErrorStr2.restype = [ctypes.c_void_p], ctypes.c_char_p
        return library
    raise ImportError("libjpeg-turbo is not installed (libturbojpeg.so.0; on Debian the package libturbojpeg0)")


_LIBRARY = _load()


def _function(name: str, result: Any, *arguments: Any) -> types.ExternalFunction:
    """A function of the library for compiled code, under a symbol that nothing else in the process defines."""
    symbol = f"harness_{name}"
    llvm.add_symbol(symbol, ctypes.cast(getattr(_LIBRARY, name), ctypes.c_void_p).value)
    return types.ExternalFunction(symbol, result(*arguments))


_P, _I, _N = types.intp, types.int32, types.uintp
_start = _function("tjInitDecompress", _P)
_end = _function("tjDestroy", _I, _P)
_read_header = _function("tjDecompressHeader3", _I, _P, _P, _N, _P, _P, _P, _P)
_decompress = _function("tjDecompress2", _I, _P, _P, _N, _P, _I, _I, _I, _I, _I)
_error_code = _function("tjGetErrorCode", _I, _P)
_error_text = _function("tjGetErrorStr2", types.voidptr, _P)


@kernel
def make_handle() -> int:
    """A decoder, for one thread at a time; 0, which decodes nothing, where memory is short."""
    return _start()


@kernel
def free_handle(handle: int) -> None:
    """End a decoder."""
    _end(handle)


@kernel
def size(handle: int, data: NDArray[np.uint8]) -> tuple[int, int]:
    """Height and width of a JPEG file; (0, 0) where it is none."""
    header = np.zeros(4, np.int32)  # width, height, and two numbers that nobody asked for
    where = header.ctypes.data
    _read_header(handle, data.ctypes.data, np.uintp(data.size), where, where + 4, where + 8, where + 12)
    return header[1], header[0]


@kernel
def decode(handle: int, data: NDArray[np.uint8], height: int, width: int, out: NDArray[np.uint8]) -> int:
    """Decode a JPEG file of `height` x `width` pixels, colour or grey, into `out`; 0, or what is wrong with it."""
    if out.size < height * width * CHANNELS:
        raise ValueError("the memory for a decoded image is smaller than the image")
    found = size(handle, data)
    if found[0] == 0:
        return BROKEN
    if found[0] != height or found[1] != width:
        return OTHER_SIZE
    pitch, rows, columns = np.int32(CHANNELS * width), np.int32(height), np.int32(width)
    start, count = data.ctypes.data, np.uintp(data.size)
    failed = _decompress(handle, start, count, out.ctypes.data, columns, pitch, rows, _RGBX, _ACCURATE_DCT)
    return BROKEN if failed and not (_harmless(handle) and _ends(data)) else 0


def complaint(handle: int, status: int) -> str:
    """What the last image, which this decoder refused with `status`, suffers from."""
    if status == OTHER_SIZE:
        return "its size is not the one recorded"
    return str(_LIBRARY.tjGetErrorStr2(handle).decode(errors="replace"))


def read(data: bytes) -> NDArray[np.uint8]:
    """The RGB pixels of a JPEG file, height x width x 3. Raises DataError where they are not all there."""
    handle, file = make_handle(), np.frombuffer(data, np.uint8)
    try:
        height, width = size(handle, file)
        out = np.empty((height, width, CHANNELS), np.uint8)
        status = decode(handle, file, height, width, out.reshape(-1))
        if status:
            raise DataError(f"an image is no JPEG file that can be decoded: {complaint(handle, status)}")
        return np.ascontiguousarray(out[..., :3])
    finally:
        free_handle(handle)


@kernel
def _harmless(handle: int) -> bool:
    """Whether the decoder's complaint is a warning that leaves every pixel right."""
    if _error_code(handle) != _WARNING:
        return False
    message = carray(_error_text(handle), _LONGEST_MESSAGE, np.uint8)
    for text in _HARMLESS:
        for start in range(_LONGEST_MESSAGE - len(text)):
            if message[start] == 0:
                break
            if np.all(message[start : start + len(text)] == text):
                return True
    return False


@kernel
def _ends(data: NDArray[np.uint8]) -> bool:
    """Whether the file's last marker is its end and not a scan: libjpeg tells the first of several warnings only."""
    for i in range(len(data) - 2, -1, -1):
        if data[i] == 0xFF and data[i + 1] in (0xD9, 0xDA):
            return bool(data[i + 1] == 0xD9)
    return False
