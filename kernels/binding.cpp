// The core for Python. tokret/kernels/native.py checks what comes in and says what is wrong
// with it; what is checked here again keeps every read and write within the arrays, whoever calls.

#include <atomic>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "blocks.h"
#include "cells.h"
#include "core.h"
#include "lattice.h"

namespace nb = nanobind;
using namespace tokret;

namespace {

template <class T, std::size_t N>
using In = nb::ndarray<const T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <class T, std::size_t N>
using Out = nb::ndarray<T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
using Any = nb::ndarray<nb::ro, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

const Isa& isa_of(const std::string& name) {
    const Isa* isa = find_isa(name);
    if (!isa) throw nb::value_error("not an instruction set of this build and machine");
    return *isa;
}

constexpr std::int64_t MOST_WIDTH = 1 << 16;  // of int8: their products add up within int32
constexpr std::int64_t MOST_EXACT = 1024;     // of int8: their products add up exactly in float32
constexpr std::int64_t MOST_ROWS = 1 << 24;   // so many int8 add up within int32
constexpr double MOST_SECONDS = 60;
constexpr std::int32_t MOST_WEIGHT = 1 << 16, MOST_PENALTY = 1 << 24;
constexpr std::int64_t TABLE_UNIT = 16;  // of a row of bytes that instructions read at a time

void need(bool holds, const char* what) {
    if (!holds) throw nb::value_error(what);
}

template <class Array>
std::int64_t side(const Array& array, std::size_t axis = 0) {
    return static_cast<std::int64_t>(array.shape(axis));
}

// Values at addresses that are whole numbers of them.
template <class Array>
void need_aligned(const Array& array) {
    need(reinterpret_cast<std::uintptr_t>(array.data()) % array.itemsize() == 0,
         "an array begins between two values");
}

// What is written over must not be what is still read.
template <class Written, class Read>
void need_apart(const Written& written, const Read& read) {
    const auto* from = reinterpret_cast<const char*>(written.data());
    const auto* other = reinterpret_cast<const char*>(read.data());
    const std::less_equal<const char*> before;
    need(before(from + written.nbytes(), other) || before(other + read.nbytes(), from),
         "an array that is written lies over one that is read");
}

// A mask as bytes: numpy may hold others than 0 and 1 in it.
const std::uint8_t* bytes_of(const std::optional<In<bool, 1>>& mask) {
    return mask ? reinterpret_cast<const std::uint8_t*>(mask->data()) : nullptr;
}

// Offsets [n + 1] of which none is less than the one before, from 0 to `total` where it is known.
void need_offsets(const In<std::int64_t, 1>& offsets, std::int64_t total = -1) {
    need_aligned(offsets);
    const std::int64_t last = side(offsets) - 1;
    need(last >= 0 && offsets(0) == 0, "offsets must begin with 0");
    bool rise = true;
    for (std::int64_t n = 0; n < last; ++n) rise &= offsets(n) <= offsets(n + 1);
    need(rise && (total < 0 || offsets(last) == total), "offsets must rise to the last row");
}

// A query and passages of one form: float and scaled by nothing, or int8 and one scale a row.
void need_alike(const Any& query, const std::optional<In<float, 1>>& query_scales,
                const Any& vectors, const std::optional<In<float, 1>>& scales) {
    const auto floats = nb::dtype<float>(), codes = nb::dtype<std::int8_t>();
    auto halves = floats;
    halves.bits = 16;
    const bool scaled = vectors.dtype() == codes;
    need(scaled || vectors.dtype() == floats || vectors.dtype() == halves,
         "vectors must be float32, float16 or int8");
    need(query.dtype() == (scaled ? codes : floats), "the query is of another type");
    need(query.shape(1) == vectors.shape(1), "the query is of another width");
    need(scaled == bool(scales) && scaled == bool(query_scales),
         "int8 takes one scale a row, other types take none");
    need_aligned(query);
    need_aligned(vectors);
    if (!scaled) return;
    need(side(vectors, 1) <= MOST_WIDTH, "int8 rows are too wide");
    need(scales->shape(0) == vectors.shape(0) && query_scales->shape(0) == query.shape(0),
         "int8 takes one scale a row");
    need_aligned(*scales);
    need_aligned(*query_scales);
}

Docs docs_of(const Any& vectors, const std::optional<In<float, 1>>& scales,
             const In<std::int64_t, 1>& offsets) {
    const auto bits = vectors.dtype().bits;
    return {vectors.data(),
            scales ? scales->data() : nullptr,
            offsets.data(),
            static_cast<std::int64_t>(offsets.shape(0)) - 1,
            static_cast<std::int64_t>(vectors.shape(1)),
            bits == 32 ? Dtype::fp32 : bits == 16 ? Dtype::fp16 : Dtype::int8};
}

Query query_of(const Any& query, const std::optional<In<float, 1>>& scales) {
    return {query.data(), scales ? scales->data() : nullptr,
            static_cast<std::int64_t>(query.shape(0))};
}

// An array of numpy's that owns what `values` held.
template <class T>
auto array_of(std::vector<T>&& values) {
    auto* kept = new std::vector<T>(std::move(values));
    nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    return nb::ndarray<nb::numpy, T, nb::ndim<1>>(kept->data(), {kept->size()}, owner);
}

// Offsets [n + 1] of which none is less than the one before, within 0 to `total`.
void need_slices(const In<std::int64_t, 1>& offsets, std::int64_t total) {
    need_aligned(offsets);
    const std::int64_t last = side(offsets) - 1;
    need(last >= 0 && offsets(0) >= 0 && offsets(last) <= total,
         "offsets must lie within their values");
    bool rise = true;
    for (std::int64_t n = 0; n < last; ++n) rise &= offsets(n) <= offsets(n + 1);
    need(rise, "offsets must rise");
}

// Where part i of n passages begins.
std::int64_t cut(std::int64_t n, int parts, int i) { return n * i / parts; }

// The arrays of a lattice and of a segment are checked once: nothing may change them from then on.
class Lattice {
  public:
    Lattice(In<std::int8_t, 2> centroids, In<std::int32_t, 1> shifts, In<std::int32_t, 1> weights,
            In<std::uint8_t, 2> shares, In<std::int32_t, 2> penalties)
        : centroids_(centroids), shifts_(shifts), weights_(weights), shares_(shares),
          penalties_(penalties), decoder_(checked()), encoder_(coding()) {}

