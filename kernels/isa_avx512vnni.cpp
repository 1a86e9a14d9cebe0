// AVX-512 with VNNI, which adds up four products of an unsigned and a signed byte.

#include "cell_rows.h"
#include "lattice_row.h"
#include "x86_512.h"

namespace tokret {
namespace {

struct Codes : Codes512 {
    static constexpr int PRODUCTS = 4;
    // _mm512_dpbusd_epi32, of which GCC makes copies of every sum at every step.
    static TOKRET_INLINE void add(__m512i& sum, __m512i query, __m512i x) {
        __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(query));
    }
    static TOKRET_INLINE void add(__m256i& sum, __m256i query, __m512i x) {
        __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(_mm512_castsi512_si256(x)), "v"(query));
    }
};

// Add 128, so that codes are unsigned; each sum starts from -128 times its query's codes.
void widen_codes(const int8_t* in, int64_t count, int64_t width, int64_t stride, void* out) {
    const __m512i flip = _mm512_set1_epi8(-128);
    for (int64_t t = 0; t < count; ++t) {
        char* to = static_cast<char*>(out) + t * stride;
        for (int64_t h = 0; h < width; h += 64) {
            const int64_t left = width - h;
            const __mmask64 mask = left < 64 ? (__mmask64(1) << left) - 1 : ~__mmask64(0);
            const __m512i codes = _mm512_maskz_loadu_epi8(mask, in + t * width + h);
            _mm512_storeu_si512(to + h, _mm512_xor_si512(codes, flip));
        }
    }
}

}  // namespace

const Isa avx512vnni = {
    "avx512vnni",
    Floats::PART_LANES,
    Floats::WIDE_LANES * LIMIT,
    1,
    4,
    128,
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
