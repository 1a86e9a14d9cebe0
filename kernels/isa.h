// What one instruction set offers to core.cpp; each isa_*.cpp fills one table.
//
// The isa_*.cpp files are compiled with flags that not every machine can run. So that the
// linker never takes their copy of a shared inline function, they include no C++ library
// header, and everything in them but the table is in an unnamed namespace.

#pragma once

#include <stdint.h>

namespace tokret {

constexpr int64_t MOST_LANES = 64;  // of a group, whatever the instruction set

// Rows of token vectors against one group of query tokens, each of which has a lane.
struct Block {
    const void* query;     // [steps][lanes] floats, or [steps][lanes][code_group] codes
    const int32_t* start;  // [lanes], what each sum of codes starts from
    int64_t lanes;         // a multiple of lane_step, at most lane_limit
    int64_t steps;         // H, for codes in units of code_group
    const void* rows;      // [count] floats or codes, row after row
    int64_t stride;        // bytes from one row to the next
    int64_t count;
    const char* ahead;     // what is read after these rows: to be asked for in time
    int64_t ahead_stride;  // bytes of it for each row,
    int64_t ahead_step;    // and for each step
    const float* scales;   // [count], codes only
    const float* lane_scales;  // [lanes], sims of codes only
    float* out;            // best: [lanes], raised in place; sims: [count][lanes]
};

constexpr int64_t CODE_LANES = 32;  // of entropy codes, whatever the instruction set

// What each of a lane's 128 low states gives: its symbol, that one's share, and how far into the
// share it is.
struct LaneTable {
    uint8_t share[128], beyond[128], symbol[128];
};

constexpr uint8_t ESCAPED = 0x80;  // the symbol of a residual that is listed beside

struct Escapes {
    bool in_x, in_y;
};

// Lanes of entropy codes: their states, and the byte that is taken next.
struct Lanes {
    uint16_t states[CODE_LANES];
    const uint8_t* next;
};

// Symbols [steps, CODE_LANES] to be read, each step by a table of its own.
struct LaneRow {
    Lanes* lanes;  // moved on; up to CODE_LANES bytes a step are touched, and CODE_LANES beyond
    const LaneTable* const* tables;
    int64_t steps;
    uint8_t* out;
};

// A row of residuals, to which is added what a passage makes expected (see lattice.h).
struct LatticeRow {
    const int8_t* centroid;  // [width]
    const int8_t* earlier;   // with so many quarters of what it is apart from `other`
    const int8_t* other;
    const int8_t* earlier2;  // so many quarters of what it is apart from `other2`,
    const int8_t* other2;
    int part, part2;
    bool from_expected;      // or from what is expected so far
    int64_t width;  // a multiple of CODE_LANES
    int8_t* row;    // [width]
};

struct Isa {
    const char* name;
    int64_t lane_step;
    int64_t lane_limit;
    int64_t code_bytes;  // 1: products of int8; 2: of int16
    int64_t code_group;  // codes of one row that one instruction adds up in a lane
    int64_t code_bias;   // what `widen_codes` adds to a row's codes: 128 makes them unsigned
    void (*widen_halves)(const uint16_t* in, int64_t n, float* out);
    void (*widen_codes)(const int8_t* in, int64_t count, int64_t width, int64_t stride, void* out);
    void (*best_floats)(const Block& block);
    void (*best_codes)(const Block& block);
    void (*sims_floats)(const Block& block);
    void (*sims_codes)(const Block& block);
    // Where in sims [count][lanes] there is more than the lane's `least`, as row * MOST_LANES +
    // lane; how many.
    int64_t (*above)(const float* sims, int64_t count, int64_t lanes, const float* least,
                     int32_t* places);
    void (*to_bytes)(const float* sims, int64_t count, int64_t lanes, int64_t take, float unit,
                     uint8_t* out, int64_t stride);
    void (*max_bytes)(const uint8_t* table, int64_t stride, const uint16_t* cells, int64_t count,
                      uint8_t* best);
    // Whether there may be a residual that has escaped; y may be nullptr.
    Escapes (*read_lanes)(const LaneRow& x, const LaneRow* y);
    void (*predict_lattice_row)(const LatticeRow& row);
    // Inner products of row [width] with rows [count][width].
    void (*dots_16)(const int16_t* row, const int16_t* rows, int64_t count, int64_t width,
                    int32_t* out);
    // Raise best [lanes] to the greatest of sums [count][lanes], whole numbers, less norms [count];
    // where it rose, place is first + its row. The earlier of equals stays.
    void (*argbest)(const float* sums, int64_t count, int64_t lanes, const int32_t* norms,
                    int32_t first, int32_t* best, int32_t* place);
    // Independent chains of multiply-adds in registers; how many were done.
    double (*spin_floats)(int64_t rounds);
    double (*spin_codes)(int64_t rounds);
};

extern const Isa scalar;
#if defined(__x86_64__)
extern const Isa avx2;
extern const Isa avx512;
extern const Isa avx512vnni;
Escapes read_lanes_vbmi(const LaneRow& x, const LaneRow* y);
#elif defined(__aarch64__)
extern const Isa neon;
extern const Isa neondot;
#endif

}  // namespace tokret
