#include "cells.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>

#include "blocks.h"

namespace tokret {

namespace {

struct Near {
    float sim;
    std::int32_t cell;
    bool operator<(const Near& other) const {  // nearer, then earlier
        return sim != other.sim ? sim > other.sim : cell < other.cell;
    }
};

// The nearest cells for one query token so far, and some that may still fall out.
struct Nearest {
    std::vector<Near> found;
    float least = -std::numeric_limits<float>::infinity();

    void offer(float sim, std::int32_t cell, std::size_t keep) {
        found.push_back({sim, cell});
        if (found.size() >= 2 * keep + 64) cut(keep);
    }
    void cut(std::size_t keep) {
        if (found.size() <= keep) return;
        std::nth_element(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(keep) - 1,
                         found.end());
        found.resize(keep);
        least = found.back().sim;  // a later cell as near loses: it is not above
    }
};

}  // namespace

void score_cells(const Isa& isa, const Query& query, const Docs& centroids, std::int64_t keep,
                 float unit, std::int64_t stride, std::uint8_t* table, std::int32_t* nearest,
                 float* sims) {
    const Packed packed(isa, query, centroids);
    Rows rows(isa, packed, centroids);
    const std::int64_t total = centroids.offsets[1];
    const std::size_t most = static_cast<std::size_t>(keep);
    std::vector<float> block_sims(static_cast<std::size_t>(rows.limit() * MOST_LANES));
    std::vector<std::int32_t> places(block_sims.size());
    std::vector<float> least(MOST_LANES);
    std::vector<Nearest> best(static_cast<std::size_t>(query.tokens));
    for (std::int64_t first = 0; first < total; first += rows.limit()) {
        const std::int64_t count = std::min(rows.limit(), total - first);
        Block block = rows.block(first, count);
        block.out = block_sims.data();
        for (const Packed::Group& group : packed.groups()) {
            block.query = packed.query(group);
            block.start = packed.start(group);
            block.lane_scales = packed.scales(group);
            block.lanes = group.lanes;
            isa.sims_codes(block);
            const std::int64_t real = std::min(group.lanes, query.tokens - group.first);
            isa.to_bytes(block_sims.data(), count, group.lanes, std::min(group.lanes, stride - group.first),
                         unit, table + first * stride + group.first, stride);
            for (std::int64_t l = 0; l < group.lanes; ++l)
                least[static_cast<std::size_t>(l)] =
                    l < real ? best[static_cast<std::size_t>(group.first + l)].least
                             : std::numeric_limits<float>::infinity();
            const std::int64_t found =
                isa.above(block_sims.data(), count, group.lanes, least.data(), places.data());
            for (std::int64_t i = 0; i < found; ++i) {
                const auto place = static_cast<std::uint32_t>(places[static_cast<std::size_t>(i)]);
                const std::int64_t t = place / MOST_LANES, l = place % MOST_LANES;
                Nearest& mine = best[static_cast<std::size_t>(group.first + l)];
                const float sim = block_sims[static_cast<std::size_t>(t * group.lanes + l)];
                if (sim > mine.least) mine.offer(sim, static_cast<std::int32_t>(first + t), most);
            }
        }
    }
    for (std::int64_t q = 0; q < query.tokens; ++q) {
        Nearest& mine = best[static_cast<std::size_t>(q)];
        mine.cut(most);
        std::sort(mine.found.begin(), mine.found.end());
        mine.found.resize(most, {-std::numeric_limits<float>::infinity(),
                                 static_cast<std::int32_t>(total)});
        for (std::int64_t k = 0; k < keep; ++k) {
            nearest[q * keep + k] = mine.found[static_cast<std::size_t>(k)].cell;
            sims[q * keep + k] = mine.found[static_cast<std::size_t>(k)].sim;
        }
    }
}

constexpr float MOST_GAIN = 1e30f;  // of one cell: sums of it are numbers, which have an order

Found probe(const Postings& cells, const std::int32_t* nearest, const float* sims,
            const float* missing, std::int64_t tokens, std::int64_t keep,
            const std::uint8_t* allowed, std::int64_t most) {
    const std::size_t passages = static_cast<std::size_t>(cells.passages);
    std::vector<float> gain(passages, 0);
    std::vector<std::uint16_t> seen(passages, 0);  // the last query token, from 1 on
    std::vector<std::int32_t> touched;
    for (std::int64_t q = 0; q < tokens; ++q) {
        const std::uint16_t mark = static_cast<std::uint16_t>(q % 65535 + 1);
        if (q && q % 65535 == 0) std::fill(seen.begin(), seen.end(), std::uint16_t(0));
        for (std::int64_t k = 0; k < keep; ++k) {  // nearest first: the first hit is the best
            const float more = sims[q * keep + k] - missing[q];
            const std::int64_t cell = nearest[q * keep + k];
            if (cell < 0 || cell >= cells.known) continue;
            if (!(std::abs(more) <= MOST_GAIN)) continue;
            const std::uint16_t* at = cells.postings + cells.posting_offsets[cell];
            const std::uint16_t* end = cells.postings + cells.posting_offsets[cell + 1];
            for (; at < end; ++at) {
                if (*at >= passages || seen[*at] == mark) continue;
                if (seen[*at] == 0) touched.push_back(*at);
                seen[*at] = mark;
                gain[*at] += more;
            }
        }
    }
    if (allowed)
        touched.erase(std::remove_if(touched.begin(), touched.end(),
                                     [&](std::int32_t n) { return !allowed[n]; }),
                      touched.end());
    const auto better = [&](std::int32_t a, std::int32_t b) {
        const float x = gain[static_cast<std::size_t>(a)], y = gain[static_cast<std::size_t>(b)];
        return x != y ? x > y : a < b;
    };
    if (touched.size() > static_cast<std::size_t>(most)) {
        std::nth_element(touched.begin(), touched.begin() + most, touched.end(), better);
        touched.resize(static_cast<std::size_t>(most));
    }
    std::sort(touched.begin(), touched.end());
    Found out;
    for (std::int32_t n : touched) {
        out.passages.push_back(n);
        out.gains.push_back(gain[static_cast<std::size_t>(n)]);
    }
    return out;
}

void interact(const Isa& isa, const Postings& cells, const std::uint8_t* table, std::int64_t tokens,
              std::int64_t stride, const std::int64_t* passages, std::int64_t count,
              std::int32_t* sums) {
    std::vector<std::uint8_t> best(static_cast<std::size_t>(stride));
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t n = passages ? passages[i] : i;
        std::fill(best.begin(), best.end(), std::uint8_t(0));
        isa.max_bytes(table, stride, cells.cells + cells.cell_offsets[n],
                      cells.cell_offsets[n + 1] - cells.cell_offsets[n], best.data());
        std::int32_t sum = 0;
        for (std::int64_t q = 0; q < tokens; ++q) sum += best[static_cast<std::size_t>(q)];
        sums[i] = sum;
    }
}

