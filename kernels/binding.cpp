// The core for Python: tokret/kernels/native.py checks what comes in.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <utility>

#include "core.h"

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
}
