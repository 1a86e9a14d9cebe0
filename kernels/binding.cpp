// The core for Python: tokret/kernels/native.py checks what comes in.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

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

// Rows of passages as an encoder takes them.
struct Passages {
    In<std::int8_t, 2> rows;
    In<std::uint16_t, 1> slots;
    In<std::int64_t, 1> token_offsets;
    In<std::uint16_t, 1> cells;
    In<std::int64_t, 1> cell_offsets;

    std::int64_t count() const { return static_cast<std::int64_t>(token_offsets.shape(0)) - 1; }
    Passage operator[](std::int64_t n) const {
        const std::int64_t first = token_offsets(n), cell = cell_offsets(n);
        return {rows.data() + first * static_cast<std::int64_t>(rows.shape(1)),
                slots.data() + first, token_offsets(n + 1) - first, cells.data() + cell,
                cell_offsets(n + 1) - cell};
    }
};

// Where part i of n passages begins.
std::int64_t cut(std::int64_t n, int parts, int i) { return n * i / parts; }

class Lattice {
  public:
    Lattice(In<std::int8_t, 2> centroids, In<std::int32_t, 1> shifts, In<std::int32_t, 1> weights,
            In<std::uint16_t, 2> shares)
        : centroids_(centroids), shifts_(shifts), weights_(weights), shares_(shares),
          decoder_(coding()), encoder_(coding()) {}

    Coding coding() const {
        Coding out;
        out.width = static_cast<std::int64_t>(centroids_.shape(1));
        out.shifts = shifts_.data();
        out.weights = weights_.data();
        out.shares = shares_.data();
        out.centroids = centroids_.data();
        out.cells = static_cast<std::int64_t>(centroids_.shape(0));
        return out;
    }
    const Decoder& decoder() const { return decoder_; }
    const Encoder& encoder() const { return encoder_; }

  private:
    In<std::int8_t, 2> centroids_;
    In<std::int32_t, 1> shifts_, weights_;
    In<std::uint16_t, 2> shares_;
    Decoder decoder_;
    Encoder encoder_;
};

struct CodedSegment {
    In<std::int64_t, 1> posting_offsets;
    In<std::uint16_t, 1> postings;
    In<std::int64_t, 1> cell_offsets;
    In<std::uint16_t, 1> cells;
    In<std::int64_t, 1> token_offsets;
    In<std::uint8_t, 1> codes;
    In<std::int64_t, 1> code_offsets;

    Coded view() const {
        return {{posting_offsets.data(), static_cast<std::int64_t>(posting_offsets.shape(0)) - 1,
                 postings.data(), cell_offsets.data(), cells.data(),
                 static_cast<std::int64_t>(token_offsets.shape(0)) - 1},
                codes.data(), code_offsets.data(), token_offsets.data(),
                static_cast<std::int64_t>(codes.shape(0))};
    }
};

}  // namespace