namespace {

constexpr std::int64_t CHUNK = 8;  // passages between two looks at what is expected

// Reads passages, two at a time, and compares them with the query; one a thread.
class Reader {
  public:
    Reader(const Isa& isa, const Decoder& decoder, const Query& query, const Packed& packed)
        : isa_(isa), decoder_(decoder), query_(query), packed_(packed),
          best_(static_cast<std::size_t>(packed.lanes())) {}

    bool score(const Coded* segments, const Place& one, float* sims, const Place* two,
               float* more_sims) {
        const Code first = segments[one.segment].code(one.passage);
        const Code second = two ? segments[two->segment].code(two->passage) : Code{};
        if (!make_room(first, 0) || !make_room(second, 1)) return false;
        if (!decoder_.decode(isa_, first, rows_[0].data(), two ? &second : nullptr,
                             rows_[1].data()))
            return false;
        compare(first.count, rows_[0].data(), sims);
        if (two) compare(second.count, rows_[1].data(), more_sims);
        return true;
    }

  private:
    // Memory for the rows of a passage. False where its bytes cannot say so many.
    bool make_room(const Code& code, int which) {
        if (!code.has_room()) return false;
        const std::size_t count = static_cast<std::size_t>(code.count);
        const std::size_t values = count * static_cast<std::size_t>(decoder_.coding().width);
        if (rows_[which].size() < values) rows_[which].resize(values);
        if (ones_.size() < count) ones_.resize(count, 1.0f);
        return true;
    }

