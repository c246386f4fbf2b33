# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""float32 numbers as TensorFlow Serving writes them in JSON; `numbers.py` says which digits, and why these are exact."""

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_ND, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.math cimport fabs, rint
from libc.stdint cimport int64_t, uint32_t
from libc.stdio cimport snprintf
from libc.stdlib cimport strtof
from libc.string cimport memcpy, strchr, strlen

from ladle.serving.rest.json.decades import tables

cdef enum:
    LONGEST = 16  # "-1.23456789e-38" and the comma behind it
    WITHOUT_LOCK = 1 << 10  # numbers, about 30 µs, from which on other threads may run meanwhile

# As `decades.tables` has them.
cdef double[256] NEXT_TEN
cdef int[512] EXPONENTS
cdef double[512] SCALES

cdef fill_tables():
    tens, exponents, scales = tables()
    for biased in range(256):
        NEXT_TEN[biased] = tens[biased]
    for decade in range(512):
        EXPONENTS[decade], SCALES[decade] = exponents[decade], scales[decade]

fill_tables()


cdef char *write_slowly(char *at, float number) noexcept nogil:
    """By the C library: numbers without the full 24 bits, and those whose rounding to nine digits is in doubt."""
    cdef char *point
    snprintf(at, LONGEST, "%.6g", <double>number)
    if strtof(at, NULL) != number:
        snprintf(at, LONGEST, "%.9g", <double>number)
    point = strchr(at, c",")  # the decimal point of the locale that somebody has set
    if point != NULL:
        point[0] = c"."
    return at + strlen(at)


cdef char *write_digits(char *at, uint32_t digits, int count, int exponent, bint is_six) noexcept nogil:
    """As printf's `%g` with six or nine places lays them out, and `.0` behind a whole number.

    digits    without zeros at the end; count of them
    exponent  of the first one, decimal
    """
    cdef char[10] text
    text[0] = c"0"
    cdef int i
    for i in range(count - 1, -1, -1):
        text[i] = 48 + digits % 10
        digits = digits // 10
    if -4 <= exponent < 0:
        at[0] = c"0"
        at[1] = c"."
        at += 2
        for i in range(-exponent - 1):
            at[0] = c"0"
            at += 1
        memcpy(at, text, count)
        return at + count
    if 0 <= exponent < (6 if is_six else 9):
        if count <= exponent + 1:
            memcpy(at, text, count)
            at += count
            for i in range(exponent + 1 - count):
                at[0] = c"0"
                at += 1
            at[0] = c"."
            at[1] = c"0"
            return at + 2
        memcpy(at, text, exponent + 1)
        at += exponent + 1
        at[0] = c"."
        memcpy(at + 1, text + exponent + 1, count - exponent - 1)
        return at + count - exponent
    at[0] = text[0]
    at += 1
    if count > 1:
        at[0] = c"."
        memcpy(at + 1, text + 1, count - 1)
        at += count
    at[0] = c"e"
    at[1] = c"-" if exponent < 0 else c"+"
    exponent = -exponent if exponent < 0 else exponent
    at[2] = 48 + exponent // 10
    at[3] = 48 + exponent % 10
    return at + 4


cdef char *write_number(char *at, float number) noexcept nogil:
    cdef uint32_t bits, biased, digits
    cdef double wide, scale, scaled, nine, six
    cdef int decade, exponent, count
    cdef bint is_six
    memcpy(&bits, &number, 4)
    biased = bits >> 23 & 255
    if biased == 255:
        if bits & 0x7FFFFF:
            memcpy(at, <const char *>b"NaN", 3)
            return at + 3
        if bits >> 31:
            at[0] = c"-"
            at += 1
        memcpy(at, <const char *>b"Infinity", 8)
        return at + 8
    if bits >> 31:
        at[0] = c"-"
        at += 1
        number = -number
    if not bits & 0x7FFFFFFF:
        memcpy(at, <const char *>b"0.0", 3)
        return at + 3
    if not biased:
        return write_slowly(at, number)
    wide = number
    decade = 2 * biased + (wide >= NEXT_TEN[biased])
    exponent, scale = EXPONENTS[decade], SCALES[decade]
    scaled = wide * scale
    six = rint(scaled * 1e-3) * 1e3
    is_six = <float>(six / scale) == number
    if is_six:
        digits = <uint32_t>(<int64_t>six // 1000)
        count = 6
        if digits == 1000000:
            digits = 100000
            exponent += 1
    else:
        nine = rint(scaled)
        # Up to 10**12 the scale and its product are exact, so that only ties matter, which `rint` breaks as printf does.
        if fabs(fabs(scaled - nine) - 0.5) < 1e-6 and not -4 <= exponent <= 5:
            return write_slowly(at, number)
        digits = <uint32_t>nine
        count = 9
        if digits == 1000000000:
            digits = 100000000
            exponent += 1
    while digits % 10 == 0:
        digits = digits // 10
        count -= 1
    return write_digits(at, digits, count, exponent, is_six)


cdef char *write_numbers(
    char *at, const float *numbers, Py_ssize_t count, const Py_ssize_t *shape, int rank, bint is_flat
) noexcept nogil:
    cdef Py_ssize_t i, size
    cdef int axis, opened
    for i in range(count):
        if not is_flat:
            # A list begins wherever the number is the first of its axis, and of all axes behind it.
            opened, size = 0, 1
            for axis in range(rank - 1, -1, -1):
                size *= shape[axis]
                if i % size:
                    break
                opened += 1
            if i:
                for axis in range(opened):
                    at[0] = c"]"
                    at += 1
        else:
            opened = 0
        if i:
            at[0] = c","
            at += 1
        for axis in range(opened):
            at[0] = c"["
            at += 1
        at = write_number(at, numbers[i])
    if not is_flat:
        for axis in range(rank):
            at[0] = c"]"
            at += 1
    return at


def write_list(array not None, bint is_flat):
    """A C-contiguous float32 array with elements, of any shape, as nested lists; `is_flat`: without any bracket.

    BufferError, ValueError: the array is not contiguous, not float32 in the machine's order of bytes, or empty.
    """
    cdef Py_buffer view
    cdef Py_ssize_t count = 1, lists = 0, size
    cdef char *text
    cdef char *end
    PyObject_GetBuffer(array, &view, PyBUF_ND | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    try:
        if view.format == NULL or view.format[0] != c"f" or view.format[1]:
            raise ValueError(f"got elements of {view.itemsize} bytes; expected float32 in the machine's order of bytes")
        for i in range(view.ndim):
            lists += count
            count *= view.shape[i]
        if not count:
            raise ValueError("got an empty array; expected numbers")
        size = count * LONGEST + 2 * lists + LONGEST
        text = <char *>PyMem_RawMalloc(size)
        if text == NULL:
            raise MemoryError
        try:
            if count < WITHOUT_LOCK:
                end = write_numbers(text, <const float *>view.buf, count, view.shape, view.ndim, is_flat)
            else:
                with nogil:
                    end = write_numbers(text, <const float *>view.buf, count, view.shape, view.ndim, is_flat)
            return (<const char *>text)[:end - text]
        finally:
            PyMem_RawFree(text)
    finally:
        PyBuffer_Release(&view)
