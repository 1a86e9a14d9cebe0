// Lanes of entropy codes by AVX-512 VBMI and VBMI2: one register holds all states of a passage,
// two registers hold a column of a table, and bytes go to the lanes that need one.

#include <immintrin.h>

#include "isa.h"

namespace tokret {
namespace {

struct Registers {
    __m512i states;
    const uint8_t* next;
    __mmask64 escaped = 0;

    explicit Registers(const Lanes& lanes)
        : states(_mm512_loadu_si512(lanes.states)), next(lanes.next) {}

    void back_to(Lanes& lanes) const {
        _mm512_storeu_si512(lanes.states, states);
        lanes.next = next;
    }

    static inline __m512i column(__mmask64 mask, __m512i index, const uint8_t* from) {
        return _mm512_maskz_permutex2var_epi8(mask, _mm512_loadu_si512(from), index,
                                              _mm512_loadu_si512(from + 64));
    }

    inline void read(const LaneTable& table, uint8_t* out) {
        constexpr __mmask64 low = 0x5555555555555555;  // the low byte of each state, whose bit 7
        const __m512i share = column(low, states, table.share);  // no permutation looks at
        const __m512i beyond = column(low, states, table.beyond);
        const __m512i symbol = column(low, states, table.symbol);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi16_epi8(symbol));
        escaped |= _mm512_cmpeq_epi8_mask(symbol, _mm512_set1_epi8(char(ESCAPED)));
        const __m512i now = _mm512_add_epi16(
            _mm512_mullo_epi16(share, _mm512_srli_epi16(states, 7)), beyond);
        const __mmask32 needy = _mm512_cmplt_epu16_mask(now, _mm512_set1_epi16(256));
        const __m256i bytes = _mm256_maskz_expand_epi8(
            needy, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(next)));
        next += __builtin_popcount(needy);
        states = _mm512_or_si512(_mm512_mask_slli_epi16(now, needy, now, 8),
                                 _mm512_cvtepu8_epi16(bytes));
    }
};

}  // namespace

Escapes read_lanes_vbmi(const LaneRow& x, const LaneRow* y) {
    Registers a(*x.lanes);
    if (!y) {
        for (int64_t step = 0; step < x.steps; ++step)
            a.read(*x.tables[step], x.out + step * CODE_LANES);
        a.back_to(*x.lanes);
        return {a.escaped != 0, false};
    }
    Registers b(*y->lanes);
    for (int64_t step = 0; step < x.steps; ++step) {  // in turn: one's waits are the other's work
        a.read(*x.tables[step], x.out + step * CODE_LANES);
        b.read(*y->tables[step], y->out + step * CODE_LANES);
    }
    a.back_to(*x.lanes);
    b.back_to(*y->lanes);
    return {a.escaped != 0, b.escaped != 0};
}

}  // namespace tokret
