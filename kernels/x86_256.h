// What AVX2 and AVX-512 do in the same way, eight query tokens at a time.

#pragma once

#include <immintrin.h>

#include "tiles.h"

namespace tokret {
namespace {

struct Floats256 {
    static TOKRET_INLINE void start(const Block&, int64_t, __m256& sum) {
        sum = _mm256_setzero_ps();
    }
    static TOKRET_INLINE void load(const char* query, __m256& out) {
        out = _mm256_loadu_ps(reinterpret_cast<const float*>(query));
    }
    template <bool BEST>
    static TOKRET_INLINE void keep(const Block&, int64_t, int64_t lane, __m256 sum, float* out) {
        if (BEST) sum = _mm256_max_ps(_mm256_loadu_ps(out + lane), sum);
        _mm256_storeu_ps(out + lane, sum);
    }
};

struct Codes256 {
    static TOKRET_INLINE void start(const Block& block, int64_t lane, __m256i& sum) {
        load(reinterpret_cast<const char*>(block.start + lane), sum);
    }
    static TOKRET_INLINE void load(const char* query, __m256i& out) {
        out = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query));
    }
    template <bool BEST>
    static TOKRET_INLINE void keep(const Block& block, int64_t t, int64_t lane, __m256i sum,
                                   float* out) {
        __m256 sims = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(block.scales[t]));
        if (!BEST) sims = _mm256_mul_ps(sims, _mm256_loadu_ps(block.lane_scales + lane));
        Floats256::keep<BEST>(block, t, lane, sims, out);
    }
};

int64_t above(const float* sims, int64_t count, int64_t lanes, const float* least,
              int32_t* places) {
    int64_t found = 0;
    for (int64_t l = 0; l < lanes; l += 8) {
        const __m256 bound = _mm256_loadu_ps(least + l);
        for (int64_t t = 0; t < count; ++t) {
            const __m256 some = _mm256_loadu_ps(sims + t * lanes + l);
            const __m256 more = _mm256_cmp_ps(some, bound, _CMP_GT_OQ);
            for (unsigned mask = unsigned(_mm256_movemask_ps(more)); mask; mask &= mask - 1)
                places[found++] = int32_t(t * MOST_LANES + l + __builtin_ctz(mask));
        }
    }
    return found;
}

// argbest for eight lanes from l.
void argbest_8(const float* sums, int64_t count, int64_t lanes, const int32_t* norms,
               int32_t first, int64_t l, int32_t* best, int32_t* place) {
    __m256i* const bests = reinterpret_cast<__m256i*>(best + l);
    __m256i* const places = reinterpret_cast<__m256i*>(place + l);
    __m256i most = _mm256_loadu_si256(bests), where = _mm256_loadu_si256(places);
    __m256i now = _mm256_set1_epi32(first);
    for (int64_t t = 0; t < count; ++t) {
        const __m256i sum = _mm256_cvtps_epi32(_mm256_loadu_ps(sums + t * lanes + l));
        const __m256i mine = _mm256_sub_epi32(sum, _mm256_set1_epi32(norms[t]));
        where = _mm256_blendv_epi8(where, now, _mm256_cmpgt_epi32(mine, most));
        most = _mm256_max_epi32(most, mine);
        now = _mm256_add_epi32(now, _mm256_set1_epi32(1));
    }
    _mm256_storeu_si256(bests, most);
    _mm256_storeu_si256(places, where);
}

// Rows of int8 to rows of int16.
[[maybe_unused]] void widen_codes_16(const int8_t* in, int64_t count, int64_t width,
                                     int64_t stride, void* out) {
    for (int64_t t = 0; t < count; ++t) {
        const int8_t* from = in + t * width;
        int16_t* to = reinterpret_cast<int16_t*>(static_cast<char*>(out) + t * stride);
        int64_t h = 0;
        for (; h + 16 <= width; h += 16) {
            const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + h));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + h), _mm256_cvtepi8_epi16(bytes));
        }
        for (; h < width; ++h) to[h] = from[h];
    }
}

// The last halves of an array, fewer than a register holds.
void widen_last_halves(const uint16_t* in, int64_t n, float* out) {
    for (int64_t i = 0; i < n; ++i)
        out[i] = _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(in[i])));
}

}  // namespace
}  // namespace tokret
