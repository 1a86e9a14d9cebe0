// Lanes of entropy codes by AVX2: 16 bytes of a column of a table at a time.

#pragma once

#include <immintrin.h>

#include "isa.h"

namespace tokret {
namespace {

// For each set of eight lanes: which of the next bytes a lane takes, 0x80 where it takes none.
struct Takers {
    uint8_t of[256][8];

    constexpr Takers() : of() {
        for (int set = 0; set < 256; ++set)
            for (int lane = 0, taken = 0; lane < 8; ++lane)
                of[set][lane] = set >> lane & 1 ? uint8_t(taken++) : uint8_t(0x80);
    }
};
constexpr Takers TAKERS;

inline __m128i taken(uint32_t set, const uint8_t*& next) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(next));
    next += __builtin_popcount(set);
    return _mm_shuffle_epi8(
        bytes, _mm_loadl_epi64(reinterpret_cast<const __m128i*>(TAKERS.of[set])));
}

// Bytes of two halves of lanes in the order of lanes.
inline __m256i in_order(__m256i packed) { return _mm256_permute4x64_epi64(packed, 0xd8); }

struct Halves {
    __m256i states[2];
    const uint8_t* next;
    __m256i escaped = _mm256_setzero_si256();

    explicit Halves(const Lanes& lanes) : next(lanes.next) {
        for (int i = 0; i < 2; ++i)
            states[i] = _mm256_loadu_si256(
                reinterpret_cast<const __m256i*>(lanes.states + i * CODE_LANES / 2));
    }

    bool back_to(Lanes& lanes) const {
        for (int i = 0; i < 2; ++i)
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes.states + i * CODE_LANES / 2),
                                states[i]);
        lanes.next = next;
        return _mm256_movemask_epi8(escaped) != 0;
    }

    inline void read(const LaneTable& table, uint8_t* out) {
        const __m256i low = _mm256_set1_epi16(127), none = _mm256_setzero_si256();
        const __m256i index = in_order(_mm256_packus_epi16(_mm256_and_si256(states[0], low),
                                                           _mm256_and_si256(states[1], low)));
        __m256i share = none, beyond = none, symbol = none;
        for (int at = 0; at < 128; at += 16) {
            // 0x70 .. 0x7f within these 16, 0x80 and more elsewhere, where a shuffle gives 0
            const __m256i here = _mm256_adds_epu8(
                _mm256_sub_epi8(index, _mm256_set1_epi8(char(at))), _mm256_set1_epi8(0x70));
            const auto add = [&](__m256i& sum, const uint8_t* column) {
                const __m256i part = _mm256_broadcastsi128_si256(
                    _mm_loadu_si128(reinterpret_cast<const __m128i*>(column + at)));
                sum = _mm256_or_si256(sum, _mm256_shuffle_epi8(part, here));
            };
            add(share, table.share);
            add(beyond, table.beyond);
            add(symbol, table.symbol);
        }
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), symbol);
        escaped = _mm256_or_si256(
            escaped, _mm256_cmpeq_epi8(symbol, _mm256_set1_epi8(char(ESCAPED))));

        __m256i now[2], needy[2];
        for (int i = 0; i < 2; ++i) {
            const auto half = [i](__m256i bytes) {
                return _mm256_cvtepu8_epi16(i ? _mm256_extracti128_si256(bytes, 1)
                                              : _mm256_castsi256_si128(bytes));
            };
            now[i] = _mm256_add_epi16(
                _mm256_mullo_epi16(half(share), _mm256_srli_epi16(states[i], 7)), half(beyond));
            needy[i] = _mm256_cmpeq_epi16(_mm256_srli_epi16(now[i], 8), none);
        }
        const uint32_t sets =
            uint32_t(_mm256_movemask_epi8(in_order(_mm256_packs_epi16(needy[0], needy[1]))));
        for (int i = 0; i < 2; ++i) {
            const __m128i first = taken(sets >> 16 * i & 255, next);
            const __m128i second = taken(sets >> (16 * i + 8) & 255, next);
            const __m256i bytes = _mm256_cvtepu8_epi16(_mm_unpacklo_epi64(first, second));
            const __m256i moved = _mm256_or_si256(_mm256_slli_epi16(now[i], 8), bytes);
            states[i] = _mm256_blendv_epi8(now[i], moved, needy[i]);
        }
    }
};

Escapes read_lanes(const LaneRow& x, const LaneRow* y) {
    Halves a(*x.lanes);
    if (!y) {
        for (int64_t step = 0; step < x.steps; ++step)
            a.read(*x.tables[step], x.out + step * CODE_LANES);
        return {a.back_to(*x.lanes), false};
    }
    Halves b(*y->lanes);
    for (int64_t step = 0; step < x.steps; ++step) {  // in turn: one's waits are the other's work
        a.read(*x.tables[step], x.out + step * CODE_LANES);
        b.read(*y->tables[step], y->out + step * CODE_LANES);
    }
    const bool in_x = a.back_to(*x.lanes);
    return {in_x, b.back_to(*y->lanes)};
}

}  // namespace
}  // namespace tokret
