// A row of lattice codes read and predicted; each isa_*.cpp includes it once (see isa.h).

#pragma once

#include "isa.h"

#if defined(__AVX2__)
#include "lanes_avx2.h"
#endif

namespace tokret {
namespace {

#if !defined(__AVX2__)
// Copies of the states and of a step's symbols, as what is written could be them.
inline bool read_some(const LaneRow& r) {
    const uint8_t* next = r.lanes->next;
    uint16_t states[CODE_LANES];
    __builtin_memcpy(states, r.lanes->states, sizeof states);
    uint8_t escaped = 0;
    for (int64_t step = 0; step < r.steps; ++step) {
        const LaneTable& table = *r.tables[step];
        uint8_t symbols[CODE_LANES];
        for (int64_t lane = 0; lane < CODE_LANES; ++lane) {
            const uint32_t low = states[lane] & 127, high = states[lane] >> 7;
            uint32_t now = table.share[low] * high + table.beyond[low];
            const uint32_t needy = now < 256;  // without a branch, which none could foresee
            now = now << 8 * needy | (*next & (0 - needy));
            next += needy;
            states[lane] = uint16_t(now);
            symbols[lane] = table.symbol[low];
            escaped |= symbols[lane] == ESCAPED;
        }
        __builtin_memcpy(r.out + step * CODE_LANES, symbols, sizeof symbols);
    }
    __builtin_memcpy(r.lanes->states, states, sizeof states);
    r.lanes->next = next;
    return escaped;
}

Escapes read_lanes(const LaneRow& x, const LaneRow* y) {
    const bool in_x = read_some(x);
    return {in_x, y && read_some(*y)};
}
#endif

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors passed between inlined functions alone

// Numbers of 16 bits side by side, widened from as many of 8. GCC 12 makes four instructions of
// its own conversion to 512 bits.
#if defined(__AVX512BW__)
constexpr int64_t WIDE = 32;
typedef int16_t Shorts __attribute__((vector_size(64)));
inline Shorts widened(const int8_t* from) {
    return Shorts(_mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
}
inline void narrowed(Shorts x, int8_t* to) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi16_epi8(__m512i(x)));
}
#else
constexpr int64_t WIDE = 16;
typedef int8_t Narrow __attribute__((vector_size(16), aligned(1), may_alias));
typedef int16_t Shorts __attribute__((vector_size(32)));
inline Shorts widened(const int8_t* from) {
    return __builtin_convertvector(*reinterpret_cast<const Narrow*>(from), Shorts);
}
inline void narrowed(Shorts x, int8_t* to) {
    *reinterpret_cast<Narrow*>(to) = __builtin_convertvector(x, Narrow);
}
#endif

// Add to residuals what was expected, given in sixteenths; sums are modulo 256.
template <class Expected>
inline void add_expected(int8_t* row, int64_t width, const Expected& expected) {
    for (int64_t h = 0; h < width; h += WIDE) {
        Shorts x = (expected(h) + int16_t(8)) >> 4;
        x = x > 127 ? x - x + int16_t(127) : x;
        x = x < -127 ? x - x - int16_t(127) : x;
        narrowed(widened(row + h) + x, row + h);
    }
}

void predict_lattice_row(const LatticeRow& r) {
    const int8_t *const c = r.centroid, *const p = r.earlier, *const o = r.other;
    const int8_t *const p2 = r.earlier2, *const o2 = r.other2;
    const int16_t part = int16_t(r.part), part2 = int16_t(r.part2);
    const Shorts none = {}, own = none - int16_t(r.from_expected);  // all bits, or none
    add_expected(r.row, r.width, [=](int64_t h) {  // no branch: which way a row goes is a surprise
        const Shorts base = widened(c + h) * int16_t(4) + (widened(p + h) - widened(o + h)) * part;
        const Shorts from = (base & own) | (widened(o2 + h) * int16_t(4) & ~own);
        return base * int16_t(4) + (widened(p2 + h) * int16_t(4) - from) * part2;
    });
}

// Inner products of a row [width] with each of `count` rows.
void dots_16(const int16_t* row, const int16_t* rows, int64_t count, int64_t width, int32_t* out) {
    for (int64_t t = 0; t < count; ++t) {
        int32_t sum = 0;
        for (int64_t h = 0; h < width; ++h) sum += row[h] * rows[t * width + h];
        out[t] = sum;
    }
}

}  // namespace
}  // namespace tokret
