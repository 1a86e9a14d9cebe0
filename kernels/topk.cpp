#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>

#include "blocks.h"

namespace tokret {

namespace {

// Floats in order, as integers: both zeros are one, and NaN comes before everything.
std::uint32_t rank_of(float sim) {
    if (sim != sim) return 0;
    sim += 0.0f;  // -0 becomes 0
    std::uint32_t bits;
    std::memcpy(&bits, &sim, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

float sim_of(std::uint32_t rank) {
    if (rank == 0) return std::numeric_limits<float>::quiet_NaN();
    const std::uint32_t bits = rank & 0x80000000u ? rank & 0x7fffffffu : ~rank;
    float sim;
    std::memcpy(&sim, &bits, sizeof sim);
    return sim;
}

// A retrieved token as one number: the more similar is greater, then the earlier.
struct Narrow {
    using Key = std::uint64_t;
    static Key key(float sim, std::int64_t token) {
        return std::uint64_t(rank_of(sim)) << 32 | ~static_cast<std::uint32_t>(token);
    }
    static float sim(Key key) { return sim_of(static_cast<std::uint32_t>(key >> 32)); }
    static std::int64_t token(Key key) { return ~static_cast<std::uint32_t>(key); }
};

// The same for more than 2^32 tokens.
struct Wide {
    struct Key {
        std::uint32_t rank;
        std::int64_t token;
        bool operator>(const Key& other) const {
            return rank != other.rank ? rank > other.rank : token < other.token;
        }
    };
    static Key key(float sim, std::int64_t token) { return {rank_of(sim), token}; }
    static float sim(const Key& key) { return sim_of(key.rank); }
    static std::int64_t token(const Key& key) { return key.token; }
};

constexpr std::int64_t WIDE = std::int64_t(1) << 32;

struct Run {
    std::int64_t first, last;
};

std::vector<Run> live_runs(const Docs& docs, const std::uint8_t* alive) {
    std::vector<Run> runs;
    for (std::int64_t n = 0; n < docs.passages; ++n) {
        if (alive && !alive[n]) continue;
        if (!runs.empty() && runs.back().last == docs.offsets[n]) {
            runs.back().last = docs.offsets[n + 1];
        } else if (docs.offsets[n + 1] > docs.offsets[n]) {
            runs.push_back({docs.offsets[n], docs.offsets[n + 1]});
        }
    }
    return runs;
}

// The runs' tokens from the `begin`-th to the `end`-th.
std::vector<Run> slice(const std::vector<Run>& runs, std::int64_t begin, std::int64_t end) {
    std::vector<Run> out;
    std::int64_t seen = 0;
    for (const Run& run : runs) {
        const std::int64_t first = run.first + std::max<std::int64_t>(begin - seen, 0);
        const std::int64_t last = std::min(run.last, run.first + end - seen);
        if (first < last) out.push_back({first, last});
        seen += run.last - run.first;
    }
    return out;
}

// The best `keep` tokens for one query token so far, and some that may still fall out.
template <class Form>
class Best {
  public:
    using Key = typename Form::Key;

    void reserve(std::int64_t keep, std::int64_t tokens) {
        keep_ = static_cast<std::size_t>(keep);
        room_ = static_cast<std::size_t>(std::min(2 * std::max(keep, LEAST_ROOM), tokens));
        keys_.reserve(room_);
    }

    // True where every token must be offered; else only those above `least`.
    bool open() const { return !cut_; }
    float least() const { return least_; }

    void offer(float sim, std::int64_t token) {
        if (keys_.size() == room_) cut();
        if (cut_ && !(sim > least_)) return;  // a tie loses: it comes later
        keys_.push_back(Form::key(sim, token));
    }

    void append(const Best& other) {
        keys_.insert(keys_.end(), other.keys_.begin(), other.keys_.end());
    }

    const std::vector<Key>& finish() {
        if (keys_.size() > keep_) cut();
        std::sort(keys_.begin(), keys_.end(), std::greater<Key>());
        return keys_;
    }

  private:
    static constexpr std::int64_t LEAST_ROOM = 256;  // a cut costs a pass: make it rare

    void cut() {
        if (keys_.size() <= keep_) return;
        const auto last = keys_.begin() + static_cast<std::ptrdiff_t>(keep_) - 1;
        std::nth_element(keys_.begin(), last, keys_.end(), std::greater<Key>());
        keys_.resize(keep_);
        least_ = Form::sim(keys_.back());
        cut_ = least_ == least_;  // while NaN is among them, all others are better
    }

    std::vector<Key> keys_;
    std::size_t keep_ = 0, room_ = 0;
    float least_ = 0;
    bool cut_ = false;
};

template <class Form>
void search(const Isa& isa, const Packed& packed, const Query& query, const Docs& docs,
            const std::vector<Run>& runs, Best<Form>* best) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const bool codes = docs.dtype == Dtype::int8;
    Rows rows(isa, packed, docs);
    std::int64_t most = 0;
    for (const Packed::Group& group : packed.groups()) most = std::max(most, group.lanes);
    std::vector<float> sims(static_cast<std::size_t>(rows.limit() * most));
    std::vector<std::int32_t> places(sims.size());
    std::vector<float> least(static_cast<std::size_t>(most));

    const auto scan = [&](const Packed::Group& group, std::int64_t first, std::int64_t count) {
        for (std::int64_t l = 0; l < group.lanes; ++l) {
            float& bound = least[static_cast<std::size_t>(l)];
            bound = infinity;  // nothing is above it: for lanes without a query token, or done
            if (group.first + l >= query.tokens) continue;
            Best<Form>& mine = best[group.first + l];
            if (mine.open()) {
                for (std::int64_t t = 0; t < count; ++t)
                    mine.offer(sims[static_cast<std::size_t>(t * group.lanes + l)], first + t);
            } else {
                bound = mine.least();
            }
        }
        const std::int64_t found =
            isa.above(sims.data(), count, group.lanes, least.data(), places.data());
        for (std::int64_t i = 0; i < found; ++i) {
            const auto place = static_cast<std::uint32_t>(places[static_cast<std::size_t>(i)]);
            const std::int64_t t = place / MOST_LANES, l = place % MOST_LANES;
            best[group.first + l].offer(sims[static_cast<std::size_t>(t * group.lanes + l)],
                                        first + t);
        }
    };

    for (const Run& run : runs)
        for (std::int64_t first = run.first; first < run.last; first += rows.limit()) {
            const std::int64_t count = std::min(rows.limit(), run.last - first);
            Block block = rows.block(first, count);
            block.out = sims.data();
            for (const Packed::Group& group : packed.groups()) {
                block.query = packed.query(group);
                block.start = packed.start(group);
                block.lane_scales = packed.scales(group);
                block.lanes = group.lanes;
                codes ? isa.sims_codes(block) : isa.sims_floats(block);
                scan(group, first, count);
            }
        }
}

template <class Form>
void topk(const Isa& isa, const Query& query, const Docs& docs, const std::vector<Run>& runs,
          std::int64_t live, std::int64_t keep, int threads, std::int64_t* tokens, float* sims) {
    const Packed packed(isa, query, docs);
    const double work = double(live) * double(docs.width) * double(packed.lanes());
    const int parts = useful_threads(threads, work);
    const std::size_t count = static_cast<std::size_t>(query.tokens);
    std::vector<std::vector<Best<Form>>> best(static_cast<std::size_t>(parts));
    in_threads(parts, [&](int i) {
        const std::int64_t begin = live / parts * i;
        const std::int64_t end = i + 1 == parts ? live : live / parts * (i + 1);
        std::vector<Best<Form>>& mine = best[static_cast<std::size_t>(i)];
        mine.resize(count);
        for (Best<Form>& one : mine) one.reserve(keep, end - begin);
        search<Form>(isa, packed, query, docs, slice(runs, begin, end), mine.data());
    });
    in_threads(parts, [&](int i) {
        for (std::size_t q = static_cast<std::size_t>(i); q < count;
             q += static_cast<std::size_t>(parts)) {
            for (std::size_t part = 1; part < best.size(); ++part) best[0][q].append(best[part][q]);
            const std::int64_t row = static_cast<std::int64_t>(q) * keep;
            std::int64_t k = row;
            for (const typename Form::Key& key : best[0][q].finish()) {
                tokens[k] = Form::token(key);
                sims[k++] = Form::sim(key);
            }
        }
    });
}

}  // namespace

std::int64_t live_tokens(const Docs& docs, const std::uint8_t* alive) {
    std::int64_t live = 0;
    for (const Run& run : live_runs(docs, alive)) live += run.last - run.first;
    return live;
}

void token_topk(const Isa& isa, const Query& query, const Docs& docs, const std::uint8_t* alive,
                std::int64_t keep, int threads, std::int64_t* tokens, float* sims) {
    if (keep == 0 || query.tokens == 0) return;
    const std::vector<Run> runs = live_runs(docs, alive);
    const std::int64_t live = live_tokens(docs, alive);
    const bool narrow = docs.offsets[docs.passages] <= WIDE;
    const auto run = narrow ? topk<Narrow> : topk<Wide>;
    run(isa, query, docs, runs, live, keep, threads, tokens, sims);
}

}  // namespace tokret