    Coding coding() const {
        Coding out;
        out.width = side(centroids_, 1);
        out.shifts = shifts_.data();
        out.weights = weights_.data();
        out.shares = shares_.data();
        out.penalties = penalties_.data();
        out.centroids = centroids_.data();
        out.cells = side(centroids_);
        return out;
    }
    const Decoder& decoder() const { return decoder_; }
    const Encoder& encoder() const { return encoder_; }

  private:
    Coding checked() const {
        const std::int64_t width = side(centroids_, 1);
        need(side(centroids_) > 0 && width > 0 && width % UNIT == 0 && width <= MOST_WIDTH,
             "centroids must be one or more, of a width that is a multiple of 32");
        need(side(shifts_) == width / UNIT && side(weights_) == width / UNIT,
             "shifts and weights must be one for 32 dimensions");
        need_aligned(shifts_);
        need_aligned(weights_);
        for (std::int64_t b = 0; b < width / UNIT; ++b)
            need(shifts_(b) >= -CONTEXTS && shifts_(b) <= CONTEXTS && weights_(b) >= 0 &&
                     weights_(b) <= MOST_WEIGHT,
                 "shifts must be -48 to 48, weights 0 to 65536");
        need(side(shares_) == TABLES && side(shares_, 1) == SYMBOLS &&
                 side(penalties_) == TABLES && side(penalties_, 1) == SYMBOLS,
             "shares and penalties must be [51, 64]");
        need_aligned(penalties_);
        for (int c = 0; c < TABLES; ++c) {
            int sum = 0;
            for (int s = 0; s < SYMBOLS; ++s) {
                sum += shares_(c, s);
                need(penalties_(c, s) >= 0 && penalties_(c, s) <= MOST_PENALTY,
                     "penalties must be 0 to 2^24");
            }
            need(sum == STATES, "shares of a table must sum to 128");
        }
        return coding();
    }

