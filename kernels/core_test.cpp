// Each instruction set against the scalar one, without Python; for machines that are emulated.
//
//     core_test SET...    fails where this machine lacks one of the sets, or one is wrong
//     core_test --sets    names those that it has

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>

#include "cells.h"
#include "core.h"
#include "lattice.h"

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

    const std::uint8_t alive[9] = {1, 0, 1, 1, 1, 1, 1, 0, 2};
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

// Tables, and passages near their cells, of a segment of lattice codes.
struct Lattice {
    static constexpr std::int64_t CELLS = 300, PASSAGES = 9;
    static constexpr std::int64_t COUNTS[PASSAGES] = {0, 1, 2, 33, 5, 0, 70, 3, 12};

    std::mt19937 random;
    std::int64_t width;
    std::vector<std::int8_t> centroids, rows;
    std::vector<std::int16_t> fine, along;
    std::vector<std::int32_t> shifts, weights, penalties;
    std::vector<std::uint16_t> cells, slots, postings;
    std::vector<std::uint8_t> shares, bytes;
    std::vector<std::int64_t> tokens{0}, cell_ends{0}, code_ends{0}, posting_ends{0};

    Lattice(std::int64_t h, unsigned seed) : random(seed), width(h) {
        for (std::int64_t i = 0; i < CELLS * h; ++i)
            centroids.push_back(static_cast<std::int8_t>(random() % 255 - 127));
        for (std::int64_t b = 0; b < h / UNIT; ++b) {
            shifts.push_back(int(random() % 9) - 4);
            weights.push_back(int(random() % 1000) + 1);
        }
        const int heads[] = {CLASSES, FORM_SYMBOLS, 3};
        for (int c = 0; c < TABLES; ++c) {
            shares.resize(shares.size() + SYMBOLS);
            std::uint8_t* const mine = shares.data() + c * SYMBOLS;
            if (c < CONTEXTS) mine[ESCAPE] = 1;
            for (int i = c < CONTEXTS; i < STATES; ++i)
                ++mine[c < CONTEXTS ? 21 + int(random() % 20) : i % heads[c - CONTEXTS]];
        }
        for (int i = 0; i < TABLES * SYMBOLS; ++i) penalties.push_back(int(random() % 2000));
        const Encoder encoder(coding());
        std::vector<std::vector<std::uint16_t>> lists(CELLS);
        for (std::int64_t n = 0; n < PASSAGES; ++n) {
            const std::int64_t many = n == 6 ? CELLS : std::min<std::int64_t>(COUNTS[n], 4);
            for (std::int64_t s = 0; s < many; ++s) {
                cells.push_back(static_cast<std::uint16_t>(n == 6 ? s : n * 30 + s * 3));
                lists[cells.back()].push_back(static_cast<std::uint16_t>(n));
            }
            for (std::int64_t t = 0; t < COUNTS[n]; ++t) {
                slots.push_back(static_cast<std::uint16_t>(random() % many));
                const auto cell = cells[static_cast<std::size_t>(cell_ends.back() + slots.back())];
                for (std::int64_t i = 0; i < h; ++i) {
                    const int near = FINE * centroids[static_cast<std::size_t>(cell * h + i)];
                    const int x = near + int(random() % 900) - 450 + (random() % 99 ? 0 : 9000);
                    fine.push_back(static_cast<std::int16_t>(std::max(-8128, std::min(8128, x))));
                    along.push_back(static_cast<std::int16_t>(int(random() % 900) - 450));
                }
            }
            tokens.push_back(tokens.back() + COUNTS[n]);
            cell_ends.push_back(static_cast<std::int64_t>(cells.size()));
            rows.resize(fine.size());
            encoder.encode(*find_isa("scalar"), passage(n), bytes, rows.data() + at(tokens, n) * h);
            code_ends.push_back(static_cast<std::int64_t>(bytes.size()));
        }
        for (const auto& list : lists) {
            postings.insert(postings.end(), list.begin(), list.end());
            posting_ends.push_back(static_cast<std::int64_t>(postings.size()));
        }
    }

