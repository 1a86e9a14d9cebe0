// What AVX-512 does with and without VNNI: registers of sixteen and of eight query tokens.

#pragma once

#include "x86_256.h"

namespace tokret {
namespace {

// Thirty-two registers: at most 24 sums, the query, and what is broadcast.
constexpr int rows_of_a_tile(int registers) { return registers <= 3 ? 8 : 6; }

struct Floats : Floats256 {
    using Wide = __m512;
    using Part = __m256;
    using Query = __m512;
    using PartQuery = __m256;
    using Element = __m512;
    static constexpr int WIDE_LANES = 16, PART_LANES = 8;
    static constexpr int ROW_BYTES = 4, LANE_BYTES = 4, PRODUCTS = 1;
    static constexpr int rows(int registers) { return rows_of_a_tile(registers); }
    using Floats256::keep;
    using Floats256::load;
    using Floats256::start;
    static TOKRET_INLINE void start(const Block&, int64_t, __m512& sum) {
        sum = _mm512_setzero_ps();
    }
    static TOKRET_INLINE void load(const char* query, __m512& out) {
        out = _mm512_loadu_ps(query);
    }
    static TOKRET_INLINE __m512 broadcast(const char* row) {
        return _mm512_set1_ps(*reinterpret_cast<const float*>(row));
    }
    static TOKRET_INLINE void add(__m512& sum, __m512 query, __m512 x) {
        sum = _mm512_fmadd_ps(query, x, sum);
    }
    static TOKRET_INLINE void add(__m256& sum, __m256 query, __m512 x) {
        sum = _mm256_fmadd_ps(query, _mm512_castps512_ps256(x), sum);
    }
    template <bool BEST>
    static TOKRET_INLINE void keep(const Block&, int64_t, int64_t lane, __m512 sum, float* out) {
        if (BEST) sum = _mm512_max_ps(_mm512_loadu_ps(out + lane), sum);
        _mm512_storeu_ps(out + lane, sum);
    }
    static TOKRET_INLINE void opaque(__m512& x) { __asm__ volatile("" : "+v"(x)); }
};

struct Codes512 : Codes256 {
    using Wide = __m512i;
    using Part = __m256i;
    using Query = __m512i;
    using PartQuery = __m256i;
    using Element = __m512i;
    static constexpr int WIDE_LANES = 16, PART_LANES = 8;
    static constexpr int ROW_BYTES = 4, LANE_BYTES = 4;
    static constexpr int rows(int registers) { return rows_of_a_tile(registers); }
    using Codes256::keep;
    using Codes256::load;
    using Codes256::start;
    static TOKRET_INLINE void start(const Block& block, int64_t lane, __m512i& sum) {
        sum = _mm512_loadu_si512(block.start + lane);
    }
    static TOKRET_INLINE void load(const char* query, __m512i& out) {
        out = _mm512_loadu_si512(query);
    }
    static TOKRET_INLINE __m512i broadcast(const char* row) {
        return _mm512_castps_si512(_mm512_set1_ps(*reinterpret_cast<const float*>(row)));
    }
    template <bool BEST>
    static TOKRET_INLINE void keep(const Block& block, int64_t t, int64_t lane, __m512i sum,
                                   float* out) {
        __m512 sims = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(block.scales[t]));
        if (!BEST) sims = _mm512_mul_ps(sims, _mm512_loadu_ps(block.lane_scales + lane));
        Floats::keep<BEST>(block, t, lane, sims, out);
    }
    static TOKRET_INLINE void opaque(__m512i& x) { __asm__ volatile("" : "+v"(x)); }
};

void widen_halves(const uint16_t* in, int64_t n, float* out) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i));
        _mm512_storeu_ps(out + i, _mm512_cvtph_ps(halves));
    }
    widen_last_halves(in + i, n - i, out + i);
}

void argbest(const float* sums, int64_t count, int64_t lanes, const int32_t* norms, int32_t first,
             int32_t* best, int32_t* place) {
    int64_t l = 0;
    for (; l + 16 <= lanes; l += 16) {
        __m512i most = _mm512_loadu_si512(best + l), where = _mm512_loadu_si512(place + l);
        __m512i now = _mm512_set1_epi32(first);
        for (int64_t t = 0; t < count; ++t) {
            const __m512i sum = _mm512_cvtps_epi32(_mm512_loadu_ps(sums + t * lanes + l));
            const __m512i mine = _mm512_sub_epi32(sum, _mm512_set1_epi32(norms[t]));
            where = _mm512_mask_mov_epi32(where, _mm512_cmpgt_epi32_mask(mine, most), now);
            most = _mm512_max_epi32(most, mine);
            now = _mm512_add_epi32(now, _mm512_set1_epi32(1));
        }
        _mm512_storeu_si512(best + l, most);
        _mm512_storeu_si512(place + l, where);
    }
    if (l < lanes) argbest_8(sums, count, lanes, norms, first, l, best, place);
}

constexpr int LIMIT = 4;  // wide registers of query tokens in a group

}  // namespace
}  // namespace tokret
