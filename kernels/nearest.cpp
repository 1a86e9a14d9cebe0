// The nearest centroids of int8 rows, exactly: n.c and the norms are whole numbers.
//
// The least |n - c|^2 is the greatest 2 n.c - |c|^2. Rows of tokens are the lanes of a group
// of registers, centroids are what passes by them, so centroids are laid out once.

#include <algorithm>
#include <cstring>
#include <limits>

#include "blocks.h"

namespace tokret {

namespace {

constexpr std::int64_t BLOCK_ROWS = 48;  // whole tiles of 6 and of 8; with 64 lanes 26 KB in all
constexpr std::int64_t FLAT = 1024;      // tokens that one pass over all centroids serves
constexpr std::int64_t SLAB = 32768;     // tokens sorted by group at a time: 4 MB of 128 codes
constexpr std::int32_t NONE = std::numeric_limits<std::int32_t>::min();
constexpr float TAKEN = -1073741824.0f;  // -2^30, below every 2 n.c - |c|^2

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

std::int64_t round_up(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; }

std::int32_t norm_of(const std::int8_t* row, std::int64_t width) {
    std::int32_t sum = 0;
    for (std::int64_t h = 0; h < width; ++h) sum += std::int32_t(row[h]) * row[h];
    return sum;
}

std::int32_t sum_of(const std::int8_t* row, std::int64_t width) {
    std::int32_t sum = 0;
    for (std::int64_t h = 0; h < width; ++h) sum += row[h];
    return sum;
}

// Centroids as the instruction set reads them.
class Laid {
  public:
    Laid(const Isa& isa, const std::int8_t* rows, std::int64_t count, std::int64_t width)
        : stride_(round_up(width * isa.code_bytes, Bytes::LINE)),
          bytes_(count * stride_),
          norms_(at(count)) {
        isa.widen_codes(rows, count, width, stride_, bytes_.data());
        for (std::int64_t c = 0; c < count; ++c) norms_[at(c)] = norm_of(rows + c * width, width);
    }
    std::int64_t stride() const { return stride_; }
    const char* row(std::int64_t c) const {
        return reinterpret_cast<const char*>(bytes_.data()) + c * stride_;
    }
    const std::int32_t* norms(std::int64_t c) const { return norms_.data() + c; }

  private:
    std::int64_t stride_;
    Bytes bytes_;
    std::vector<std::int32_t> norms_;
};

// Some tokens side by side, at most the lanes of a group, and what each has found so far.
class Lanes {
  public:
    Lanes(const Isa& isa, std::int64_t width)
        : isa_(isa),
          width_(width),
          steps_((width + isa.code_group - 1) / isa.code_group),
          word_(isa.code_group * isa.code_bytes),
          row_(steps_ * word_),
          bytes_(steps_ * word_ * isa.lane_limit),
          start_(at(isa.lane_limit)),
          ones_(at(isa.lane_limit), 1.0f),
          best(at(isa.lane_limit)),
          place(at(isa.lane_limit)) {}

    std::int64_t lanes() const { return lanes_; }
    std::int64_t steps() const { return steps_; }

    // Room for `count` tokens that have found nothing; lanes beyond them are never read.
    void open(std::int64_t count) {
        lanes_ = round_up(count, isa_.lane_step);
        std::fill(best.begin(), best.end(), NONE);
        std::fill(place.begin(), place.end(), 0);
    }

    void put(std::int64_t lane, const std::int8_t* codes, std::int32_t sum) {
        start_[at(lane)] = -static_cast<std::int32_t>(isa_.code_bias) * sum;
        const void* row = codes;
        if (isa_.code_bytes == 2) {
            auto* wide = reinterpret_cast<std::int16_t*>(row_.data());
            for (std::int64_t h = 0; h < width_; ++h) wide[h] = codes[h];
            row = wide;
        } else if (width_ % word_) {
            row = std::memcpy(row_.data(), codes, at(width_));
        }
        if (word_ == 4) spread<std::uint32_t>(lane, row);
        else spread<std::uint16_t>(lane, row);
    }

    // 2 n.c of these tokens and of some centroids -> sums [count][lanes]
    void products(const Laid& laid, std::int64_t first, std::int64_t count, const float* twos,
                  float* sums) const {
        Block block{};
        block.query = bytes_.data();
        block.start = start_.data();
        block.lanes = lanes_;
        block.steps = steps_;
        block.rows = laid.row(first);
        block.stride = laid.stride();
        block.count = count;
        block.ahead = laid.row(first + count);
        block.ahead_stride = laid.stride();
        block.ahead_step = word_;
        block.scales = twos;
        block.lane_scales = ones_.data();
        block.out = sums;
        isa_.sims_codes(block);
    }