    Coding coding() const {
        return {width,         shifts.data(),    weights.data(), shares.data(),
                penalties.data(), centroids.data(), CELLS};
    }
    const std::int8_t* rows_of(std::int64_t n) const { return rows.data() + at(tokens, n) * width; }
    Passage passage(std::int64_t n) const {
        const auto first = static_cast<std::size_t>(at(tokens, n) * width);
        return {fine.data() + first, along.data() + first, slots.data() + at(tokens, n), COUNTS[n],
                cells.data() + at(cell_ends, n), at(cell_ends, n + 1) - at(cell_ends, n)};
    }
    Code code(std::int64_t n, const std::vector<std::uint8_t>& from, std::int64_t first,
              std::int64_t last) const {
        return {from.data() + first, last - first, static_cast<std::int64_t>(from.size()) - first,
                cells.data() + at(cell_ends, n), at(cell_ends, n + 1) - at(cell_ends, n),
                COUNTS[n]};
    }
    Code code(std::int64_t n) const { return code(n, bytes, at(code_ends, n), at(code_ends, n + 1)); }
    Coded segment() const {
        return {{posting_ends.data(), CELLS, postings.data(), cell_ends.data(), cells.data(),
                 PASSAGES},
                bytes.data(), code_ends.data(), tokens.data(),
                static_cast<std::int64_t>(bytes.size())};
    }

  private:
    static std::int64_t at(const std::vector<std::int64_t>& ends, std::int64_t n) {
        return ends[static_cast<std::size_t>(n)];
    }
};
constexpr std::int64_t Lattice::COUNTS[];

bool reads_back(const Isa& isa, const Lattice& lattice) {
    const Decoder decoder(lattice.coding());
    const std::int64_t width = lattice.width;
    bool good = true;
    for (std::int64_t n = 0; n < Lattice::PASSAGES; ++n) {
        const std::int64_t m = Lattice::PASSAGES - 1 - n;
        const Code one = lattice.code(n), two = lattice.code(m);
        std::vector<std::int8_t> first(static_cast<std::size_t>(one.count * width)), second(first),
            third(static_cast<std::size_t>(two.count * width));
        const auto same = [&](const std::vector<std::int8_t>& got, std::int64_t which) {
            return std::equal(got.begin(), got.end(), lattice.rows_of(which));
        };
        good = good && decoder.decode(isa, one, first.data()) && same(first, n);
        good = good && decoder.decode(isa, one, second.data(), &two, third.data()) &&
               same(second, n) && same(third, m);
    }
    return good;
}

// Whatever the bytes, each set says the same of them, and touches nothing else.
bool survives(const Isa& isa, Lattice& lattice) {
    const Decoder decoder(lattice.coding());
    std::mt19937& random = lattice.random;
    for (int i = 0; i < 600; ++i) {
        const auto n = static_cast<std::int64_t>(random() % Lattice::PASSAGES);
        const Code whole = lattice.code(n);
        std::vector<std::uint8_t> wrong(whole.bytes, whole.bytes + whole.size);
        if (i % 4 == 0) wrong.resize(wrong.empty() ? 0 : random() % wrong.size());
        for (std::size_t at = 0; i % 4 == 1 && at < wrong.size(); ++at)
            wrong[at] = static_cast<std::uint8_t>(random());
        for (std::size_t at = wrong.size() / 2; i % 4 == 2 && at < wrong.size(); ++at)
            wrong[at] = static_cast<std::uint8_t>(i & 4 ? random() : 255);
        for (int flips = 0; i % 4 == 3 && flips < 3 && !wrong.empty(); ++flips)
            wrong[random() % wrong.size()] ^= static_cast<std::uint8_t>(1 << random() % 8);
        const auto size = static_cast<std::int64_t>(wrong.size());
        wrong.resize(wrong.size() + random() % 250);  // of a next passage
        wrong.shrink_to_fit();
        const Code code = lattice.code(n, wrong, 0, size), other = lattice.code(n);
        const std::size_t values = static_cast<std::size_t>(code.count * lattice.width);
        std::vector<std::int8_t> got(values), want(values), beside(values);
        const bool read = decoder.decode(*find_isa("scalar"), code, want.data());
        if (decoder.decode(isa, code, got.data(), i & 8 ? &other : nullptr, beside.data()) != read ||
            (read && got != want))
            return false;
    }
    return true;
}

