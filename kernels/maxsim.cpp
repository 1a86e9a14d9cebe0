#include <algorithm>
#include <limits>

#include "blocks.h"

namespace tokret {

namespace {

void score(const Isa& isa, const Packed& packed, const Query& query, const Docs& docs,
           std::int64_t begin, std::int64_t end, float* scores) {
    constexpr float none = -std::numeric_limits<float>::infinity();
    const auto compare = docs.dtype == Dtype::int8 ? isa.best_codes : isa.best_floats;
    Rows rows(isa, packed, docs);
    std::vector<float> best(static_cast<std::size_t>(packed.lanes()));
    for (std::int64_t n = begin; n < end; ++n) {
        const std::int64_t last = docs.offsets[n + 1];
        std::fill(best.begin(), best.end(), none);
        for (std::int64_t first = docs.offsets[n]; first < last; first += rows.limit()) {
            Block block = rows.block(first, std::min(rows.limit(), last - first));
            for (const Packed::Group& group : packed.groups()) {
                block.query = packed.query(group);
                block.start = packed.start(group);
                block.lanes = group.lanes;
                block.out = best.data() + group.first;
                compare(block);
            }
        }
        double sum = 0;
        for (std::int64_t q = 0; q < query.tokens; ++q) {
            const float match = best[static_cast<std::size_t>(q)];
            sum += query.scales ? match * query.scales[q] : match;
        }
        scores[n] = last > docs.offsets[n] ? static_cast<float>(sum) : none;
    }
}

}  // namespace

void maxsim(const Isa& isa, const Query& query, const Docs& docs, int threads, float* scores) {
    const Packed packed(isa, query, docs);
    const std::int64_t tokens = docs.offsets[docs.passages];
    const double work = double(tokens) * double(docs.width) * double(packed.lanes());
    const int parts = useful_threads(threads, work);
    const std::int64_t* end = docs.offsets + docs.passages;
    const auto cut = [&](int i) -> std::int64_t {  // passages of part i begin here
        if (i == parts) return docs.passages;
        return i ? std::lower_bound(docs.offsets, end, tokens / parts * i) - docs.offsets : 0;
    };
    in_threads(parts, [&](int i) {
        score(isa, packed, query, docs, cut(i), cut(i + 1), scores);
    });
}

}  // namespace tokret
