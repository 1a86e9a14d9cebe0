// NEON with dot products, which add up four products of bytes.

#include "cell_rows.h"
#include "lattice_row.h"
#include "arm_128.h"

namespace tokret {
namespace {

struct Codes : Codes128 {
    using Query = int8x16_t;
    using PartQuery = int8x16_t;
    using Element = int8x16_t;
    static constexpr int ROW_BYTES = 4, LANE_BYTES = 4, PRODUCTS = 4;
    static TOKRET_INLINE void load(const char* query, int8x16_t& out) {
        out = vld1q_s8(reinterpret_cast<const int8_t*>(query));
    }
    static TOKRET_INLINE int8x16_t broadcast(const char* row) {
        return vreinterpretq_s8_s32(vld1q_dup_s32(reinterpret_cast<const int32_t*>(row)));
    }
    static TOKRET_INLINE void add(int32x4_t& sum, int8x16_t query, int8x16_t x) {
        sum = vdotq_s32(sum, query, x);
    }
    static TOKRET_INLINE void opaque(int8x16_t& x) { __asm__ volatile("" : "+w"(x)); }
    static TOKRET_INLINE void opaque(int32x4_t& x) { __asm__ volatile("" : "+w"(x)); }
};

void widen_codes(const int8_t* in, int64_t count, int64_t width, int64_t stride, void* out) {
    for (int64_t t = 0; t < count; ++t)
        __builtin_memcpy(static_cast<char*>(out) + t * stride, in + t * width, static_cast<unsigned long>(width));
}

}  // namespace

const Isa neondot = {
    "neondot",
    Floats::WIDE_LANES,
    Floats::WIDE_LANES * LIMIT,
    1,
    4,
    0,
    widen_halves,
    widen_codes,
    sums<Floats, true, LIMIT>,
    sums<Codes, true, LIMIT>,
    sums<Floats, false, LIMIT>,
    sums<Codes, false, LIMIT>,
    above,
    to_bytes,
    max_bytes,
    read_lanes,
    predict_lattice_row,
    dots_16,
    argbest,
    spin<Floats>,
    spin<Codes>,
};

}  // namespace tokret
