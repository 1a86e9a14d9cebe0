// Rows of a table of bytes; each isa_*.cpp includes it once (see isa.h).

#pragma once

#include "isa.h"

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors stay inside of functions

namespace tokret {
namespace {

typedef float Floats8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t Ints8 __attribute__((vector_size(32)));
typedef uint8_t Bytes8 __attribute__((vector_size(8), aligned(1), may_alias));

// Similarities [count][lanes] as bytes, 128 for 0 and `unit` more for 1: `take` of each row's.
void to_bytes(const float* sims, int64_t count, int64_t lanes, int64_t take, float unit,
              uint8_t* out, int64_t stride) {
    for (int64_t t = 0; t < count; ++t) {
        const float* const row = sims + t * lanes;
        uint8_t* const to = out + t * stride;
        int64_t l = 0;
        for (; l + 8 <= take; l += 8) {
            Floats8 x = *reinterpret_cast<const Floats8*>(row + l) * unit + 128.5f;
            x = x < 0.0f ? x - x : x;
            x = x > 255.0f ? x - x + 255.0f : x;
            *reinterpret_cast<Bytes8*>(to + l) =
                __builtin_convertvector(__builtin_convertvector(x, Ints8), Bytes8);
        }
        for (; l < take; ++l) {
            const float x = row[l] * unit + 128.5f;
            to[l] = uint8_t(x > 255 ? 255.0f : x > 0 ? x : 0.0f);
        }
    }
}

typedef uint8_t Bytes16 __attribute__((vector_size(16), aligned(1), may_alias));

template <int64_t BLOCKS>
void max_of(const uint8_t* table, int64_t stride, const uint16_t* cells, int64_t count,
            uint8_t* best) {
    Bytes16 most[BLOCKS];
    for (int64_t b = 0; b < BLOCKS; ++b) most[b] = reinterpret_cast<const Bytes16*>(best)[b];
    for (int64_t i = 0; i < count; ++i) {
        const Bytes16* row = reinterpret_cast<const Bytes16*>(table + cells[i] * stride);
        for (int64_t b = 0; b < BLOCKS; ++b) {
            const Bytes16 x = row[b];
            most[b] = x > most[b] ? x : most[b];
        }
    }
    for (int64_t b = 0; b < BLOCKS; ++b) reinterpret_cast<Bytes16*>(best)[b] = most[b];
}

// The greatest byte of some rows of a table, column by column; stride is a multiple of 16.
void max_bytes(const uint8_t* table, int64_t stride, const uint16_t* cells, int64_t count,
               uint8_t* best) {
    int64_t at = 0;
    for (; stride - at >= 64; at += 64) max_of<4>(table + at, stride, cells, count, best + at);
    if (stride - at >= 48) max_of<3>(table + at, stride, cells, count, best + at);
    else if (stride - at >= 32) max_of<2>(table + at, stride, cells, count, best + at);
    else if (stride - at >= 16) max_of<1>(table + at, stride, cells, count, best + at);
}

}  // namespace
}  // namespace tokret