bool right_stages(const Isa& isa, const Lattice& lattice, std::int64_t tokens, int threads) {
    constexpr std::int64_t COUNT = Lattice::PASSAGES;
    const Case c(tokens, lattice.width, unsigned(tokens));
    const Query query = c.asked(Dtype::int8);
    const std::vector<float> ones(Lattice::CELLS, 1.0f);
    const std::int64_t offsets[] = {0, Lattice::CELLS};
    const Docs cells{lattice.centroids.data(), ones.data(), offsets, 1, lattice.width, Dtype::int8};
    const std::int64_t stride = (std::max<std::int64_t>(tokens, 1) + 15) / 16 * 16;
    struct Answer {
        std::vector<std::int32_t> nearest, sums;
        std::vector<float> sims, best;
        std::int64_t done;
    };
    const auto ask = [&](const Isa& set, int parts) {
        constexpr std::int64_t KEEP = 7;
        Answer out;
        out.nearest.resize(static_cast<std::size_t>(tokens * KEEP));
        out.sims.resize(out.nearest.size());
        std::vector<std::uint8_t> table(static_cast<std::size_t>(Lattice::CELLS * stride));
        score_cells(set, query, cells, KEEP, 10.0f, stride, table.data(), out.nearest.data(),
                    out.sims.data());
        const Coded segment = lattice.segment();
        out.sums.resize(COUNT);
        interact(set, segment.cells, table.data(), tokens, stride, nullptr, COUNT,
                 out.sums.data());
        out.best.resize(static_cast<std::size_t>(COUNT * tokens));
        const Place places[COUNT] = {{0, 8}, {0, 1}, {0, 6}, {0, 3}, {0, 2}, {0, 4}, {0, 7}, {0, 1},
                                     {0, 6}};
        const float expected[COUNT] = {};
        const Decoder decoder(lattice.coding());
        out.done = refine(set, decoder, query, &segment, places, expected, COUNT, 2, 1e9f, parts,
                          out.best.data());
        return out;
    };
    const Answer want = ask(*find_isa("scalar"), 1), got = ask(isa, threads);
    return got.nearest == want.nearest && got.sims == want.sims && got.sums == want.sums &&
           got.best == want.best && got.done == COUNT;
}

bool right_codes(const Isa& isa, std::int64_t width) {
    Lattice lattice(width, unsigned(width));
    bool good = reads_back(isa, lattice) && survives(isa, lattice);
    for (std::int64_t tokens : {1, 23, 40, 70})
        good = good && right_stages(isa, lattice, tokens, int(1 + tokens % 3));
    return good;
}

}  // namespace

int main(int count, char** names) {
    if (count == 2 && !std::strcmp(names[1], "--sets")) {
        for (const Isa* isa : instruction_sets()) std::printf("%s\n", isa->name);
        return 0;
    }
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
        for (std::int64_t width : {32, 64, 128, 160, 256, 768}) {
            const bool good = right_codes(*isa, width);
            wrong += !good;
            ++checks;
            if (!good) std::printf("%s is wrong: codes of width %d\n", names[i], int(width));
        }
    }
    std::printf("%d of %d checks failed\n", wrong, checks);
    return wrong != 0;
}
