// Plain C++: for machines without one of the other sets, and to compare them with.

#include "cell_rows.h"
#include "lattice_row.h"
#include "isa.h"

namespace tokret {
namespace {

constexpr int64_t LANES = 8;  // so that a compiler may use what registers there are

float widen_half(uint16_t half) {
    const uint32_t sign = uint32_t(half & 0x8000) << 16;
    uint32_t exponent = (half >> 10) & 31, mantissa = half & 0x3ff, bits;
    if (exponent == 31) {
        bits = sign | 0x7f800000 | mantissa << 13;
    } else if (exponent != 0) {
        bits = sign | (exponent + 112) << 23 | mantissa << 13;
    } else if (mantissa == 0) {
        bits = sign;
    } else {  // a subnormal half is a normal float
        for (exponent = 113; !(mantissa & 0x400); --exponent) mantissa <<= 1;
        bits = sign | exponent << 23 | (mantissa & 0x3ff) << 13;
    }
    float out;
    __builtin_memcpy(&out, &bits, sizeof out);
    return out;
}

void widen_halves(const uint16_t* in, int64_t n, float* out) {
    for (int64_t i = 0; i < n; ++i) out[i] = widen_half(in[i]);
}

void widen_codes(const int8_t* in, int64_t count, int64_t width, int64_t stride, void* out) {
    for (int64_t t = 0; t < count; ++t) {
        int16_t* row = reinterpret_cast<int16_t*>(static_cast<char*>(out) + t * stride);
        for (int64_t h = 0; h < width; ++h) row[h] = in[t * width + h];
    }
}

template <class Element, class Sum>
void dot(const Block& block, int64_t t, const Element* query, Sum* sum) {
    const char* rows = static_cast<const char*>(block.rows) + t * block.stride;
    const Element* row = reinterpret_cast<const Element*>(rows);
    for (int64_t h = 0; h < block.steps; ++h)
        for (int64_t l = 0; l < LANES; ++l) sum[l] += Sum(row[h]) * Sum(query[h * block.lanes + l]);
}

// Similarities of row t with the lanes from `first`.
void floats(const Block& block, int64_t t, int64_t first, float* out) {
    for (int64_t l = 0; l < LANES; ++l) out[l] = 0;
    dot<float>(block, t, static_cast<const float*>(block.query) + first, out);
}

void codes(const Block& block, int64_t t, int64_t first, float* out) {
    int32_t sum[LANES];
    for (int64_t l = 0; l < LANES; ++l) sum[l] = block.start[first + l];
    dot<int16_t>(block, t, static_cast<const int16_t*>(block.query) + first, sum);
    for (int64_t l = 0; l < LANES; ++l) out[l] = float(sum[l]) * block.scales[t];
}

template <void (*SIMS)(const Block&, int64_t, int64_t, float*)>
void best(const Block& block) {
    for (int64_t t = 0; t < block.count; ++t)
        for (int64_t first = 0; first < block.lanes; first += LANES) {
            float sims[LANES];
            SIMS(block, t, first, sims);
            float* out = block.out + first;
            for (int64_t l = 0; l < LANES; ++l) out[l] = sims[l] > out[l] ? sims[l] : out[l];
        }
}

void sims_floats(const Block& block) {
    for (int64_t t = 0; t < block.count; ++t)
        for (int64_t first = 0; first < block.lanes; first += LANES)
            floats(block, t, first, block.out + t * block.lanes + first);
}

void sims_codes(const Block& block) {
    for (int64_t t = 0; t < block.count; ++t)
        for (int64_t first = 0; first < block.lanes; first += LANES) {
            float* out = block.out + t * block.lanes + first;
            codes(block, t, first, out);
            for (int64_t l = 0; l < LANES; ++l) out[l] *= block.lane_scales[first + l];
        }
}

int64_t above(const float* sims, int64_t count, int64_t lanes, const float* least,
              int32_t* places) {
    int64_t found = 0;
    for (int64_t t = 0; t < count; ++t)
        for (int64_t l = 0; l < lanes; ++l)
            if (sims[t * lanes + l] > least[l]) places[found++] = int32_t(t * MOST_LANES + l);
    return found;
}

void argbest(const float* sums, int64_t count, int64_t lanes, const int32_t* norms, int32_t first,
             int32_t* best, int32_t* place) {
    for (int64_t t = 0; t < count; ++t)
        for (int64_t l = 0; l < lanes; ++l) {
            const int32_t mine = int32_t(sums[t * lanes + l]) - norms[t];
            place[l] = mine > best[l] ? first + int32_t(t) : place[l];
            best[l] = mine > best[l] ? mine : best[l];
        }
}

template <class T>
double spin(int64_t rounds) {
    constexpr int64_t SUMS = 32;  // independent, to hide the latency of an addition
    T sum[SUMS] = {}, x[SUMS] = {1}, y[SUMS] = {1};
    for (int64_t i = 0; i < rounds; ++i) {
        __asm__ volatile("" : : "r"(x), "r"(y) : "memory");  // they may have changed
        for (int64_t c = 0; c < SUMS; ++c) sum[c] += x[c] * y[c];
    }
    __asm__ volatile("" : : "r"(sum) : "memory");
    return double(rounds * SUMS);
}

}  // namespace

const Isa scalar = {
    "scalar",     LANES,          4 * LANES,   2,           1,     0,           widen_halves,
    widen_codes,  best<floats>,   best<codes>, sims_floats, sims_codes, above,
    to_bytes,     max_bytes,      read_lanes,  predict_lattice_row, dots_16, argbest,
    spin<float>,  spin<int32_t>,
};

}  // namespace tokret
