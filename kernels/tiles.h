// Tiles: some rows of token vectors by all lanes of a group, summed up in registers.
//
// A register holds one sum for each of several query tokens, so nothing is ever added
// across a register, and a score depends on its own row alone. An isa_*.cpp says in a
// policy P how its registers multiply; it includes this file once, for itself (see isa.h).
//
// P: Wide, Part       sums of WIDE_LANES and of PART_LANES (0: none) query tokens
//    Query, PartQuery a step of their packed query
//    Element          what is broadcast from a row
//    ROW_BYTES        how far a step moves along a row
//    LANE_BYTES       what one lane takes of the packed query in a step
//    PRODUCTS         multiply-adds of one lane in a step
//    start, load, broadcast, add, keep, opaque, rows    as used below

#pragma once

#include "isa.h"

#define TOKRET_UNROLL _Pragma("GCC unroll 16")
#define TOKRET_INLINE inline __attribute__((always_inline))

namespace tokret {
namespace {

constexpr int64_t AHEAD = 16;  // steps: a cache line of floats or of groups of four codes

constexpr int at_least_one(int n) { return n > 0 ? n : 1; }

// What becomes of a tile's similarities: BEST raises the best of each lane, else all are kept.
template <class P, int ROWS, int WIDE, int PART, bool BEST>
TOKRET_INLINE void tile(const Block& block, int64_t t) {
    typename P::Wide wide[ROWS][at_least_one(WIDE)];
    typename P::Part part[ROWS][at_least_one(PART)];
    TOKRET_UNROLL
    for (int r = 0; r < ROWS; ++r) {
        TOKRET_UNROLL
        for (int v = 0; v < WIDE; ++v) P::start(block, v * P::WIDE_LANES, wide[r][v]);
        TOKRET_UNROLL
        for (int v = 0; v < PART; ++v) P::start(block, WIDE * P::WIDE_LANES, part[r][v]);
    }

    constexpr int64_t LANES = WIDE * P::WIDE_LANES + PART * P::PART_LANES;
    const char* query = static_cast<const char*>(block.query);
    const char* row = static_cast<const char*>(block.rows) + t * block.stride;
    const char* ahead = block.ahead + t * block.ahead_stride;
    for (int64_t step = 0; step < block.steps; ++step) {
        if (step % AHEAD == 0) {
            TOKRET_UNROLL
            for (int r = 0; r < ROWS; ++r)
                __builtin_prefetch(ahead + step * block.ahead_step + r * block.ahead_stride);
        }
        typename P::Query wide_query[at_least_one(WIDE)];
        typename P::PartQuery part_query[at_least_one(PART)];
        TOKRET_UNROLL
        for (int v = 0; v < WIDE; ++v)
            P::load(query + v * P::WIDE_LANES * P::LANE_BYTES, wide_query[v]);
        TOKRET_UNROLL
        for (int v = 0; v < PART; ++v)
            P::load(query + WIDE * P::WIDE_LANES * P::LANE_BYTES, part_query[v]);
        TOKRET_UNROLL
        for (int r = 0; r < ROWS; ++r) {
            const typename P::Element x = P::broadcast(row + r * block.stride);
            TOKRET_UNROLL
            for (int v = 0; v < WIDE; ++v) P::add(wide[r][v], wide_query[v], x);
            TOKRET_UNROLL
            for (int v = 0; v < PART; ++v) P::add(part[r][v], part_query[v], x);
        }
        query += LANES * P::LANE_BYTES;
        row += P::ROW_BYTES;
    }

    TOKRET_UNROLL
    for (int r = 0; r < ROWS; ++r) {
        float* out = BEST ? block.out : block.out + (t + r) * LANES;
        TOKRET_UNROLL
        for (int v = 0; v < WIDE; ++v)
            P::template keep<BEST>(block, t + r, v * P::WIDE_LANES, wide[r][v], out);
        TOKRET_UNROLL
        for (int v = 0; v < PART; ++v)
            P::template keep<BEST>(block, t + r, WIDE * P::WIDE_LANES, part[r][v], out);
    }
}

// The rows from t, fewer than two tiles of ROWS. A last tile may go over rows again that
// an earlier one has done: both answers are the same.
template <class P, int ROWS, int WIDE, int PART, bool BEST>
void rest(Block block, int64_t t) {
    const int64_t left = block.count - t;
    if (left <= 0) return;
    if constexpr (ROWS > 1) {
        if (left <= ROWS / 2) return rest<P, ROWS / 2, WIDE, PART, BEST>(block, t);
        if (block.count < ROWS) {
            tile<P, ROWS / 2, WIDE, PART, BEST>(block, t);
            return rest<P, ROWS / 2, WIDE, PART, BEST>(block, t + ROWS / 2);
        }
    }
    tile<P, ROWS, WIDE, PART, BEST>(block, block.count - ROWS);
}

template <class P, int WIDE, int PART, bool BEST>
void pass(Block block) {
    constexpr int ROWS = P::rows(WIDE + PART);
    int64_t t = 0;
    for (; t + ROWS <= block.count; t += ROWS) tile<P, ROWS, WIDE, PART, BEST>(block, t);
    rest<P, ROWS, WIDE, PART, BEST>(block, t);
}

// A pass for the group's number of lanes, at most LIMIT wide registers.
template <class P, bool BEST, int LIMIT, int WIDE = 0>
void sums(const Block& block) {
    if constexpr (P::PART_LANES > 0) {
        if (WIDE < LIMIT && block.lanes == WIDE * P::WIDE_LANES + P::PART_LANES)
            return pass<P, WIDE < LIMIT ? WIDE : 0, 1, BEST>(block);
    }
    if constexpr (WIDE > 0) {
        if (block.lanes == WIDE * P::WIDE_LANES) return pass<P, WIDE, 0, BEST>(block);
    }
    if constexpr (WIDE < LIMIT) sums<P, BEST, LIMIT, WIDE + 1>(block);
}

template <class P>
double spin(int64_t rounds) {
    constexpr int CHAINS = 12;  // independent sums: two a cycle, five cycles each, and some
    const char ones[256] = {1, 1};
    typename P::Wide sum[CHAINS] = {};
    typename P::Query query;
    typename P::Element x = P::broadcast(ones);
    P::load(ones, query);
    for (int64_t i = 0; i < rounds; ++i) {
        TOKRET_UNROLL
        for (int c = 0; c < CHAINS; ++c) {
            P::opaque(query);  // or the product would be taken once, before the loop
            P::add(sum[c], query, x);
            P::opaque(sum[c]);  // and all sums are wanted
        }
    }
    return double(rounds) * CHAINS * P::WIDE_LANES * P::PRODUCTS;
}

}  // namespace
}  // namespace tokret
