// NEON, which every 64-bit ARM has.

#include "cell_rows.h"
#include "lattice_row.h"
#include "arm_128.h"

namespace tokret {
namespace {

struct Codes : Codes128 {
    using Query = int16x4_t;
    using PartQuery = int16x4_t;
    using Element = int16x4_t;
    static constexpr int ROW_BYTES = 2, LANE_BYTES = 2, PRODUCTS = 1;
    static TOKRET_INLINE void load(const char* query, int16x4_t& out) {
        out = vld1_s16(reinterpret_cast<const int16_t*>(query));
    }
    static TOKRET_INLINE int16x4_t broadcast(const char* row) {
        return vld1_dup_s16(reinterpret_cast<const int16_t*>(row));
    }
    static TOKRET_INLINE void add(int32x4_t& sum, int16x4_t query, int16x4_t x) {
        sum = vmlal_s16(sum, query, x);
    }
    static TOKRET_INLINE void opaque(int16x4_t& x) { __asm__ volatile("" : "+w"(x)); }
    static TOKRET_INLINE void opaque(int32x4_t& x) { __asm__ volatile("" : "+w"(x)); }
};

void widen_codes(const int8_t* in, int64_t count, int64_t width, int64_t stride, void* out) {
    for (int64_t t = 0; t < count; ++t) {
        const int8_t* from = in + t * width;
        int16_t* to = reinterpret_cast<int16_t*>(static_cast<char*>(out) + t * stride);
        int64_t h = 0;
        for (; h + 8 <= width; h += 8) vst1q_s16(to + h, vmovl_s8(vld1_s8(from + h)));
        for (; h < width; ++h) to[h] = from[h];
    }
}

}  // namespace

const Isa neon = {
    "neon",
    Floats::WIDE_LANES,
    Floats::WIDE_LANES * LIMIT,
    2,
    1,
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
