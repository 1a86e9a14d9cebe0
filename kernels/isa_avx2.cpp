// AVX2, FMA and F16C: registers of eight query tokens.

#include "cell_rows.h"
#include "lattice_row.h"
#include "x86_256.h"

namespace tokret {
namespace {

// Sixteen registers: sums, the query, and one for what is broadcast.
constexpr int rows_of_a_tile(int registers) {
    return registers == 1 ? 8 : registers == 2 ? 6 : registers == 3 ? 4 : 2;
}

struct Floats : Floats256 {
    using Wide = __m256;
    using Part = __m256;
    using Query = __m256;
    using PartQuery = __m256;
    using Element = __m256;
    static constexpr int WIDE_LANES = 8, PART_LANES = 0;
    static constexpr int ROW_BYTES = 4, LANE_BYTES = 4, PRODUCTS = 1;
    static constexpr int rows(int registers) { return rows_of_a_tile(registers); }
    static TOKRET_INLINE __m256 broadcast(const char* row) {
        return _mm256_broadcast_ss(reinterpret_cast<const float*>(row));
    }
    static TOKRET_INLINE void add(__m256& sum, __m256 query, __m256 x) {
        sum = _mm256_fmadd_ps(query, x, sum);
    }
    static TOKRET_INLINE void opaque(__m256& x) { __asm__ volatile("" : "+x"(x)); }
};

// Pairs of int16: AVX2 has no exact product of bytes.
struct Codes : Codes256 {
    using Wide = __m256i;
    using Part = __m256i;
    using Query = __m256i;
    using PartQuery = __m256i;
    using Element = __m256i;
    static constexpr int WIDE_LANES = 8, PART_LANES = 0;
    static constexpr int ROW_BYTES = 4, LANE_BYTES = 4, PRODUCTS = 2;
    static constexpr int rows(int registers) { return registers == 3 ? 3 : rows_of_a_tile(registers); }
    static TOKRET_INLINE __m256i broadcast(const char* row) {
        return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(row)));
    }
    static TOKRET_INLINE void add(__m256i& sum, __m256i query, __m256i x) {
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(query, x));
    }
    static TOKRET_INLINE void opaque(__m256i& x) { __asm__ volatile("" : "+x"(x)); }
};

void widen_halves(const uint16_t* in, int64_t n, float* out) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i));
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(halves));
    }
    widen_last_halves(in + i, n - i, out + i);
}

void argbest(const float* sums, int64_t count, int64_t lanes, const int32_t* norms, int32_t first,
             int32_t* best, int32_t* place) {
    for (int64_t l = 0; l < lanes; l += 8)
        argbest_8(sums, count, lanes, norms, first, l, best, place);
}

constexpr int LIMIT = 3;  // registers of query tokens in a group

}  // namespace

const Isa avx2 = {
    "avx2",
    Floats::WIDE_LANES,
    Floats::WIDE_LANES * LIMIT,
    2,
    2,
    0,
    widen_halves,
    widen_codes_16,
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