NB_MODULE(_native, m) {
    using Scales = std::optional<In<float, 1>>;

    m.def("instruction_sets", [] {
        std::vector<std::string> names;
        for (const Isa* isa : instruction_sets()) names.push_back(isa->name);
        return names;
    });

    m.def("maxsim", [](const std::string& isa, Any query, Scales query_scales, Any vectors,
                       Scales scales, In<std::int64_t, 1> offsets, int threads,
                       Out<float, 1> scores) {
        const Docs docs = docs_of(vectors, scales, offsets);
        nb::gil_scoped_release unlocked;
        maxsim(isa_of(isa), query_of(query, query_scales), docs, threads, scores.data());
    }, nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg(),
       nb::arg());

    m.def("live_tokens", [](In<std::int64_t, 1> offsets, std::optional<In<bool, 1>> alive) {
        Docs docs{};
        docs.offsets = offsets.data();
        docs.passages = static_cast<std::int64_t>(offsets.shape(0)) - 1;
        return live_tokens(docs, alive ? alive->data() : nullptr);
    }, nb::arg(), nb::arg().none());

    m.def("token_topk", [](const std::string& isa, Any query, Scales query_scales, Any vectors,
                           Scales scales, In<std::int64_t, 1> offsets,
                           std::optional<In<bool, 1>> alive, int threads,
                           Out<std::int64_t, 2> tokens, Out<float, 2> sims) {
        const Docs docs = docs_of(vectors, scales, offsets);
        nb::gil_scoped_release unlocked;
        token_topk(isa_of(isa), query_of(query, query_scales), docs,
                   alive ? alive->data() : nullptr, static_cast<std::int64_t>(tokens.shape(1)),
                   threads, tokens.data(), sims.data());
    }, nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg().none(), nb::arg(),
       nb::arg().none(), nb::arg(), nb::arg(), nb::arg());

    m.def("xtr_aggregate", [](In<std::int64_t, 2> tokens, In<float, 2> sims,
                              In<std::int64_t, 1> offsets, In<float, 1> missing) {
        Aggregate out;
        {
            nb::gil_scoped_release unlocked;
            out = xtr_aggregate(tokens.data(), sims.data(),
                                static_cast<std::int64_t>(tokens.shape(0)),
                                static_cast<std::int64_t>(tokens.shape(1)), offsets.data(),
                                static_cast<std::int64_t>(offsets.shape(0)) - 1, missing.data());
        }
        return nb::make_tuple(array_of(std::move(out.passages)), array_of(std::move(out.scores)),
                              array_of(std::move(out.matched)));
    });

    m.def("nearest", [](const std::string& isa, In<std::int8_t, 2> rows,
                        In<std::int8_t, 2> centroids, std::optional<In<std::int64_t, 1>> offsets,
                        std::optional<In<std::int8_t, 2>> centres, std::int64_t probes,
                        int threads, Out<std::int32_t, 1> numbers,
                        Out<std::int32_t, 1> distances) {
        const bool grouped = offsets && centres;
        const Cells cells{centroids.data(), static_cast<std::int64_t>(centroids.shape(0)),
                          grouped ? offsets->data() : nullptr,
                          grouped ? centres->data() : nullptr,
                          grouped ? static_cast<std::int64_t>(centres->shape(0)) : 0};
        nb::gil_scoped_release unlocked;
        nearest(isa_of(isa), rows.data(), static_cast<std::int64_t>(rows.shape(0)),
                static_cast<std::int64_t>(rows.shape(1)), cells, probes, threads, numbers.data(),
                distances.data());
    }, nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg().none(), nb::arg(), nb::arg(),
       nb::arg(), nb::arg());

    m.def("cell_sums", [](In<std::int8_t, 2> rows, In<std::int32_t, 1> numbers, int threads,
                          Out<std::int32_t, 2> sums) {
        nb::gil_scoped_release unlocked;
        cell_sums(rows.data(), static_cast<std::int64_t>(rows.shape(0)),
                  static_cast<std::int64_t>(rows.shape(1)), numbers.data(),
                  static_cast<std::int64_t>(sums.shape(0)), threads, sums.data());
    });

    m.def("multiply_add_peak", [](const std::string& isa, const std::string& dtype,
                                  double seconds) {
        nb::gil_scoped_release unlocked;
        return multiply_add_peak(isa_of(isa), dtype == "int8" ? Dtype::int8 : Dtype::fp32,
                                 seconds);
    });

    nb::class_<Lattice>(m, "Lattice")
        .def(nb::init<In<std::int8_t, 2>, In<std::int32_t, 1>, In<std::int32_t, 1>,
                      In<std::uint16_t, 2>>());

    nb::class_<CodedSegment>(m, "CodedSegment")
        .def("__init__", [](CodedSegment* self, In<std::int64_t, 1> posting_offsets,
                            In<std::uint16_t, 1> postings, In<std::int64_t, 1> cell_offsets,
                            In<std::uint16_t, 1> cells, In<std::int64_t, 1> token_offsets,
                            In<std::uint8_t, 1> codes, In<std::int64_t, 1> code_offsets) {
            new (self) CodedSegment{posting_offsets, postings, cell_offsets, cells, token_offsets,
                                    codes, code_offsets};
        });

    m.def("count_symbols", [](const Lattice& lattice, In<std::int8_t, 2> rows,
                              In<std::uint16_t, 1> slots, In<std::int64_t, 1> token_offsets,
                              In<std::uint16_t, 1> cells, In<std::int64_t, 1> cell_offsets,
                              int threads, Out<std::int64_t, 2> counts) {
        const Passages passages{rows, slots, token_offsets, cells, cell_offsets};
        nb::gil_scoped_release unlocked;
        std::vector<std::vector<std::int64_t>> shares(
            static_cast<std::size_t>(threads), std::vector<std::int64_t>(CONTEXTS * SYMBOLS));
        in_threads(threads, [&](int i) {
            for (std::int64_t n = cut(passages.count(), threads, i);
                 n < cut(passages.count(), threads, i + 1); ++n)
                count_symbols(lattice.coding(), passages[n],
                              shares[static_cast<std::size_t>(i)].data());
        });
        for (const auto& share : shares)
            for (std::size_t k = 0; k < share.size(); ++k) counts.data()[k] += share[k];
    });

    m.def("encode_passages", [](const Lattice& lattice, In<std::int8_t, 2> rows,
                                In<std::uint16_t, 1> slots, In<std::int64_t, 1> token_offsets,
                                In<std::uint16_t, 1> cells, In<std::int64_t, 1> cell_offsets,
                                int threads, Out<std::int64_t, 1> ends) {
        const Passages passages{rows, slots, token_offsets, cells, cell_offsets};
        std::vector<std::vector<std::uint8_t>> shares(static_cast<std::size_t>(threads));
        {
            nb::gil_scoped_release unlocked;
            in_threads(threads, [&](int i) {
                auto& mine = shares[static_cast<std::size_t>(i)];
                for (std::int64_t n = cut(passages.count(), threads, i);
                     n < cut(passages.count(), threads, i + 1); ++n) {
                    lattice.encoder().encode(passages[n], mine);
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
        return array_of(std::move(shares[0]));
    });

    m.def("decode_passage", [](const std::string& isa, const Lattice& lattice,
                               const CodedSegment& segment, std::int64_t n,
                               Out<std::int8_t, 2> rows) {
        const Coded coded = segment.view();
        const std::int64_t first = coded.code_offsets[n];
        const Code code{coded.bytes + first, coded.code_offsets[n + 1] - first, coded.size - first,
                        coded.cells.cells + coded.cells.cell_offsets[n],
                        coded.cells.cell_offsets[n + 1] - coded.cells.cell_offsets[n],
                        coded.token_offsets[n + 1] - coded.token_offsets[n]};
        return lattice.decoder().decode(isa_of(isa), code, rows.data());
    });

    m.def("score_cells", [](const std::string& isa, In<std::int8_t, 2> query, In<float, 1> scales,
                            In<std::int8_t, 2> centroids, In<float, 1> ones, float unit,
                            Out<std::uint8_t, 2> table, Out<std::int32_t, 2> nearest,
                            Out<float, 2> sims) {
        const std::int64_t offsets[] = {0, static_cast<std::int64_t>(centroids.shape(0))};
        const Docs docs{centroids.data(), ones.data(), offsets, 1,
                        static_cast<std::int64_t>(centroids.shape(1)), Dtype::int8};
        const Query tokens{query.data(), scales.data(), static_cast<std::int64_t>(query.shape(0))};
        nb::gil_scoped_release unlocked;
        score_cells(isa_of(isa), tokens, docs, static_cast<std::int64_t>(nearest.shape(1)), unit,
                    static_cast<std::int64_t>(table.shape(1)), table.data(), nearest.data(),
                    sims.data());
    });

    m.def("probe", [](const CodedSegment& segment, In<std::int32_t, 2> nearest, In<float, 2> sims,
                      In<float, 1> missing, std::optional<In<bool, 1>> allowed,
                      std::int64_t most) {
        Found found;
        {
            nb::gil_scoped_release unlocked;
            found = probe(segment.view().cells, nearest.data(), sims.data(), missing.data(),
                          static_cast<std::int64_t>(nearest.shape(0)),
                          static_cast<std::int64_t>(nearest.shape(1)),
                          allowed ? allowed->data() : nullptr, most);
        }
        return nb::make_tuple(array_of(std::move(found.passages)), array_of(std::move(found.gains)));
    }, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg());

    m.def("interact", [](const std::string& isa, const CodedSegment& segment,
                         In<std::uint8_t, 2> table, std::int64_t tokens,
                         std::optional<In<std::int64_t, 1>> passages, Out<std::int32_t, 1> sums) {
        nb::gil_scoped_release unlocked;
        interact(isa_of(isa), segment.view().cells, table.data(), tokens,
                 static_cast<std::int64_t>(table.shape(1)), passages ? passages->data() : nullptr,
                 static_cast<std::int64_t>(sums.shape(0)), sums.data());
    }, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg());

    m.def("refine", [](const std::string& isa, const Lattice& lattice, In<std::int8_t, 2> query,
                       In<float, 1> scales, nb::list segments, In<std::int64_t, 1> owners,
                       In<std::int64_t, 1> passages, In<float, 1> expected, std::int64_t keep,
                       float margin, int threads, Out<float, 2> sims) {
        std::vector<Coded> parts;
        for (nb::handle segment : segments)
            parts.push_back(nb::cast<const CodedSegment&>(segment).view());
        std::vector<Place> places;
        for (std::size_t i = 0; i < passages.shape(0); ++i)
            places.push_back({static_cast<std::int32_t>(owners(i)), passages(i)});
        const Query tokens{query.data(), scales.data(), static_cast<std::int64_t>(query.shape(0))};
        nb::gil_scoped_release unlocked;
        return refine(isa_of(isa), lattice.decoder(), tokens, parts.data(), places.data(),
                      expected.data(), static_cast<std::int64_t>(places.size()), keep, margin,
                      threads, sims.data());
    });
}
