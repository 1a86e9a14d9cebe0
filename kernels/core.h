// The kernels of tokret/kernels/reference.py, without Python.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "isa.h"

namespace tokret {

enum class Dtype { fp32, fp16, int8 };

struct Docs {
    const void* vectors;          // [T, width]
    const float* scales;          // [T], int8 only
    const std::int64_t* offsets;  // [passages + 1]
    std::int64_t passages;
    std::int64_t width;
    Dtype dtype;
};

struct Query {
    const void* vectors;  // [tokens, width], float; int8 where the passages are
    const float* scales;  // [tokens], int8 only
    std::int64_t tokens;
};

// The instruction sets that this build has and this machine runs, slowest first.
const std::vector<const Isa*>& instruction_sets();

// Which of them, or nullptr.
const Isa* find_isa(const std::string& name);

// scores [passages]
void maxsim(const Isa& isa, const Query& query, const Docs& docs, int threads, float* scores);

// How many tokens the passages have that are alive; `alive` is nullptr where all are.
std::int64_t live_tokens(const Docs& docs, const std::uint8_t* alive);

// tokens and sims [query.tokens, keep], keep <= live_tokens
void token_topk(const Isa& isa, const Query& query, const Docs& docs, const std::uint8_t* alive,
                std::int64_t keep, int threads, std::int64_t* tokens, float* sims);

struct Aggregate {
    std::vector<std::int64_t> passages;
    std::vector<float> scores;
    std::vector<std::int64_t> matched;
};

// tokens and sims [query_tokens, keep], offsets [passages + 1], missing [query_tokens]
Aggregate xtr_aggregate(const std::int64_t* tokens, const float* sims, std::int64_t query_tokens,
                        std::int64_t keep, const std::int64_t* offsets, std::int64_t passages,
                        const float* missing);

// Centroids [count, width], and where they are in groups, those of group g at
// offsets[g]:offsets[g + 1].
struct Cells {
    const std::int8_t* centroids;
    std::int64_t count;
    const std::int64_t* offsets;  // [groups + 1], or nullptr: no groups
    const std::int8_t* centres;   // [groups, width]
    std::int64_t groups;
};

// numbers and squared distances [count] of the centroids that are nearest to rows
// [count, width], each looked for in its `probes` nearest groups.
void nearest(const Isa& isa, const std::int8_t* rows, std::int64_t count, std::int64_t width,
             const Cells& cells, std::int64_t probes, int threads, std::int32_t* numbers,
             std::int32_t* distances);

// sums [cells, width] of the rows [count, width] of each number.
void cell_sums(const std::int8_t* rows, std::int64_t count, std::int64_t width,
               const std::int32_t* numbers, std::int64_t cells, int threads, std::int32_t* sums);

// Multiply-adds of one thread, in 1e9 a second, when nothing is read from memory.
double multiply_add_peak(const Isa& isa, Dtype dtype, double seconds);

}  // namespace tokret
