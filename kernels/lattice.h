// Passages of lattice rows as bytes: prediction within a passage, then entropy codes.
//
// A row is int8 [width]. It is predicted from its cell's centroid and, where that is nearer,
// from an earlier row of the passage; what is left over is written by table-based asymmetric
// numeral systems (Duda 2013, arXiv:1311.2540), a table a context, in STREAMS streams that are
// read side by side. tokret/kernels/coding_reference.py is the definition; indexes/FORMAT.md says the
// bytes.

#pragma once

#include <cstdint>
#include <vector>

#include "isa.h"

namespace tokret {

constexpr int STREAMS = 4;       // each codes a quarter of the dimensions
constexpr int UNIT = 16;         // width is a multiple of it
constexpr int SYMBOLS = 64;      // residuals -31..31, and ESCAPE, which is listed beside
constexpr int ESCAPE = 63;
constexpr int STATE_BITS = 10;
constexpr int STATES = 1 << STATE_BITS;
constexpr int CLASSES = 16;      // of the size of a row's residual, a factor of 2 in energy apart
constexpr int BANDS = 6;         // of dimensions, ending at 1/16, 4/16, 8/16, 12/16, 14/16, 1
constexpr int CONTEXTS = 24;
constexpr int MOST_BACK = 255;   // rows between a row and the one that predicts it
constexpr int MOST_APART = 65535;  // rows from one escape to the next, whose numbers are 16 bits

// What all passages of an index share.
struct Coding {
    std::int64_t width = 0;
    const std::int32_t* shifts = nullptr;  // [BANDS], contexts between a class and the band's
    const std::int32_t* weights = nullptr;  // [BANDS], of squares, in units of 1/256
    const std::uint16_t* shares = nullptr;  // [CONTEXTS, SYMBOLS] of STATES; 0: not in the code
    const std::int8_t* centroids = nullptr; // [cells, width]
    std::int64_t cells = 0;

    int context(int size, std::int64_t band) const {
        const int c = size + shifts[band] + (CONTEXTS - CLASSES) / 2;
        return c < 0 ? 0 : c >= CONTEXTS ? CONTEXTS - 1 : c;
    }
};

// Chosen for each row before anything is written.
struct Plan {
    std::uint8_t back, kind, size;
};

// Rows [count, width] of a passage, each row's place in `cells` [cell_count] of the passage.
struct Passage {
    const std::int8_t* rows;
    const std::uint16_t* slots;
    std::int64_t count;
    const std::uint16_t* cells;
    std::int64_t cell_count;
};

std::vector<Plan> plan(const Coding& coding, const Passage& passage);
void count_symbols(const Coding& coding, const Passage& passage, std::int64_t* counts);

class Encoder {
  public:
    explicit Encoder(const Coding& coding);
    void encode(const Passage& passage, std::vector<std::uint8_t>& out) const;

  private:
    Coding coding_;
    std::vector<std::uint16_t> next_;   // [CONTEXTS, STATES], by symbol and what its state leaves
    std::vector<std::uint16_t> first_;  // [CONTEXTS, SYMBOLS], a symbol's first in next_
};

// A passage as an encoder wrote it.
struct Code {
    const std::uint8_t* bytes;
    std::int64_t size;
    std::int64_t readable;  // bytes that may be touched, at least `size`
    const std::uint16_t* cells;
    std::int64_t cell_count;
    std::int64_t count;  // rows
};

class Decoder {
  public:
    explicit Decoder(const Coding& coding);

    // Rows of a passage into `rows` [count, width]. False where the bytes are not what an encoder
    // writes; whatever they are, nothing beyond them is believed or written.
    bool decode(const Isa& isa, const Code& code, std::int8_t* rows) const {
        return decode(isa, code, rows, nullptr, nullptr);
    }
    // The same for two passages, in less time than one after the other.
    bool decode(const Isa& isa, const Code& code, std::int8_t* rows, const Code* other,
                std::int8_t* other_rows) const;

    const Coding& coding() const { return coding_; }

    const std::uint32_t* steps(int context) const { return steps_.data() + context * STATES; }

  private:
    Coding coding_;
    std::vector<std::uint32_t> steps_;  // [CONTEXTS, STATES], see lattice.cpp
};

}  // namespace tokret