    void compare(std::int64_t count, const std::int8_t* coded, float* sims) {
        constexpr float none = -std::numeric_limits<float>::infinity();
        const std::int64_t offsets[] = {0, count};
        const Docs docs{coded, ones_.data(), offsets, 1, decoder_.coding().width, Dtype::int8};
        Rows rows(isa_, packed_, docs);
        std::fill(best_.begin(), best_.end(), none);
        for (std::int64_t at = 0; at < count; at += rows.limit()) {
            Block block = rows.block(at, std::min(rows.limit(), count - at));
            for (const Packed::Group& group : packed_.groups()) {
                block.query = packed_.query(group);
                block.start = packed_.start(group);
                block.lanes = group.lanes;
                block.out = best_.data() + group.first;
                isa_.best_codes(block);
            }
        }
        for (std::int64_t q = 0; q < query_.tokens; ++q)
            sims[q] = best_[static_cast<std::size_t>(q)] * query_.scales[q];
    }

    const Isa& isa_;
    const Decoder& decoder_;
    const Query& query_;
    const Packed& packed_;
    std::vector<std::int8_t> rows_[2];
    std::vector<float> ones_, best_;
};

}  // namespace

std::int64_t refine(const Isa& isa, const Decoder& decoder, const Query& query,
                    const Coded* segments, const Place* places, const float* expected,
                    std::int64_t count, std::int64_t keep, float margin, int threads,
                    float* sims) {
    const std::int64_t none[] = {0, 0};
    const Docs shape{nullptr, nullptr, none, 1, decoder.coding().width, Dtype::int8};
    const Packed packed(isa, query, shape);
    threads = static_cast<int>(std::min<std::int64_t>(threads, CHUNK / 2));
    std::vector<Reader> readers(static_cast<std::size_t>(threads),
                                Reader(isa, decoder, query, packed));
    std::vector<double> best;  // of those done, the `keep` best, least first
    std::atomic<bool> whole{true};
    for (std::int64_t first = 0; first < count; first += CHUNK) {
        const std::int64_t last = std::min(first + CHUNK, count);
        if (static_cast<std::int64_t>(best.size()) == keep &&
            double(expected[first]) + margin < best.front())
            return first;
        const std::int64_t pairs = (last - first + 1) / 2;
        in_threads(static_cast<int>(std::min<std::int64_t>(threads, pairs)), [&](int i) {
            for (std::int64_t c = first + 2 * i; c < last; c += 2 * threads) {
                const bool both = c + 1 < last;
                if (!readers[static_cast<std::size_t>(i)].score(
                        segments, places[c], sims + c * query.tokens, both ? places + c + 1 : nullptr,
                        both ? sims + (c + 1) * query.tokens : nullptr))
                    whole = false;
            }
        });
        if (!whole) return -1;
        for (std::int64_t c = first; c < last; ++c) {
            double sum = 0;
            for (std::int64_t q = 0; q < query.tokens; ++q) sum += sims[c * query.tokens + q];
            best.push_back(sum);
            std::push_heap(best.begin(), best.end(), std::greater<double>());
            if (static_cast<std::int64_t>(best.size()) > keep) {
                std::pop_heap(best.begin(), best.end(), std::greater<double>());
                best.pop_back();
            }
        }
    }
    return count;
}

}  // namespace tokret
