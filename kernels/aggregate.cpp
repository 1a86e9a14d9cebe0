#include <algorithm>
#include <cmath>
#include <limits>

#include "core.h"

namespace tokret {

Aggregate xtr_aggregate(const std::int64_t* tokens, const float* sims, std::int64_t query_tokens,
                        std::int64_t keep, const std::int64_t* offsets, std::int64_t passages,
                        const float* missing) {
    constexpr double none = -std::numeric_limits<double>::infinity();
    const std::size_t found = static_cast<std::size_t>(query_tokens * keep);

    // Which passage owns a token: near the one that owns the first token of its bin.
    const std::int64_t total = offsets[passages];
    int shift = 0;
    while ((total >> shift) > passages) ++shift;
    std::vector<std::int64_t> bins(static_cast<std::size_t>((total >> shift) + 1));
    for (std::int64_t bin = 0, n = 0; bin < static_cast<std::int64_t>(bins.size()); ++bin) {
        while (n + 1 < passages && offsets[n + 1] <= bin << shift) ++n;
        bins[static_cast<std::size_t>(bin)] = n;
    }
    std::vector<std::int64_t> owner(found);
    std::vector<std::int64_t> slot(static_cast<std::size_t>(passages), -1);
    for (std::size_t i = 0; i < found; ++i) {
        const std::size_t bin = static_cast<std::size_t>(tokens[i] >> shift);
        const std::int64_t* low = offsets + bins[bin];
        const std::int64_t* high = bin + 1 < bins.size() ? offsets + bins[bin + 1] + 1
                                                          : offsets + passages;
        owner[i] = std::upper_bound(low + 1, high, tokens[i]) - offsets - 1;
        slot[static_cast<std::size_t>(owner[i])] = 0;
    }

    Aggregate out;
    for (std::int64_t n = 0; n < passages; ++n)
        if (slot[static_cast<std::size_t>(n)] == 0) {
            slot[static_cast<std::size_t>(n)] = static_cast<std::int64_t>(out.passages.size());
            out.passages.push_back(n);
        }
    const std::size_t candidates = out.passages.size();
    std::vector<double> best(candidates), sum(candidates);
    out.matched.resize(candidates);
    for (std::int64_t q = 0; q < query_tokens; ++q) {
        std::fill(best.begin(), best.end(), none);
        for (std::int64_t i = q * keep; i < (q + 1) * keep; ++i) {
            const std::int64_t passage = owner[static_cast<std::size_t>(i)];
            double& mine = best[static_cast<std::size_t>(slot[static_cast<std::size_t>(passage)])];
            mine = std::max(mine, double(sims[i]));
        }
        for (std::size_t c = 0; c < candidates; ++c) {
            const bool present = std::isfinite(best[c]);
            sum[c] += present ? best[c] : double(missing[q]);
            out.matched[c] += present;
        }
    }
    out.scores.assign(sum.begin(), sum.end());
    return out;
}

}  // namespace tokret
