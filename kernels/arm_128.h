// What NEON does with and without dot products: registers of four query tokens.

#pragma once

#include <arm_neon.h>

#include "tiles.h"

namespace tokret {
namespace {

// Thirty-two registers: at most 24 sums, the query, and what is broadcast.
constexpr int rows_of_a_tile(int registers) { return registers <= 3 ? 8 : 24 / registers; }

struct Floats {
    using Wide = float32x4_t;
    using Part = float32x4_t;
    using Query = float32x4_t;
    using PartQuery = float32x4_t;
    using Element = float32x4_t;
    static constexpr int WIDE_LANES = 4, PART_LANES = 0;
    static constexpr int ROW_BYTES = 4, LANE_BYTES = 4, PRODUCTS = 1;
    static constexpr int rows(int registers) { return rows_of_a_tile(registers); }
    static TOKRET_INLINE void start(const Block&, int64_t, float32x4_t& sum) {
        sum = vdupq_n_f32(0);
    }
    static TOKRET_INLINE void load(const char* query, float32x4_t& out) {
        out = vld1q_f32(reinterpret_cast<const float*>(query));
    }
    static TOKRET_INLINE float32x4_t broadcast(const char* row) {
        return vld1q_dup_f32(reinterpret_cast<const float*>(row));
    }
    static TOKRET_INLINE void add(float32x4_t& sum, float32x4_t query, float32x4_t x) {
        sum = vfmaq_f32(sum, query, x);
    }
    template <bool BEST>
    static TOKRET_INLINE void keep(const Block&, int64_t, int64_t lane, float32x4_t sum,
                                   float* out) {
        if (BEST) sum = vmaxq_f32(vld1q_f32(out + lane), sum);
        vst1q_f32(out + lane, sum);
    }
    static TOKRET_INLINE void opaque(float32x4_t& x) { __asm__ volatile("" : "+w"(x)); }
};

struct Codes128 {
    using Wide = int32x4_t;
    using Part = int32x4_t;
    static constexpr int WIDE_LANES = 4, PART_LANES = 0;
    static constexpr int rows(int registers) { return rows_of_a_tile(registers); }
    static TOKRET_INLINE void start(const Block& block, int64_t lane, int32x4_t& sum) {
        sum = vld1q_s32(block.start + lane);
    }
    template <bool BEST>
    static TOKRET_INLINE void keep(const Block& block, int64_t t, int64_t lane, int32x4_t sum,
                                   float* out) {
        float32x4_t sims = vmulq_n_f32(vcvtq_f32_s32(sum), block.scales[t]);
        if (!BEST) sims = vmulq_f32(sims, vld1q_f32(block.lane_scales + lane));
        Floats::keep<BEST>(block, t, lane, sims, out);
    }
};

void widen_halves(const uint16_t* in, int64_t n, float* out) {
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        vst1q_f32(out + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(in + i))));
    for (; i < n; ++i)
        out[i] = vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(in[i]))), 0);
}

int64_t above(const float* sims, int64_t count, int64_t lanes, const float* least,
              int32_t* places) {
    int64_t found = 0;
    for (int64_t l = 0; l < lanes; l += 4) {
        const float32x4_t bound = vld1q_f32(least + l);
        for (int64_t t = 0; t < count; ++t) {
            const float* some = sims + t * lanes + l;
            if (vmaxvq_u32(vcgtq_f32(vld1q_f32(some), bound)) == 0) continue;
            for (int64_t k = 0; k < 4; ++k)
                if (some[k] > least[l + k]) places[found++] = int32_t(t * MOST_LANES + l + k);
        }
    }
    return found;
}

void argbest(const float* sums, int64_t count, int64_t lanes, const int32_t* norms, int32_t first,
             int32_t* best, int32_t* place) {
    for (int64_t l = 0; l < lanes; l += 4) {
        int32x4_t most = vld1q_s32(best + l), where = vld1q_s32(place + l);
        int32x4_t now = vdupq_n_s32(first);
        for (int64_t t = 0; t < count; ++t) {
            const int32x4_t sum = vcvtq_s32_f32(vld1q_f32(sums + t * lanes + l));
            const int32x4_t mine = vsubq_s32(sum, vdupq_n_s32(norms[t]));
            where = vbslq_s32(vcgtq_s32(mine, most), now, where);
            most = vmaxq_s32(most, mine);
            now = vaddq_s32(now, vdupq_n_s32(1));
        }
        vst1q_s32(best + l, most);
        vst1q_s32(place + l, where);
    }
}

constexpr int LIMIT = 6;  // registers of query tokens in a group

}  // namespace
}  // namespace tokret
