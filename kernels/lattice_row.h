// A row of lattice codes read and predicted; each isa_*.cpp includes it once (see isa.h).

#pragma once

#include "isa.h"

namespace tokret {
namespace {

// The next 56 bits. Bit 63 is set, so that the zeros above it tell later how many were taken.
inline uint64_t bits_at(const uint8_t* bytes, uint64_t place) {
    uint64_t held;
    __builtin_memcpy(&held, bytes + (place >> 3), 8);
    return held >> (place & 7) | uint64_t(1) << 63;
}

// One residual; a step is state << 16 | residual << 8 | bits.
inline void next_residual(const uint32_t* const& table, uint64_t& held, uint64_t& state,
                          uint8_t* out) {
#if defined(__x86_64__) && defined(__BMI2__)
    // Four of these side by side need every register; GCC would keep half of them in memory.
    uint64_t step;
    __asm__("movq %[table], %[step]\n\t"
            "movl (%[step],%[state],4), %k[step]\n\t"
            "bzhil %k[step], %k[held], %k[state]\n\t"
            "shrxq %[step], %[held], %[held]\n\t"
            "shrl $8, %k[step]\n\t"
            "movb %b[step], %[out]\n\t"
            "shrl $8, %k[step]\n\t"
            "addl %k[step], %k[state]"
            : [step] "=&r"(step), [held] "+r"(held), [state] "+r"(state), [out] "=m"(*out)
            : [table] "m"(table), "m"(*(const uint32_t(*)[1024])table)
            : "cc");
#else
    const uint32_t step = table[state];
    state = (step >> 16) + (uint32_t(held) & ((1u << (step & 31)) - 1));
    held >>= step & 63;
    *out = uint8_t(step >> 8);
#endif
}

// SEVERAL residuals of each quarter of a row, from `at` on. Four streams are read side by side:
// one waits for its next state most of the time.
template <int64_t QUARTER, int SEVERAL>
inline void read_some(const LatticeRow& r, const uint32_t* const* tables, int64_t at,
                      int64_t quarter) {
    const int64_t apart = QUARTER ? QUARTER : quarter;
    Stream* const s = r.streams;
    uint64_t a = s[0].state, b = s[1].state, c = s[2].state, d = s[3].state;
    uint64_t ha = bits_at(r.bytes, s[0].place), hb = bits_at(r.bytes, s[1].place),
             hc = bits_at(r.bytes, s[2].place), hd = bits_at(r.bytes, s[3].place);
    uint8_t* const out = reinterpret_cast<uint8_t*>(r.row) + at;
    for (int i = 0; i < SEVERAL; ++i) {
        next_residual(tables[0], ha, a, out + i);
        next_residual(tables[1], hb, b, out + i + apart);
        next_residual(tables[2], hc, c, out + i + 2 * apart);
        next_residual(tables[3], hd, d, out + i + 3 * apart);
    }
    s[0].place += uint64_t(__builtin_clzll(ha)), s[0].state = uint32_t(a);
    s[1].place += uint64_t(__builtin_clzll(hb)), s[1].state = uint32_t(b);
    s[2].place += uint64_t(__builtin_clzll(hc)), s[2].state = uint32_t(c);
    s[3].place += uint64_t(__builtin_clzll(hd)), s[3].state = uint32_t(d);
}

// A row of one passage and a row of another in turn, so that one's waits are the other's work.
template <int64_t QUARTER, int SEVERAL>
inline void read_both(const LatticeRow& x, const LatticeRow* y, int64_t quarter) {
    const int64_t unit = quarter / 4;
    const uint32_t* of_x[4] = {x.tables[0], x.tables[2], x.tables[3], x.tables[4]};
    const uint32_t* of_y[4] = {};
    if (y) of_y[0] = y->tables[0], of_y[1] = y->tables[2], of_y[2] = y->tables[3], of_y[3] = y->tables[4];
    for (int64_t at = 0; at < quarter; at += SEVERAL) {
        if (at == unit) {
            of_x[0] = x.tables[1];
            if (y) of_y[0] = y->tables[1];
        } else if (at == 2 * unit) {
            of_x[3] = x.tables[5];
            if (y) of_y[3] = y->tables[5];
        }
        read_some<QUARTER, SEVERAL>(x, of_x, at, quarter);
        if (y) read_some<QUARTER, SEVERAL>(*y, of_y, at, quarter);
    }
}

void read_lattice_rows(const LatticeRow& x, const LatticeRow* y) {
    const int64_t quarter = x.width / 4;
    if (quarter == 32) read_both<32, 4>(x, y, quarter);
    else if (quarter % 16 == 0) read_both<0, 4>(x, y, quarter);
    else read_both<0, 1>(x, y, quarter);
}

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors passed between inlined functions alone

typedef int8_t Bytes16s __attribute__((vector_size(16), aligned(1), may_alias));
typedef int16_t Shorts16 __attribute__((vector_size(32)));

inline Shorts16 widened(const int8_t* from) {
    return __builtin_convertvector(*reinterpret_cast<const Bytes16s*>(from), Shorts16);
}

// Add to sixteen residuals what was expected; sums are modulo 256, so no residual is too large.
template <class Expected>
inline void add_expected(const LatticeRow& r, Expected expected) {
    for (int64_t h = 0; h < r.width; h += 16) {
        Bytes16s* const row = reinterpret_cast<Bytes16s*>(r.row + h);
        *row = __builtin_convertvector(widened(r.row + h) + expected(h), Bytes16s);
    }
}

void predict_lattice_row(const LatticeRow& r) {
    const int8_t *const c = r.centroid, *const p = r.earlier, *const o = r.other;
    if (r.kind == 0) {
        add_expected(r, [&](int64_t h) { return widened(c + h); });
    } else if (r.kind == 1) {
        add_expected(r, [&](int64_t h) { return widened(p + h); });
    } else if (r.kind == 2) {
        add_expected(r, [&](int64_t h) { return (widened(c + h) + widened(p + h)) >> 1; });
    } else {
        add_expected(r, [&](int64_t h) {
            Shorts16 x = widened(c + h) + ((widened(p + h) - widened(o + h)) >> 1);
            x = x > 127 ? x - x + 127 : x;
            return x < -127 ? x - x - 127 : x;
        });
    }
}

}  // namespace
}  // namespace tokret
