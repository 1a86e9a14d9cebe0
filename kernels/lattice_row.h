// A row of lattice codes read and predicted; each isa_*.cpp includes it once (see isa.h).

#pragma once

#include "isa.h"

#if defined(__BMI2__)
#include <immintrin.h>
#endif

namespace tokret {
namespace {

// The next 56 bits. Bit 63 is set, so that the zeros above it tell later how many were taken.
inline uint64_t bits_at(const uint8_t* bytes, uint64_t place) {
    uint64_t held;
    __builtin_memcpy(&held, bytes + (place >> 3), 8);
    return held >> (place & 7) | uint64_t(1) << 63;
}

// One residual; a step is state << 16 | residual << 8 | bits.
inline uint8_t next_residual(const uint32_t* table, uint64_t& held, uint32_t& state) {
    const uint32_t step = table[state];
#if defined(__BMI2__)
    state = (step >> 16) + _bzhi_u32(uint32_t(held), step);
#else
    state = (step >> 16) + (uint32_t(held) & ((1u << (step & 31)) - 1));
#endif
    held >>= step & 63;
    return uint8_t(step >> 8);
}

// Residuals from:to of each quarter of a row, of QUARTER dimensions or, where it is 0, of
// `quarter`. Four streams are read side by side: one waits for its next state most of the time.
template <int64_t QUARTER>
inline void read_residuals(Stream* streams, const uint8_t* bytes, const uint32_t* const* tables,
                           int64_t from, int64_t to, int64_t quarter, uint8_t* row) {
    const int64_t apart = QUARTER ? QUARTER : quarter;
    const uint32_t *ta = tables[0], *tb = tables[1], *tc = tables[2], *td = tables[3];
    uint32_t a = streams[0].state, b = streams[1].state, c = streams[2].state,
             d = streams[3].state;
    uint8_t* out = row + from;
    uint8_t* const last = row + to;
    while (out < last) {
        uint64_t ha = bits_at(bytes, streams[0].place), hb = bits_at(bytes, streams[1].place),
                 hc = bits_at(bytes, streams[2].place), hd = bits_at(bytes, streams[3].place);
        const int several = last - out >= 4 ? 4 : 1;
        for (int i = 0; i < several; ++i, ++out) {
            out[0] = next_residual(ta, ha, a);
            out[apart] = next_residual(tb, hb, b);
            out[2 * apart] = next_residual(tc, hc, c);
            out[3 * apart] = next_residual(td, hd, d);
        }
        streams[0].place += uint64_t(__builtin_clzll(ha));
        streams[1].place += uint64_t(__builtin_clzll(hb));
        streams[2].place += uint64_t(__builtin_clzll(hc));
        streams[3].place += uint64_t(__builtin_clzll(hd));
    }
    streams[0].state = a, streams[1].state = b, streams[2].state = c, streams[3].state = d;
}

template <int64_t QUARTER>
inline void read_quarters(const LatticeRow& r, int64_t quarter) {
    uint8_t* const raw = reinterpret_cast<uint8_t*>(r.row);
    const uint32_t* tables[4] = {r.tables[0], r.tables[2], r.tables[3], r.tables[4]};
    const int64_t unit = quarter / 4;
    read_residuals<QUARTER>(r.streams, r.bytes, tables, 0, unit, quarter, raw);
    tables[0] = r.tables[1];
    read_residuals<QUARTER>(r.streams, r.bytes, tables, unit, 2 * unit, quarter, raw);
    tables[3] = r.tables[5];
    read_residuals<QUARTER>(r.streams, r.bytes, tables, 2 * unit, quarter, quarter, raw);
}

void read_lattice_row(const LatticeRow& r) {
    if (r.width == 128) read_quarters<32>(r, 32);
    else read_quarters<0>(r, r.width / 4);
}

inline int clip_to_lattice(int x) { return x < -127 ? -127 : x > 127 ? 127 : x; }

// Add what the row was expected to be; sums are modulo 256, so no residual is too large.
void predict_lattice_row(const LatticeRow& r) {
    int8_t* const row = r.row;
    const int8_t *const c = r.centroid, *const p = r.earlier, *const o = r.other;
    switch (r.kind) {
        case 0:
            for (int64_t h = 0; h < r.width; ++h) row[h] = int8_t(row[h] + c[h]);
            break;
        case 1:
            for (int64_t h = 0; h < r.width; ++h) row[h] = int8_t(row[h] + p[h]);
            break;
        case 2:
            for (int64_t h = 0; h < r.width; ++h) row[h] = int8_t(row[h] + ((c[h] + p[h]) >> 1));
            break;
        default:
            for (int64_t h = 0; h < r.width; ++h)
                row[h] = int8_t(row[h] + clip_to_lattice(c[h] + ((p[h] - o[h]) >> 1)));
    }
}

}  // namespace
}  // namespace tokret