    In<std::int8_t, 2> centroids_;
    In<std::int32_t, 1> shifts_, weights_;
    In<std::uint8_t, 2> shares_;
    In<std::int32_t, 2> penalties_;
    Decoder decoder_;
    Encoder encoder_;
};

// Rows of passages as an encoder takes them.
struct Passages {
    In<std::int16_t, 2> fine, along;
    In<std::uint16_t, 1> slots;
    In<std::int64_t, 1> token_offsets;
    In<std::uint16_t, 1> cells;
    In<std::int64_t, 1> cell_offsets;

    void check(const Coding& coding) const {
        need(side(fine) == side(slots) && side(along) == side(slots) &&
                 side(fine, 1) == coding.width && side(along, 1) == coding.width,
             "rows must be of the centroids' width, with one slot each");
        need_aligned(fine);
        need_aligned(along);
        need_aligned(slots);
        need_aligned(cells);
        need_offsets(token_offsets, side(slots));
        need_offsets(cell_offsets, side(cells));
        need(side(cell_offsets) == side(token_offsets), "cells must be those of the passages");
        bool known = true, within = true;
        for (std::int64_t n = 0; n < count(); ++n)
            for (std::int64_t t = token_offsets(n); t < token_offsets(n + 1); ++t)
                known &= slots(t) < cell_offsets(n + 1) - cell_offsets(n);
        for (std::size_t i = 0; i < cells.size(); ++i) known &= cells(i) < coding.cells;
        need(known, "a row names a cell that there is not");
        const std::int16_t* const values = fine.data();
        for (std::size_t i = 0; i < fine.size(); ++i)
            within &= values[i] >= -127 * FINE && values[i] <= 127 * FINE;
        need(within, "rows must lie within 127 steps");
    }
    // What is written must not be what says where to read.
    template <class Written>
    void need_apart_from(const Written& written) const {
        need_apart(written, slots);
        need_apart(written, token_offsets);
        need_apart(written, cells);
        need_apart(written, cell_offsets);
    }
    // How many threads have something to do.
    int useful(int threads) const {
        need(threads >= 1, "threads must be at least 1");
        return static_cast<int>(std::clamp<std::int64_t>(count(), 1, threads));
    }

    std::int64_t count() const { return side(token_offsets) - 1; }
    Passage operator[](std::int64_t n) const {
        const std::int64_t first = token_offsets(n), cell = cell_offsets(n);
        return {fine.data() + first * side(fine, 1), along.data() + first * side(fine, 1),
                slots.data() + first, token_offsets(n + 1) - first, cells.data() + cell,
                cell_offsets(n + 1) - cell};
    }
};

class CodedSegment {
  public:
    CodedSegment(In<std::int64_t, 1> posting_offsets, In<std::uint16_t, 1> postings,
                 In<std::int64_t, 1> cell_offsets, In<std::uint16_t, 1> cells,
                 In<std::int64_t, 1> token_offsets, In<std::uint8_t, 1> codes,
                 In<std::int64_t, 1> code_offsets)
        : posting_offsets_(posting_offsets), postings_(postings), cell_offsets_(cell_offsets),
          cells_(cells), token_offsets_(token_offsets), codes_(codes),
          code_offsets_(code_offsets) {
        need_aligned(postings);
        need_aligned(cells);
        need_slices(posting_offsets, side(postings));
        need_slices(cell_offsets, side(cells));
        need_slices(code_offsets, side(codes));
        need_slices(token_offsets, std::numeric_limits<std::int64_t>::max());
        need(side(cell_offsets) == side(token_offsets) &&
                 side(code_offsets) == side(token_offsets),
             "cells, tokens and codes must be those of the same passages");
        for (std::int64_t i = cell_offsets(0); i < cell_offsets(passages()); ++i)
            beyond_ = std::max<std::int64_t>(beyond_, cells(i) + 1);
    }

