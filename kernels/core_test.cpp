// Each instruction set against the scalar one, without Python; for machines that are emulated.
//
//     core_test SET...    fails where this machine lacks one of the sets, or one is wrong

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>

#include "core.h"

using namespace tokret;

namespace {

constexpr double NEAR = 2e-6;  // float32 sums of 300 products of unit vectors

std::uint16_t half_of(float x) {  // for |x| < 1; what is too small becomes 0
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    const std::uint32_t sign = bits >> 16 & 0x8000, exponent = bits >> 23 & 255;
    return static_cast<std::uint16_t>(
        exponent < 113 ? sign : sign | (exponent - 112) << 10 | (bits >> 13 & 0x3ff));
}

struct Case {
    std::vector<float> query, rows, query_scales, scales;
    std::vector<std::int8_t> query_codes, codes;
    std::vector<std::uint16_t> halves;
    std::vector<std::int64_t> offsets{0};
    std::int64_t tokens, width;

    Case(std::int64_t q, std::int64_t h, unsigned seed) : tokens(q), width(h) {
        std::mt19937 random(seed);
        for (int n = 0; n < 9; ++n) offsets.push_back(offsets.back() + random() % 60);
        const auto fill = [&](std::int64_t count, std::vector<float>& floats,
                              std::vector<std::int8_t>& bytes, std::vector<float>& steps) {
            for (std::int64_t i = 0; i < count * h; ++i) {
                bytes.push_back(static_cast<std::int8_t>(random() % 255 - 127));
                floats.push_back(float(random() % 2001 - 1000.0) / 1000 / std::sqrt(float(h)));
            }
            for (std::int64_t i = 0; i < count; ++i) steps.push_back(float(random() % 100) / 1e5f);
        };
        fill(q, query, query_codes, query_scales);
        fill(offsets.back(), rows, codes, scales);
        for (std::size_t i = 0; i < codes.size(); i += 5) codes[i] = -128;
        for (float x : rows) halves.push_back(half_of(x));
    }

    Docs docs(Dtype dtype) const {
        const void* vectors = dtype == Dtype::fp32   ? static_cast<const void*>(rows.data())
                              : dtype == Dtype::fp16 ? static_cast<const void*>(halves.data())
                                                     : codes.data();
        return {vectors, dtype == Dtype::int8 ? scales.data() : nullptr, offsets.data(), 9, width,
                dtype};
    }

    Query asked(Dtype dtype) const {
        if (dtype == Dtype::int8) return {query_codes.data(), query_scales.data(), tokens};
        return {query.data(), nullptr, tokens};
    }
};

bool agree(const std::vector<float>& got, const std::vector<float>& want, Dtype dtype,
           double near) {
    if (dtype == Dtype::int8) {
        return got.empty() || !std::memcmp(got.data(), want.data(), got.size() * sizeof(float));
    }
    for (std::size_t i = 0; i < got.size(); ++i)
        if (got[i] != want[i] && !(std::fabs(double(got[i]) - want[i]) <= near)) return false;
    return true;
}

// The passages' tokens as centroids, of which each passage is a group, for the query's tokens.
bool right_cells(const Isa& isa, const Case& c, int threads) {
    const std::int64_t count = c.offsets.back();
    const auto size = static_cast<std::size_t>(c.tokens);
    bool good = true;
    for (std::int64_t groups : {0, 9}) {
        const Cells cells{c.codes.data(), count, groups ? c.offsets.data() : nullptr,
                          c.codes.data() + 3 * c.width, groups};
        std::vector<std::int32_t> want(size), got(size), apart(size), same(size);
        nearest(*find_isa("scalar"), c.query_codes.data(), c.tokens, c.width, cells, 3, 1,
                want.data(), apart.data());
        nearest(isa, c.query_codes.data(), c.tokens, c.width, cells, 3, threads, got.data(),
                same.data());
        good = good && got == want && same == apart;
    }
    return good;
}

bool right(const Isa& isa, const Case& c, Dtype dtype, int threads) {
    const Docs docs = c.docs(dtype);
    const Query query = c.asked(dtype);
    std::vector<float> want(9), got(9);
    maxsim(*find_isa("scalar"), query, docs, 1, want.data());
    maxsim(isa, query, docs, threads, got.data());
    bool good = agree(got, want, dtype, NEAR * double(c.tokens + 1));

    const bool alive[9] = {true, false, true, true, true, true, true, false, true};
    for (std::int64_t k : {1, 7, 1000}) {
        const std::int64_t keep = std::min(k, live_tokens(docs, alive));
        const std::size_t size = static_cast<std::size_t>(keep * c.tokens);
        std::vector<std::int64_t> tokens(size), other(size);
        std::vector<float> sims(size), same(size);
        token_topk(*find_isa("scalar"), query, docs, alive, keep, 1, tokens.data(), sims.data());
        token_topk(isa, query, docs, alive, keep, threads, other.data(), same.data());
        good = good && agree(same, sims, dtype, NEAR) && (dtype != Dtype::int8 || tokens == other);
    }
    return good && right_cells(isa, c, threads);
}

}  // namespace

int main(int count, char** names) {
    int wrong = 0, checks = 0;
    for (int i = 1; i < count; ++i) {
        const Isa* isa = find_isa(names[i]);
        if (!isa) {
            std::printf("%s: not on this machine\n", names[i]);
            return 2;
        }
        for (std::int64_t width : {1, 7, 64, 96, 128, 300})
            for (std::int64_t tokens : {0, 1, 8, 23, 33, 129})
                for (Dtype dtype : {Dtype::fp32, Dtype::fp16, Dtype::int8})
                    for (int threads : {1, 3}) {
                        const Case c(tokens, width, unsigned(width * 1000 + tokens));
                        const bool good = right(*isa, c, dtype, threads);
                        wrong += !good;
                        ++checks;
                        if (!good)
                            std::printf("%s is wrong: width %d, %d query tokens, dtype %d\n",
                                        names[i], int(width), int(tokens), int(dtype));
                    }
    }
    std::printf("%d of %d checks failed\n", wrong, checks);
    return wrong != 0;
}
