// Passages of lattice rows as bytes: prediction within a passage, then entropy codes.
//
// A row is int8 [width]. It is predicted from its cell's centroid and up to two earlier rows of
// the passage; what is left over is written by range variants of asymmetric numeral systems (Duda
// 2013, arXiv:1311.2540), a table a context, in CODE_LANES lanes that are read side by side.
// tokret/kernels/coding_reference.py is the definition; indexes/FORMAT.md says the bytes.

#pragma once

#include <cstdint>
#include <vector>

#include "isa.h"

namespace tokret {

constexpr int UNIT = 32;         // width is a multiple of it; a band of dimensions
constexpr int SYMBOLS = 64;      // residuals -31..31, and ESCAPE, which is listed beside
constexpr int ESCAPE = 63;
constexpr int STATE_BITS = 7;
constexpr int STATES = 1 << STATE_BITS;
constexpr int FINE = 64;         // parts of a step in which an encoder is given rows
constexpr int ALONG = 16;        // parts of a part in which it is said what lies along a row
constexpr int CLASSES = 32;      // of the size of a row's residual, a factor of sqrt(2) apart
constexpr int CONTEXTS = 48;
constexpr int SIZES = CONTEXTS, FORMS = CONTEXTS + 1, PLACES = CONTEXTS + 2;  // tables of heads
constexpr int TABLES = CONTEXTS + 3;
constexpr int SECONDS = 5;       // ways of a second row, or none
constexpr int FORM_SYMBOLS = 1 + 8 * SECONDS;
constexpr int MOST_BACK = 255;   // rows between a row and one that predicts it

// What all passages of an index share.
struct Coding {
    std::int64_t width = 0;
    const std::int32_t* shifts = nullptr;  // [width / UNIT], contexts between a class and a band's
    const std::int32_t* weights = nullptr;  // [width / UNIT], of squares, in units of 1/256
    const std::uint8_t* shares = nullptr;  // [TABLES, SYMBOLS] of STATES; 0: not in the code
    const std::int32_t* penalties = nullptr;  // [TABLES, SYMBOLS], squares that its bits are worth
    const std::int8_t* centroids = nullptr; // [cells, width]
    std::int64_t cells = 0;

    int context(int size, std::int64_t band) const {
        const int c = size + shifts[band] + (CONTEXTS - CLASSES) / 2;
        return c < 0 ? 0 : c >= CONTEXTS ? CONTEXTS - 1 : c;
    }
};

// Rows [count, width] of a passage in parts of a step, each row's place in `cells` [cell_count]
// of the passage.
struct Passage {
    const std::int16_t* fine;
    const std::int16_t* along;  // what a step is worth along the row, in ALONG of a part
    const std::uint16_t* slots;
    std::int64_t count;
    const std::uint16_t* cells;
    std::int64_t cell_count;
};

// How a row is predicted; coding_reference.py says what the numbers mean.
struct Form {
    int first = 0, back = 0, second = 0, back2 = 0;

    int symbol() const { return first ? 1 + (first - 1) * SECONDS + second : 0; }
};

// What is written of a passage.
struct Planned {
    std::vector<Form> forms;
    std::vector<std::uint8_t> sizes, places;
    std::vector<std::int16_t> residuals;  // [count, width]
    std::vector<std::int8_t> rows;        // [count, width], that they say
};

Planned planned(const Isa& isa, const Coding& coding, const Passage& passage);
void count_symbols(const Isa& isa, const Coding& coding, const Passage& passage,
                   std::int64_t* counts);

class Encoder {
  public:
    explicit Encoder(const Coding& coding);
    // Appends to `out`; writes the rows that are said to `rows` [count, width]. False where a
    // table lacks a symbol that is needed.
    bool encode(const Isa& isa, const Passage& passage, std::vector<std::uint8_t>& out,
                std::int8_t* rows) const;

  private:
    Coding coding_;
    std::vector<std::uint8_t> starts_;  // [TABLES, SYMBOLS], shares before a symbol's
};

constexpr std::int64_t CODE_HEAD = 2 * CODE_LANES + 4;  // bytes: states, the size of the stream

// A passage as an encoder wrote it.
struct Code {
    const std::uint8_t* bytes;
    std::int64_t size;
    std::int64_t readable;  // bytes that may be touched, at least `size`
    const std::uint16_t* cells;
    std::int64_t cell_count;
    std::int64_t count;  // rows

    // Whether so many rows can be said: a row is the first of a cell of the passage, or there is
    // a byte aside that says its slot or how far back the row is that lies in the same cell.
    bool has_room() const { return !count || count - cell_count <= size - CODE_HEAD; }
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
    const LaneTable& table(int number) const { return tables_[static_cast<std::size_t>(number)]; }

  private:
    Coding coding_;
    std::vector<LaneTable> tables_;  // [TABLES]
};

}  // namespace tokret
