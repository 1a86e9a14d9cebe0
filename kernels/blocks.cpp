#include "blocks.h"

#include <algorithm>
#include <exception>
#include <system_error>
#include <thread>

namespace tokret {

namespace {

constexpr std::int64_t BLOCK_BYTES = 8192;  // of rows: with the next ones, half of a first-level cache
constexpr std::int64_t ROW_STEP = 8;         // a block has a whole number of tiles
constexpr std::int64_t MOST_ROWS = 256;
constexpr double WORTH_A_THREAD = 4e6;  // multiply-adds: about 50 us, ten times its start

std::int64_t round_up(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

Packed::Packed(const Isa& isa, const Query& query, const Docs& docs) {
    const bool codes = docs.dtype == Dtype::int8;
    const std::int64_t unit = codes ? isa.code_group : 1;
    const std::int64_t bytes = codes ? isa.code_bytes : sizeof(float);
    steps_ = (docs.width + unit - 1) / unit;
    stride_ = codes ? round_up(docs.width * bytes, Bytes::LINE) : docs.width * bytes;
    lanes_ = round_up(query.tokens, isa.lane_step);

    // Groups of nearly one size: two of 40 lanes do better than one of 64 and one of 16.
    const std::int64_t passes = (lanes_ + isa.lane_limit - 1) / isa.lane_limit;
    const std::int64_t share = passes ? round_up(lanes_ / passes, isa.lane_step) : 0;
    std::int64_t place = 0;
    for (std::int64_t first = 0; first < lanes_; first += share) {
        const std::int64_t lanes = std::min(share, lanes_ - first);
        groups_.push_back({first, lanes, place});
        place += round_up(lanes * steps_ * unit * bytes, Bytes::LINE);
    }
    bytes_ = Bytes(place);
    if (!codes) {
        lay<float, float>(static_cast<const float*>(query.vectors), query.tokens, docs.width, 1);
        return;
    }
    const std::int8_t* vectors = static_cast<const std::int8_t*>(query.vectors);
    if (bytes == 1) lay<std::int8_t, std::int8_t>(vectors, query.tokens, docs.width, unit);
    else lay<std::int8_t, std::int16_t>(vectors, query.tokens, docs.width, unit);
    start_.resize(static_cast<std::size_t>(lanes_));
    scales_.assign(query.scales, query.scales + query.tokens);
    scales_.resize(static_cast<std::size_t>(lanes_));
    for (std::int64_t q = 0; q < query.tokens; ++q) {
        std::int64_t sum = 0;
        for (std::int64_t h = 0; h < docs.width; ++h) sum += vectors[q * docs.width + h];
        start_[static_cast<std::size_t>(q)] = static_cast<std::int32_t>(-isa.code_bias * sum);
    }
}

template <class From, class To>
void Packed::lay(const From* query, std::int64_t tokens, std::int64_t width, std::int64_t unit) {
    for (const Group& group : groups_) {
        To* out = reinterpret_cast<To*>(bytes_.data() + group.place);
        for (std::int64_t l = 0; l < std::min(group.lanes, tokens - group.first); ++l)
            for (std::int64_t h = 0; h < width; ++h)
                out[(h / unit * group.lanes + l) * unit + h % unit] =
                    query[(group.first + l) * width + h];
    }
}

Rows::Rows(const Isa& isa, const Packed& packed, const Docs& docs)
    : isa_(isa), packed_(packed), docs_(docs) {
    const std::int64_t stride = std::max<std::int64_t>(packed.stride(), 1);
    limit_ = std::clamp(BLOCK_BYTES / stride / ROW_STEP * ROW_STEP, ROW_STEP, MOST_ROWS);
    if (docs.dtype != Dtype::fp32) bytes_ = Bytes(limit_ * packed.stride());
}

Block Rows::block(std::int64_t first, std::int64_t count) {
    const bool codes = docs_.dtype == Dtype::int8;
    const std::int64_t bytes = codes ? 1 : docs_.dtype == Dtype::fp16 ? 2 : 4;
    const char* stored = static_cast<const char*>(docs_.vectors) + first * docs_.width * bytes;
    const bool as_stored = docs_.dtype == Dtype::fp32;
    Block block{};
    block.steps = packed_.steps();
    block.rows = as_stored ? static_cast<const void*>(stored) : bytes_.data();
    block.stride = packed_.stride();
    block.count = count;
    block.ahead_step = codes ? isa_.code_group : bytes;
    block.ahead_stride = docs_.width * bytes;
    block.ahead = stored + (as_stored ? ROW_STEP : count) * block.ahead_stride;
    if (codes) {
        block.scales = docs_.scales + first;
        isa_.widen_codes(reinterpret_cast<const std::int8_t*>(stored), count, docs_.width,
                         packed_.stride(), bytes_.data());
    } else if (!as_stored) {
        isa_.widen_halves(reinterpret_cast<const std::uint16_t*>(stored), count * docs_.width,
                          reinterpret_cast<float*>(bytes_.data()));
    }
    return block;
}

void in_threads(int parts, const std::function<void(int)>& work) {
    std::vector<std::exception_ptr> faults(static_cast<std::size_t>(std::max(parts, 1)));
    const auto guarded = [&](int i) {
        try {
            work(i);
        } catch (...) {
            faults[static_cast<std::size_t>(i)] = std::current_exception();
        }
    };
    std::vector<std::thread> threads;
    threads.reserve(faults.size());
    int started = 1;
    try {
        for (; started < parts; ++started) threads.emplace_back(guarded, started);
    } catch (const std::system_error&) {  // no more threads: the rest is done here
    }
    guarded(0);
    for (int i = started; i < parts; ++i) guarded(i);
    for (std::thread& thread : threads) thread.join();
    for (const std::exception_ptr& fault : faults)
        if (fault) std::rethrow_exception(fault);
}

int useful_threads(int threads, double multiply_adds) {
    const double worth = std::min(multiply_adds / WORTH_A_THREAD, double(threads));
    return std::max(1, static_cast<int>(worth));
}

}  // namespace tokret