    std::int64_t passages() const { return side(token_offsets_) - 1; }
    std::int64_t beyond() const { return beyond_; }  // no cell of a passage is so great
    bool has(std::int64_t passage) const { return passage >= 0 && passage < passages(); }
    Coded view() const {
        return {{posting_offsets_.data(), side(posting_offsets_) - 1, postings_.data(),
                 cell_offsets_.data(), cells_.data(), passages()},
                codes_.data(), code_offsets_.data(), token_offsets_.data(), side(codes_)};
    }
    template <class Written>
    void need_apart_from(const Written& written) const {
        for (const auto* offsets : {&posting_offsets_, &cell_offsets_, &token_offsets_,
                                    &code_offsets_})
            need_apart(written, *offsets);
        need_apart(written, postings_);
        need_apart(written, cells_);
        need_apart(written, codes_);
    }

  private:
    In<std::int64_t, 1> posting_offsets_;
    In<std::uint16_t, 1> postings_;
    In<std::int64_t, 1> cell_offsets_;
    In<std::uint16_t, 1> cells_;
    In<std::int64_t, 1> token_offsets_;
    In<std::uint8_t, 1> codes_;
    In<std::int64_t, 1> code_offsets_;
    std::int64_t beyond_ = 0;
};

// Query tokens as int8 codes and their scales, of some width.
Query coded_query(const In<std::int8_t, 2>& query, const In<float, 1>& scales,
                  std::int64_t width) {
    need(side(query, 1) == width, "the query is of another width");
    need(side(scales) == side(query), "a query takes one scale a token");
    need_aligned(scales);
    return {query.data(), scales.data(), side(query)};
}

}  // namespace

