// AVX-512 F, BW, DQ and VL.

#include "cell_rows.h"
#include "lattice_row.h"
#include "x86_512.h"

namespace tokret {
namespace {

struct Codes : Codes512 {
    static constexpr int PRODUCTS = 2;  // of int16
    static TOKRET_INLINE void add(__m512i& sum, __m512i query, __m512i x) {
        sum = _mm512_add_epi32(sum, _mm512_madd_epi16(query, x));
    }
    static TOKRET_INLINE void add(__m256i& sum, __m256i query, __m512i x) {
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(query, _mm512_castsi512_si256(x)));
    }
};

}  // namespace

const Isa avx512 = {
    "avx512",
    Floats::PART_LANES,
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
