// Rows of a table of bytes; each isa_*.cpp includes it once (see isa.h).

#pragma once

#include "isa.h"

namespace tokret {
namespace {

// Similarities [count][lanes] as bytes, 128 for 0 and `unit` more for 1: `take` of each row's.
void to_bytes(const float* sims, int64_t count, int64_t lanes, int64_t take, float unit,
              uint8_t* out, int64_t stride) {
    for (int64_t t = 0; t < count; ++t)
        for (int64_t l = 0; l < take; ++l) {
            const float x = sims[t * lanes + l] * unit + 128.5f;
            out[t * stride + l] = uint8_t(x < 0 ? 0.0f : x > 255 ? 255.0f : x);
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