NB_MODULE(_native, m) {
    using Scales = std::optional<In<float, 1>>;
    // Arrays are taken as they are: a copy of one that is written would take the results along.
    const auto any = nb::arg();
    const auto array = nb::arg().noconvert();
    const auto maybe = nb::arg().noconvert().none();

    m.def("instruction_sets", [] {
        std::vector<std::string> names;
        for (const Isa* isa : instruction_sets()) names.push_back(isa->name);
        return names;
    });

    m.def("maxsim", [](const std::string& isa, Any query, Scales query_scales, Any vectors,
                       Scales scales, In<std::int64_t, 1> offsets, int threads,
                       Out<float, 1> scores) {
        nb::gil_scoped_release unlocked;
        need_alike(query, query_scales, vectors, scales);
        need_offsets(offsets, side(vectors));
        need(side(scores) == side(offsets) - 1, "scores must be one a passage");
        need_aligned(scores);
        need_apart(scores, offsets);
        const Docs docs = docs_of(vectors, scales, offsets);
        maxsim(isa_of(isa), query_of(query, query_scales), docs, threads, scores.data());
    }, any, array, maybe, array, maybe, array, any, array);

    m.def("live_tokens", [](In<std::int64_t, 1> offsets, std::optional<In<bool, 1>> alive) {
        need_offsets(offsets);
        need(!alive || side(*alive) == side(offsets) - 1, "alive must be one a passage");
        Docs docs{};
        docs.offsets = offsets.data();
        docs.passages = static_cast<std::int64_t>(offsets.shape(0)) - 1;
        return live_tokens(docs, bytes_of(alive));
    }, array, maybe);

    m.def("token_topk", [](const std::string& isa, Any query, Scales query_scales, Any vectors,
                           Scales scales, In<std::int64_t, 1> offsets,
                           std::optional<In<bool, 1>> alive, int threads,
                           Out<std::int64_t, 2> tokens, Out<float, 2> sims) {
        nb::gil_scoped_release unlocked;
        need_alike(query, query_scales, vectors, scales);
        need_offsets(offsets, side(vectors));
        need(!alive || side(*alive) == side(offsets) - 1, "alive must be one a passage");
        need(tokens.shape(0) == query.shape(0) && sims.shape(0) == query.shape(0) &&
                 tokens.shape(1) == sims.shape(1),
             "tokens and sims must be [Q, K']");
        need_aligned(tokens);
        need_aligned(sims);
        need_apart(tokens, offsets);
        need_apart(sims, offsets);
        const Docs docs = docs_of(vectors, scales, offsets);
        const std::uint8_t* living = bytes_of(alive);
        need(side(tokens, 1) <= live_tokens(docs, living), "there are not so many tokens");
        token_topk(isa_of(isa), query_of(query, query_scales), docs, living, side(tokens, 1),
                   threads, tokens.data(), sims.data());
    }, any, array, maybe, array, maybe, array, maybe, any, array, array);

    m.def("xtr_aggregate", [](In<std::int64_t, 2> tokens, In<float, 2> sims,
                              In<std::int64_t, 1> offsets, In<float, 1> missing) {
        Aggregate out;
        {
            nb::gil_scoped_release unlocked;
            need(tokens.shape(0) == sims.shape(0) && tokens.shape(1) == sims.shape(1) &&
                     tokens.shape(0) == missing.shape(0),
                 "tokens and sims must be [Q, K'], missing [Q]");
            need_aligned(tokens);
            need_aligned(sims);
            need_aligned(missing);
            need_offsets(offsets);
            const std::int64_t total = offsets(offsets.shape(0) - 1);
            bool known = true;
            for (std::size_t i = 0; i < tokens.size(); ++i)
                known &= tokens.data()[i] >= 0 && tokens.data()[i] < total;
            need(known, "tokens must be those of the passages");
            out = xtr_aggregate(tokens.data(), sims.data(),
                                static_cast<std::int64_t>(tokens.shape(0)),
                                static_cast<std::int64_t>(tokens.shape(1)), offsets.data(),
                                static_cast<std::int64_t>(offsets.shape(0)) - 1, missing.data());
        }
        return nb::make_tuple(array_of(std::move(out.passages)), array_of(std::move(out.scores)),
                              array_of(std::move(out.matched)));
    }, array, array, array, array);

    m.def("nearest", [](const std::string& isa, In<std::int8_t, 2> rows,
                        In<std::int8_t, 2> centroids, std::optional<In<std::int64_t, 1>> offsets,
                        std::optional<In<std::int8_t, 2>> centres, std::int64_t probes,
                        int threads, Out<std::int32_t, 1> numbers,
                        Out<std::int32_t, 1> distances) {
        nb::gil_scoped_release unlocked;
        const bool grouped = offsets && centres;
        need(grouped == (offsets || centres), "groups are offsets and centres");
        need(rows.shape(1) == centroids.shape(1) && rows.shape(1) > 0 &&
                 side(rows, 1) <= MOST_EXACT && centroids.shape(0) > 0,
             "centroids must be one or more of the rows' width, 1 to 1024");
        if (grouped) {
            need_offsets(*offsets, side(centroids));
            need(side(*centres) == side(*offsets) - 1 && centres->shape(1) == rows.shape(1),
                 "centres must be one a group, of the rows' width");
            need_apart(numbers, *offsets);
            need_apart(distances, *offsets);
        }
        need(probes > 0, "probes must be at least 1");
        need(numbers.shape(0) == rows.shape(0) && distances.shape(0) == rows.shape(0),
             "numbers and distances must be one a row");
        need_aligned(numbers);
        need_aligned(distances);
        need_apart(numbers, distances);
        const Cells cells{centroids.data(), static_cast<std::int64_t>(centroids.shape(0)),
                          grouped ? offsets->data() : nullptr,
                          grouped ? centres->data() : nullptr,
                          grouped ? static_cast<std::int64_t>(centres->shape(0)) : 0};
        nearest(isa_of(isa), rows.data(), static_cast<std::int64_t>(rows.shape(0)),
                static_cast<std::int64_t>(rows.shape(1)), cells, probes, threads, numbers.data(),
                distances.data());
    }, any, array, array, maybe, maybe, any, any, array, array);

    m.def("cell_sums", [](In<std::int8_t, 2> rows, In<std::int32_t, 1> numbers, int threads,
                          Out<std::int32_t, 2> sums) {
        nb::gil_scoped_release unlocked;
        need(rows.shape(0) == numbers.shape(0) && side(rows) <= MOST_ROWS,
             "numbers must be one a row, of at most 2^24");
        need(rows.shape(1) == sums.shape(1), "sums must be of the rows' width");
        need_aligned(numbers);
        need_aligned(sums);
        need_apart(sums, numbers);
        cell_sums(rows.data(), static_cast<std::int64_t>(rows.shape(0)),
                  static_cast<std::int64_t>(rows.shape(1)), numbers.data(),
                  static_cast<std::int64_t>(sums.shape(0)), threads, sums.data());
    }, array, array, any, array);

    m.def("multiply_add_peak", [](const std::string& isa, const std::string& dtype,
                                  double seconds) {
        need(seconds >= 0 && seconds <= MOST_SECONDS, "seconds must be 0 to 60");
        nb::gil_scoped_release unlocked;
        return multiply_add_peak(isa_of(isa), dtype == "int8" ? Dtype::int8 : Dtype::fp32,
                                 seconds);
    });

    nb::class_<Lattice>(m, "Lattice")
        .def(nb::init<In<std::int8_t, 2>, In<std::int32_t, 1>, In<std::int32_t, 1>,
                      In<std::uint8_t, 2>, In<std::int32_t, 2>>(),
             array, array, array, array, array);

    nb::class_<CodedSegment>(m, "CodedSegment")
        .def(nb::init<In<std::int64_t, 1>, In<std::uint16_t, 1>, In<std::int64_t, 1>,
                      In<std::uint16_t, 1>, In<std::int64_t, 1>, In<std::uint8_t, 1>,
                      In<std::int64_t, 1>>(),
             array, array, array, array, array, array, array);

    m.def("count_symbols", [](const std::string& isa, const Lattice& lattice,
                              In<std::int16_t, 2> fine, In<std::int16_t, 2> along,
                              In<std::uint16_t, 1> slots, In<std::int64_t, 1> token_offsets,
                              In<std::uint16_t, 1> cells, In<std::int64_t, 1> cell_offsets,
                              int threads, Out<std::int64_t, 2> counts) {
        const Passages passages{fine, along, slots, token_offsets, cells, cell_offsets};
        nb::gil_scoped_release unlocked;
        passages.check(lattice.coding());
        need(side(counts) == TABLES && side(counts, 1) == SYMBOLS, "counts must be [51, 64]");
        need_aligned(counts);
        passages.need_apart_from(counts);
        threads = passages.useful(threads);
        const Isa& set = isa_of(isa);
        std::vector<std::vector<std::int64_t>> shares(
            static_cast<std::size_t>(threads), std::vector<std::int64_t>(TABLES * SYMBOLS));
        in_threads(threads, [&](int i) {
            for (std::int64_t n = cut(passages.count(), threads, i);
                 n < cut(passages.count(), threads, i + 1); ++n)
                count_symbols(set, lattice.coding(), passages[n],
                              shares[static_cast<std::size_t>(i)].data());
        });
        for (std::size_t k = 0; k < TABLES * SYMBOLS; ++k) {
            std::uint64_t sum = static_cast<std::uint64_t>(counts.data()[k]);
            for (const auto& share : shares) sum += static_cast<std::uint64_t>(share[k]);
            counts.data()[k] = static_cast<std::int64_t>(sum);
        }
    }, any, any, array, array, array, array, array, array, any, array);

    m.def("encode_passages", [](const std::string& isa, const Lattice& lattice,
                                In<std::int16_t, 2> fine, In<std::int16_t, 2> along,
                                In<std::uint16_t, 1> slots, In<std::int64_t, 1> token_offsets,
                                In<std::uint16_t, 1> cells, In<std::int64_t, 1> cell_offsets,
                                int threads, Out<std::int64_t, 1> ends,
                                Out<std::int8_t, 2> rows) {
        const Passages passages{fine, along, slots, token_offsets, cells, cell_offsets};
        std::vector<std::vector<std::uint8_t>> shares;
        std::atomic<bool> good{true};
        {
            nb::gil_scoped_release unlocked;
            passages.check(lattice.coding());
            need(side(ends) == passages.count(), "ends must be one a passage");
            need(side(rows) == side(fine) && side(rows, 1) == side(fine, 1),
                 "what is said must be of the rows' shape");
            need_aligned(ends);
            passages.need_apart_from(ends);
            passages.need_apart_from(rows);
            need_apart(ends, rows);
            threads = passages.useful(threads);
            const Isa& set = isa_of(isa);
            shares.resize(static_cast<std::size_t>(threads));
            in_threads(threads, [&](int i) {
                auto& mine = shares[static_cast<std::size_t>(i)];
                for (std::int64_t n = cut(passages.count(), threads, i);
                     n < cut(passages.count(), threads, i + 1); ++n) {
                    if (!lattice.encoder().encode(
                            set, passages[n], mine,
                            rows.data() + token_offsets(n) * lattice.coding().width))
                        good = false;
                    ends.data()[n] = static_cast<std::int64_t>(mine.size());
                }
            });
            std::int64_t base = 0;
            for (int i = 0; i < threads; ++i) {
                for (std::int64_t n = cut(passages.count(), threads, i);
                     n < cut(passages.count(), threads, i + 1); ++n)
                    ends.data()[n] += base;
                base += static_cast<std::int64_t>(shares[static_cast<std::size_t>(i)].size());
                if (i) shares[0].insert(shares[0].end(), shares[static_cast<std::size_t>(i)].begin(),
                                        shares[static_cast<std::size_t>(i)].end());
            }
        }
        if (!good) throw nb::value_error("a table of the codes lacks a symbol that is needed");
        return array_of(std::move(shares[0]));
    }, any, any, array, array, array, array, array, array, any, array, array);

    m.def("decode_passage", [](const std::string& isa, const Lattice& lattice,
                               const CodedSegment& segment, std::int64_t n,
                               Out<std::int8_t, 2> rows) {
        need(segment.has(n), "there is no such passage");
        const Code code = segment.view().code(n);
        need(side(rows) == code.count && side(rows, 1) == lattice.coding().width,
             "rows must be those of the passage");
        segment.need_apart_from(rows);
        return lattice.decoder().decode(isa_of(isa), code, rows.data());
    }, any, any, any, any, array);

    m.def("score_cells", [](const std::string& isa, In<std::int8_t, 2> query, In<float, 1> scales,
                            In<std::int8_t, 2> centroids, In<float, 1> ones, float unit,
                            Out<std::uint8_t, 2> table, Out<std::int32_t, 2> nearest,
                            Out<float, 2> sims) {
        nb::gil_scoped_release unlocked;
        const Query tokens = coded_query(query, scales, side(centroids, 1));
        need(side(centroids, 1) <= MOST_WIDTH, "int8 rows are too wide");
        need(side(ones) == side(centroids), "int8 takes one scale a row");
        need(side(table) == side(centroids) && side(table, 1) >= side(query) &&
                 side(table, 1) % TABLE_UNIT == 0,
             "the table must be [C, L], L a multiple of 16 and no less than the query's tokens");
        need(side(nearest) == side(query) && side(sims) == side(query) &&
                 side(nearest, 1) == side(sims, 1),
             "nearest and sims must be [Q, K]");
        need(side(nearest, 1) >= 1 && side(nearest, 1) <= side(centroids),
             "there are not so many cells");
        need_aligned(ones);
        need_aligned(nearest);
        need_aligned(sims);
        const std::int64_t offsets[] = {0, side(centroids)};
        const Docs docs{centroids.data(), ones.data(), offsets, 1, side(centroids, 1),
                        Dtype::int8};
        score_cells(isa_of(isa), tokens, docs, side(nearest, 1), unit, side(table, 1),
                    table.data(), nearest.data(), sims.data());
    }, any, array, array, array, array, any, array, array, array);

    m.def("probe", [](const CodedSegment& segment, In<std::int32_t, 2> nearest, In<float, 2> sims,
                      In<float, 1> missing, std::optional<In<bool, 1>> allowed,
                      std::int64_t most) {
        Found found;
        {
            nb::gil_scoped_release unlocked;
            need(side(sims) == side(nearest) && side(sims, 1) == side(nearest, 1) &&
                     side(missing) == side(nearest) && side(nearest) <= MOST_ROWS,
                 "nearest and sims must be [Q, K], missing [Q], Q at most 2^24");
            need(!allowed || side(*allowed) == segment.passages(),
                 "allowed must be one a passage");
            need(most >= 0, "passages must be 0 or more");
            need_aligned(nearest);
            need_aligned(sims);
            need_aligned(missing);
            found = probe(segment.view().cells, nearest.data(), sims.data(), missing.data(),
                          side(nearest), side(nearest, 1), bytes_of(allowed), most);
        }
        return nb::make_tuple(array_of(std::move(found.passages)), array_of(std::move(found.gains)));
    }, any, array, array, array, maybe, any);

    m.def("interact", [](const std::string& isa, const CodedSegment& segment,
                         In<std::uint8_t, 2> table, std::int64_t tokens,
                         std::optional<In<std::int64_t, 1>> passages, Out<std::int32_t, 1> sums) {
        nb::gil_scoped_release unlocked;
        need(side(table, 1) % TABLE_UNIT == 0 && tokens >= 0 && tokens <= side(table, 1) &&
                 tokens <= MOST_ROWS / 2,
             "the table must be [C, L], L a multiple of 16 and no less than the query's tokens");
        need(segment.beyond() <= side(table), "a passage names a cell that there is not");
        need(side(sums) == (passages ? side(*passages) : segment.passages()),
             "sums must be one a passage");
        need_aligned(sums);
        segment.need_apart_from(sums);
        if (passages) {
            need_aligned(*passages);
            need_apart(sums, *passages);
            bool known = true;
            for (std::int64_t i = 0; i < side(*passages); ++i) known &= segment.has((*passages)(i));
            need(known, "there is no such passage");
        }
        interact(isa_of(isa), segment.view().cells, table.data(), tokens, side(table, 1),
                 passages ? passages->data() : nullptr, side(sums), sums.data());
    }, any, any, array, any, maybe, array);

    m.def("refine", [](const std::string& isa, const Lattice& lattice, In<std::int8_t, 2> query,
                       In<float, 1> scales, nb::list segments, In<std::int64_t, 1> owners,
                       In<std::int64_t, 1> passages, In<float, 1> expected, std::int64_t keep,
                       float margin, int threads, Out<float, 2> sims) {
        const Query tokens = coded_query(query, scales, lattice.coding().width);
        need(side(owners) == side(passages) && side(expected) == side(passages),
             "owners and expected must be one a passage");
        need(side(sims) == side(passages) && side(sims, 1) == side(query),
             "sims must be one a passage and token of the query");
        need(keep >= 1 && threads >= 1, "keep and threads must be at least 1");
        need(!std::isnan(margin), "margin must be a number");
        need_aligned(owners);
        need_aligned(passages);
        need_aligned(expected);
        need_aligned(sims);
        std::vector<Coded> parts;
        std::vector<std::int64_t> sizes;
        for (nb::handle segment : segments) {
            const auto& held = nb::cast<const CodedSegment&>(segment);
            held.need_apart_from(sims);
            parts.push_back(held.view());
            sizes.push_back(held.passages());
        }
        std::vector<Place> places;
        for (std::int64_t i = 0; i < side(passages); ++i) {
            const std::int64_t owner = owners(i), n = passages(i);
            need(owner >= 0 && owner < static_cast<std::int64_t>(parts.size()) && n >= 0 &&
                     n < sizes[static_cast<std::size_t>(owner)],
                 "there is no such passage");
            places.push_back({static_cast<std::int32_t>(owner), n});
        }
        nb::gil_scoped_release unlocked;
        return refine(isa_of(isa), lattice.decoder(), tokens, parts.data(), places.data(),
                      expected.data(), static_cast<std::int64_t>(places.size()), keep, margin,
                      threads, sims.data());
    }, any, any, array, array, any, array, array, array, any, any, any, array);
}
