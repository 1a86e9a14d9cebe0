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

// A stream of entropy codes: where its next bit is, and the state of its decoder.
struct Stream {
    uint64_t place;
    uint32_t state;
};

// One row of a passage of lattice codes, to be read from four streams (see lattice.h).
struct LatticeRow {
    Stream* streams;              // [4], moved on
    const uint8_t* bytes;         // up to 5 / 16 of width and 16 beyond a stream's next one are touched
    const uint32_t* tables[6];    // of each band
    int kind;
    const int8_t* centroid;       // [width], what the row is predicted from,
    const int8_t* earlier;        // with an earlier row
    const int8_t* other;          // and that one's centroid
    int64_t width;
    int8_t* row;                  // [width]
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
    // Residuals into x.row, and y.row where there is one; then what was expected added to them.
    void (*read_lattice_rows)(const LatticeRow& x, const LatticeRow* y);
    void (*predict_lattice_row)(const LatticeRow& row);
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
#elif defined(__aarch64__)
extern const Isa neon;
extern const Isa neondot;
#endif

}  // namespace tokret