  private:
    template <class Word>
    void spread(std::int64_t lane, const void* row) {
        auto* to = reinterpret_cast<Word*>(bytes_.data()) + lane;
        for (std::int64_t s = 0; s < steps_; ++s)
            std::memcpy(to + s * lanes_, static_cast<const Word*>(row) + s, sizeof(Word));
    }

    const Isa& isa_;
    std::int64_t width_, steps_, word_, lanes_ = 0;
    Bytes row_, bytes_;
    std::vector<std::int32_t> start_;
    std::vector<float> ones_;

  public:
    std::vector<std::int32_t> best, place;  // [lanes]
};

// One thread's part of the work.
class Search {
  public:
    Search(const Isa& isa, std::int64_t width, const Laid& centroids)
        : isa_(isa),
          width_(width),
          centroids_(centroids),
          twos_(at(BLOCK_ROWS), 2.0f),
          sums_(at(BLOCK_ROWS * isa.lane_limit)) {}

    void flat(const std::int8_t* rows, std::int64_t count, std::int64_t cells,
              std::int32_t* numbers, std::int32_t* distances) {
        std::vector<Lanes> batch;
        for (std::int64_t begin = 0; begin < count; begin += FLAT) {
            const std::int64_t end = std::min(begin + FLAT, count), limit = isa_.lane_limit;
            const std::int64_t used = (end - begin + limit - 1) / limit;
            while (static_cast<std::int64_t>(batch.size()) < used)
                batch.emplace_back(isa_, width_);
            for (std::int64_t t = begin; t < end; ++t) {
                Lanes& lanes = batch[at((t - begin) / limit)];
                const std::int64_t lane = (t - begin) % limit;
                if (lane == 0) lanes.open(std::min(limit, end - t));
                lanes.put(lane, rows + t * width_, sum_of(rows + t * width_, width_));
            }
            for (std::int64_t c = 0; c < cells; c += BLOCK_ROWS)
                for (std::int64_t i = 0; i < used; ++i)
                    look(batch[at(i)], c, std::min(c + BLOCK_ROWS, cells));
            for (std::int64_t t = begin; t < end; ++t) {
                const Lanes& lanes = batch[at((t - begin) / limit)];
                const auto lane = at((t - begin) % limit);
                numbers[t] = lanes.place[lane];
                distances[t] = norm_of(rows + t * width_, width_) - lanes.best[lane];
            }
        }
    }

    // `open`: the groups that have centroids, whose centres are laid out in `centres`.
    void grouped(const std::int8_t* rows, std::int64_t count, const Cells& cells,
                 const Laid& centres, const std::vector<std::int64_t>& open, std::int64_t probes,
                 std::int32_t* numbers, std::int32_t* distances) {
        const auto groups = static_cast<std::int64_t>(open.size());
        Lanes lanes(isa_, width_);
        std::vector<float> near(at(groups * isa_.lane_limit)), twos(at(groups), 2.0f);
        std::vector<std::int32_t> probed(at(std::min(SLAB, count) * probes));
        std::vector<std::int32_t> tokens(probed.size()), sums(at(std::min(SLAB, count)));
        std::vector<std::int64_t> ends(at(groups + 1));
        for (std::int64_t begin = 0; begin < count; begin += SLAB) {
            const std::int64_t some = std::min(SLAB, count - begin);
            const std::int8_t* slab = rows + begin * width_;
            std::int32_t* number = numbers + begin;
            std::int32_t* best = distances + begin;  // until all groups are done
            std::fill(ends.begin(), ends.end(), 0);
            for (std::int64_t first = 0; first < some; first += isa_.lane_limit) {
                const std::int64_t here = std::min(isa_.lane_limit, some - first);
                lanes.open(here);
                for (std::int64_t l = 0; l < here; ++l) {
                    const std::int8_t* row = slab + (first + l) * width_;
                    sums[at(first + l)] = sum_of(row, width_);
                    lanes.put(l, row, sums[at(first + l)]);
                }
                lanes.products(centres, 0, groups, twos.data(), near.data());
                for (std::int64_t p = 0; p < probes; ++p) {
                    std::fill(lanes.best.begin(), lanes.best.end(), NONE);
                    isa_.argbest(near.data(), groups, lanes.lanes(), centres.norms(0), 0,
                                 lanes.best.data(), lanes.place.data());
                    for (std::int64_t l = 0; l < here; ++l) {
                        const std::int32_t g = lanes.place[at(l)];
                        near[at(g * lanes.lanes() + l)] = TAKEN;
                        probed[at((first + l) * probes + p)] = g;
                        ++ends[at(g)];
                    }
                }
            }
            std::int64_t sum = 0;
            for (std::int64_t& end : ends) {  // where the tokens of a group begin, for now
                const std::int64_t have = end;
                end = sum;
                sum += have;
            }
            for (std::int64_t t = 0; t < some; ++t) {
                for (std::int64_t p = 0; p < probes; ++p)
                    tokens[at(ends[at(probed[at(t * probes + p)])]++)] =
                        static_cast<std::int32_t>(t);
                number[t] = 0;
                best[t] = NONE;
            }
            // Groups rise, so of equals the lower number is met first.
            for (std::int64_t g = 0; g < groups; ++g) {
                const std::int64_t from = cells.offsets[open[at(g)]];
                const std::int64_t to = cells.offsets[open[at(g)] + 1];
                const std::int64_t end = ends[at(g)];
                for (std::int64_t i = g ? ends[at(g - 1)] : 0; i < end; i += isa_.lane_limit) {
                    const std::int64_t here = std::min(isa_.lane_limit, end - i);
                    const std::int32_t* who = tokens.data() + i;
                    lanes.open(here);
                    for (std::int64_t l = 0; l < here; ++l) {
                        if (i + l + AHEAD < end) ask(slab + who[l + AHEAD] * width_);
                        lanes.put(l, slab + who[l] * width_, sums[at(who[l])]);
                        lanes.best[at(l)] = best[who[l]];
                        lanes.place[at(l)] = number[who[l]];
                    }
                    for (std::int64_t c = from; c < to; c += BLOCK_ROWS)
                        look(lanes, c, std::min(c + BLOCK_ROWS, to));
                    for (std::int64_t l = 0; l < here; ++l) {
                        best[who[l]] = lanes.best[at(l)];
                        number[who[l]] = lanes.place[at(l)];
                    }
                }
            }
            for (std::int64_t t = 0; t < some; ++t)
                best[t] = norm_of(slab + t * width_, width_) - best[t];
        }
    }

