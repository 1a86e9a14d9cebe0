// What maxsim and token_topk share: the packed query, rows made ready, and threads.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "core.h"

namespace tokret {

// Memory that starts a cache line, zeroed.
class Bytes {
  public:
    explicit Bytes(std::int64_t size = 0) : bytes_(static_cast<std::size_t>(size + LINE)) {}
    unsigned char* data() {
        return bytes_.data() + (LINE - reinterpret_cast<std::uintptr_t>(bytes_.data()) % LINE);
    }
    const unsigned char* data() const { return const_cast<Bytes*>(this)->data(); }

    static constexpr std::int64_t LINE = 64;

  private:
    std::vector<unsigned char> bytes_;
};

// Query tokens laid out in lanes, a group for each pass over a block of rows.
class Packed {
  public:
    Packed(const Isa& isa, const Query& query, const Docs& docs);

    struct Group {
        std::int64_t first;  // query token of lane 0
        std::int64_t lanes;
        std::int64_t place;  // where its query begins, in bytes
    };
    const std::vector<Group>& groups() const { return groups_; }
    std::int64_t lanes() const { return lanes_; }  // of all groups
    std::int64_t stride() const { return stride_; }
    std::int64_t steps() const { return steps_; }
    const void* query(const Group& group) const { return bytes_.data() + group.place; }
    const std::int32_t* start(const Group& group) const { return start_.data() + group.first; }
    const float* scales(const Group& group) const { return scales_.data() + group.first; }

  private:
    template <class From, class To>
    void lay(const From* query, std::int64_t tokens, std::int64_t width, std::int64_t unit);

    std::vector<Group> groups_;
    Bytes bytes_;
    std::vector<std::int32_t> start_;
    std::vector<float> scales_;
    std::int64_t lanes_ = 0, steps_ = 0, stride_ = 0;
};

// Rows of token vectors as the instruction set reads them, a few at a time.
class Rows {
  public:
    Rows(const Isa& isa, const Packed& packed, const Docs& docs);

    // How many rows one block may have.
    std::int64_t limit() const { return limit_; }

    // Rows first:first + count ready for use; the next call overwrites them.
    Block block(std::int64_t first, std::int64_t count);

  private:
    const Isa& isa_;
    const Packed& packed_;
    const Docs& docs_;
    std::int64_t limit_;
    Bytes bytes_;
};

// Call work(i) for i in 0:parts, each in a thread of its own; what one throws is thrown here.
void in_threads(int parts, const std::function<void(int)>& work);

// How many threads are worth starting for so many multiply-adds.
int useful_threads(int threads, double multiply_adds);

}  // namespace tokret
