// The stages of a search by cells, without Python. tokret/kernels/stages_reference.py defines them.

#pragma once

#include <cstdint>
#include <vector>

#include "core.h"
#include "lattice.h"

namespace tokret {

// At most 65,536 passages of a segment by cells, and their cells.
struct Postings {
    const std::int64_t* posting_offsets;  // [known + 1]
    std::int64_t known;                   // cells that there were when it was written
    const std::uint16_t* postings;        // passages of each cell, rising
    const std::int64_t* cell_offsets;     // [passages + 1]
    const std::uint16_t* cells;           // different cells of each passage, rising
    std::int64_t passages;
};

// A segment: its cells, and the codes of its passages.
struct Coded {
    Postings cells;
    const std::uint8_t* bytes;
    const std::int64_t* code_offsets;   // [passages + 1]
    const std::int64_t* token_offsets;  // [passages + 1]
    std::int64_t size;                  // of bytes

    Code code(std::int64_t n) const {
        const std::int64_t at = code_offsets[n], cell = cells.cell_offsets[n];
        return {bytes + at,
                code_offsets[n + 1] - at,
                size - at,
                cells.cells + cell,
                cells.cell_offsets[n + 1] - cell,
                token_offsets[n + 1] - token_offsets[n]};
    }
};

// How near every cell is to every query token: bytes [cells, stride], 128 for 0 and `unit` for 1;
// and for each query token its `keep` nearest cells, nearest first, ties in order; a cell that
// there is not, in the place of one whose similarity is no number.
void score_cells(const Isa& isa, const Query& query, const Docs& centroids, std::int64_t keep,
                 float unit, std::int64_t stride, std::uint8_t* table, std::int32_t* nearest,
                 float* sims);

struct Found {
    std::vector<std::int64_t> passages;  // rising
    std::vector<float> gains;
};

// Passages of the nearest cells [tokens, keep] with what they gain over `missing` [tokens]: the
// `most` best, ties in order.
Found probe(const Postings& cells, const std::int32_t* nearest, const float* sims,
            const float* missing, std::int64_t tokens, std::int64_t keep,
            const std::uint8_t* allowed, std::int64_t most);

// The sum over query tokens of the nearest cell of each passage, in units of the table.
void interact(const Isa& isa, const Postings& cells, const std::uint8_t* table, std::int64_t tokens,
              std::int64_t stride, const std::int64_t* passages, std::int64_t count,
              std::int32_t* sums);

// A passage of one of several segments.
struct Place {
    std::int32_t segment;
    std::int64_t passage;
};

// Best similarities [count, tokens] of passages in the order of `expected`, falling; ends where
// what is expected lies more than `margin` below the `keep` best found. How many were done, or -1
// for a passage that cannot be read.
std::int64_t refine(const Isa& isa, const Decoder& decoder, const Query& query,
                    const Coded* segments, const Place* places, const float* expected,
                    std::int64_t count, std::int64_t keep, float margin, int threads, float* sims);

}  // namespace tokret