  private:
    static constexpr std::int64_t AHEAD = 8;  // tokens

    void ask(const std::int8_t* row) const {
        for (std::int64_t h = 0; h < width_; h += Bytes::LINE) __builtin_prefetch(row + h);
    }

    void look(Lanes& lanes, std::int64_t first, std::int64_t last) {
        lanes.products(centroids_, first, last - first, twos_.data(), sums_.data());
        isa_.argbest(sums_.data(), last - first, lanes.lanes(), centroids_.norms(first),
                     static_cast<std::int32_t>(first), lanes.best.data(), lanes.place.data());
    }

    const Isa& isa_;
    std::int64_t width_;
    const Laid& centroids_;
    std::vector<float> twos_, sums_;
};

}  // namespace

void nearest(const Isa& isa, const std::int8_t* rows, std::int64_t count, std::int64_t width,
             const Cells& cells, std::int64_t probes, int threads, std::int32_t* numbers,
             std::int32_t* distances) {
    const Laid centroids(isa, cells.centroids, cells.count, width);
    std::vector<std::int64_t> open;
    std::vector<std::int8_t> kept;
    for (std::int64_t g = 0; g < cells.groups; ++g) {
        if (cells.offsets[g + 1] == cells.offsets[g]) continue;
        open.push_back(g);
        kept.insert(kept.end(), cells.centres + g * width, cells.centres + (g + 1) * width);
    }
    const auto groups = static_cast<std::int64_t>(open.size());
    const Laid centres(isa, kept.data(), groups, width);
    probes = std::min(probes, groups);
    const bool all = probes == groups;  // and where there are no groups
    const double looked =
        all ? double(cells.count) : double(cells.count) / double(groups) * double(probes);
    const int parts =
        useful_threads(threads, double(count) * double(width) * (looked + double(groups)));
    in_threads(parts, [&](int i) {
        const std::int64_t begin = count * i / parts, end = count * (i + 1) / parts;
        const std::int8_t* from = rows + begin * width;
        Search search(isa, width, centroids);
        if (all)
            search.flat(from, end - begin, cells.count, numbers + begin, distances + begin);
        else
            search.grouped(from, end - begin, cells, centres, open, probes, numbers + begin,
                           distances + begin);
    });
}

void cell_sums(const std::int8_t* rows, std::int64_t count, std::int64_t width,
               const std::int32_t* numbers, std::int64_t cells, int threads, std::int32_t* sums) {
    const int parts = useful_threads(threads, double(count) * double(width));
    in_threads(parts, [&](int i) {  // each its own cells, so that no two write to one sum
        const std::int64_t first = cells * i / parts, last = cells * (i + 1) / parts;
        std::fill(sums + first * width, sums + last * width, 0);
        for (std::int64_t t = 0; t < count; ++t) {
            if (numbers[t] < first || numbers[t] >= last) continue;
            const std::int8_t* row = rows + t * width;
            std::int32_t* sum = sums + numbers[t] * width;
            for (std::int64_t h = 0; h < width; ++h) sum[h] += row[h];
        }
    });
}

}  // namespace tokret
