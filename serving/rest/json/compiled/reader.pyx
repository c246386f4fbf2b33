# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Lists of numbers in JSON, read into memory in one pass over the text, without a Python object for each number.

A number becomes a double in one of three ways, each rounded as IEEE 754 says:

1. Up to 2**53 times or over a power of ten that a double holds exactly: one operation, which the processor rounds.
2. Up to 19 digits: the 64 highest bits of the product with a power of five, from a table of 64 bits each. The table is
   cut off, not rounded, so the product may be too small by less than three units; where that leaves the rounding to 53
   bits in doubt, in one of 500 numbers, the third way decides. (The idea: Lemire 2021, "Number parsing at a gigabyte
   per second", arXiv:2101.11408.)
3. The C library's `strtod`.
"""

import sys

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport strtod
from libc.string cimport memchr, memcpy

cdef extern from *:
    ctypedef unsigned long long uint128 "unsigned __int128"
    int leading_zeros "__builtin_clzll"(unsigned long long) nogil
    int trailing_zeros "__builtin_ctzll"(unsigned long long) nogil

if sys.byteorder != "little":
    raise ImportError("the compiled reader takes eight digits at once as little-endian numbers")

cdef enum:
    MAX_RANK = 32
    LOWEST = -65
    HIGHEST = 38
    FLOAT32 = 0
    FLOAT64 = 1
    INT64 = 2
    WITHOUT_LOCK = 1 << 15  # bytes of text, about 30 µs, from which on other threads may run meanwhile

cdef double[23] TENS
cdef uint64_t[8] POWERS
cdef uint64_t[HIGHEST - LOWEST + 1] FIVES  # the 64 highest bits of 5**n, the first of them set
cdef int[HIGHEST - LOWEST + 1] FIVES_EXPONENT  # 5**n is at least 2 to this power, and below twice that

cdef fill_tables():
    cdef object n, power, exponent, highest  # Python's integers, which do not overflow
    for n in range(23):
        TENS[n] = float(10**n)
    for n in range(8):
        POWERS[n] = 10**n
    for n in range(LOWEST, HIGHEST + 1):
        if n >= 0:
            power = 5**n
            exponent = power.bit_length() - 1
            highest = power << 63 >> exponent
        else:
            power = 5**-n
            exponent = -power.bit_length()  # no power of five is one of two
            highest = (1 << 63 - exponent) // power
        FIVES[n - LOWEST] = highest
        FIVES_EXPONENT[n - LOWEST] = exponent

fill_tables()


cdef inline bint is_digit(unsigned char character) noexcept nogil:
    return <unsigned char>(character - 48) < 10


cdef inline int count_digits(uint64_t text) noexcept nogil:
    """How many of eight bytes are digits before the first that is none. Without branches, which random text defeats."""
    cdef uint64_t halves = text ^ 0x3030303030303030ULL  # a digit is its value now; anything else is above 9
    cdef uint64_t others = (((halves & 0x7F7F7F7F7F7F7F7FULL) + 0x7676767676767676ULL) | halves) & 0x8080808080808080ULL
    return trailing_zeros(others) >> 3 if others else 8


cdef inline uint64_t eight_digits(uint64_t text) noexcept nogil:
    """The number that eight bytes of digits stand for: neighbours are joined to pairs, fours, eight."""
    text = text - 0x3030303030303030ULL
    text = text * 10 + (text >> 8)
    return (((text & 0x000000FF000000FFULL) * 0x000F424000000064ULL)
            + (((text >> 16) & 0x000000FF000000FFULL) * 0x0000271000000001ULL)) >> 32 & 0xFFFFFFFFULL


cdef inline bint to_double(uint64_t digits, int exponent, double *value) noexcept nogil:
    """digits · 10**exponent, correctly rounded; false where it takes `strtod` to tell."""
    cdef uint64_t high, low_bits, mantissa, scale
    cdef uint128 product
    cdef int zeros, power
    if digits <= <uint64_t>1 << 53 and -22 <= exponent <= 22:
        value[0] = <double>digits / TENS[-exponent] if exponent < 0 else <double>digits * TENS[exponent]
        return True
    if not LOWEST <= exponent <= HIGHEST:
        return False
    zeros = leading_zeros(digits)
    product = <uint128>(digits << zeros) * FIVES[exponent - LOWEST]
    high = <uint64_t>(product >> 64)
    power = FIVES_EXPONENT[exponent - LOWEST] + 1 - zeros + exponent
    if not high >> 63:
        high = high << 1 | <uint64_t>product >> 63
        power -= 1
    low_bits = high & 0x7FF  # behind the 53 bits that stay
    if 0x3FC <= low_bits <= 0x400:
        return False
    mantissa = (high >> 11) + (low_bits > 0x400)
    scale = <uint64_t>(power + 11 + 1023) << 52  # the bits of that power of two, as a double
    memcpy(value, &scale, 8)
    value[0] *= <double>mantissa
    return True


cdef const unsigned char *read_number(
    const unsigned char *at, const unsigned char *end, int kind, void *place
) noexcept nogil:
    """Reads the number at `at` into `place`; gives its end, or NULL where it is none, or one for another reader."""
    cdef const unsigned char *start = at
    cdef const unsigned char *first
    cdef uint64_t digits = 0, eight
    cdef int exponent = 0, written = 0, sign = 1, count = 0, few
    cdef double value
    cdef char *stopped
    cdef bint is_integer = True
    cdef bint is_negative = at[0] == c"-"
    if is_negative:
        at += 1
    first = at
    while is_digit(at[0]):
        digits = digits * 10 + (at[0] - 48)
        at += 1
    count = <int>(at - first) if at - first < 32 else 32
    if count == 0 or (first[0] == c"0" and count > 1):
        return NULL
    if kind == INT64:
        if count > 18 or at[0] == c"." or at[0] | 32 == c"e":
            return NULL
        (<int64_t *>place)[0] = -<int64_t>digits if is_negative else <int64_t>digits
        return at
    if at[0] == c".":
        is_integer = False
        at += 1
        first = at
        while end - at >= 8:
            memcpy(&eight, at, 8)
            few = count_digits(eight)
            if few < 8:
                if few:  # moved behind as many zeros as are missing
                    eight = (eight << 8 * (8 - few)) | (0x3030303030303030ULL >> 8 * few)
                    digits = digits * POWERS[few] + eight_digits(eight)
                    at += few
                break
            digits = digits * 100000000 + eight_digits(eight)
            at += 8
        while is_digit(at[0]):  # at the end of the text
            digits = digits * 10 + (at[0] - 48)
            at += 1
        if at == first:
            return NULL
        if at - first > 64:  # a double needs 17 digits
            count = 32
        else:
            exponent = -<int>(at - first)
            # Zeros before the first other digit hold no place in a number of 64 bits.
            if count == 1 and start[is_negative] == c"0":
                count = 0
                while first < at and first[0] == c"0":
                    first += 1
            count += <int>(at - first)
    if at[0] | 32 == c"e":
        is_integer = False
        at += 1
        if at[0] == c"-" or at[0] == c"+":
            sign = -1 if at[0] == c"-" else 1
            at += 1
        first = at
        while is_digit(at[0]):
            written = written * 10 + (at[0] - 48)
            at += 1
            if at - first > 2:  # RapidJSON has rules of its own
                return NULL
        if at == first:
            return NULL
        exponent += sign * written
    if count <= 19 and digits == 0:
        value = 0.0
    elif count > 19 or not to_double(digits, exponent, &value):
        value = strtod(<const char *>start + is_negative, &stopped)
        if <const unsigned char *>stopped != at or not isfinite(value):  # another decimal point than ".", or too large
            return NULL
    if is_negative and not (is_integer and value == 0):  # -0 is an integer, which has one zero
        value = -value
    if kind == FLOAT32:
        (<float *>place)[0] = <float>value
    else:
        (<double *>place)[0] = value
    return at


cdef inline const unsigned char *skip(const unsigned char *at) noexcept nogil:
    while at[0] == c" " or at[0] == c"\n" or at[0] == c"\r" or at[0] == c"\t":
        at += 1
    return at


cdef const unsigned char *read_numbers(
    const unsigned char *at, const unsigned char *end, int kind, char *place, Py_ssize_t *shape, int *rank
) noexcept nogil:
    """Reads the list at `at`; gives its end, NULL where it is no even list of numbers. A zero byte stands at `end`."""
    cdef Py_ssize_t[MAX_RANK + 1] counts
    cdef int depth = 0, size = 4 if kind == FLOAT32 else 8
    rank[0] = 0
    while True:
        # An element: a list, as deep as the others, or a number.
        while at[0] == c"[":
            if depth == MAX_RANK or (rank[0] and depth == rank[0]):
                return NULL
            counts[depth] = 0
            depth += 1
            at = skip(at + 1)
        if not rank[0]:
            rank[0] = depth
            for i in range(depth):
                shape[i] = -1
        elif depth != rank[0]:
            return NULL
        at = read_number(at, end, kind, place)
        if at == NULL:
            return NULL
        place += size
        counts[depth - 1] += 1
        at = skip(at)
        while at[0] == c"]":
            depth -= 1
            if shape[depth] < 0:
                shape[depth] = counts[depth]
            elif shape[depth] != counts[depth]:
                return NULL
            at += 1
            if not depth:
                return at
            counts[depth - 1] += 1
            at = skip(at)
        if at[0] != c",":
            return NULL
        at = skip(at + 1)


def read_list(bytes text not None, Py_ssize_t start, str dtype not None):
    """The evenly nested list of numbers that begins at `start`.

    dtype  of NumPy: "f4", "f8", or "i8", which takes integers alone

    Gives the numbers one after another as a bytearray, the shape, and the index behind the list. None for anything else:
    another value, an uneven or an empty list, and numbers for which protocols have rules of their own: integers of more
    than 18 digits for "i8", exponents of three digits, numbers beyond a double.
    """
    if not 0 <= start < PyBytes_GET_SIZE(text):
        return None
    cdef const unsigned char *whole = <const unsigned char *>PyBytes_AS_STRING(text)
    cdef const unsigned char *end = whole + PyBytes_GET_SIZE(text)
    cdef const unsigned char *at = whole + start
    cdef Py_ssize_t[MAX_RANK] shape
    cdef Py_ssize_t count = 1
    cdef int rank = 0, kind = FLOAT32 if dtype == "f4" else FLOAT64 if dtype == "f8" else INT64
    cdef int size = 4 if kind == FLOAT32 else 8
    if at[0] != c"[":
        return None
    # No list of numbers holds a quote: a body of many lists gets memory for each, not for all that follow it.
    cdef const unsigned char *quote = <const unsigned char *>memchr(at, c'"', end - at)
    cdef Py_ssize_t room = (quote if quote != NULL else end) - at
    # A number has a comma or a bracket behind it. What is not written costs no memory.
    cdef bytearray found = PyByteArray_FromStringAndSize(NULL, (room // 2 + 1) * size)
    cdef char *place = PyByteArray_AS_STRING(found)
    if room < WITHOUT_LOCK:
        at = read_numbers(at, end, kind, place, shape, &rank)
    else:
        with nogil:
            at = read_numbers(at, end, kind, place, shape, &rank)
    if at == NULL:
        return None
    for i in range(rank):
        count *= shape[i]
    PyByteArray_Resize(found, count * size)
    return found, tuple([shape[i] for i in range(rank)]), at - whole
