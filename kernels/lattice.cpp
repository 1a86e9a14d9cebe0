#include "lattice.h"

#include <algorithm>
#include <cstring>

namespace tokret {

namespace {

enum Kind : std::uint8_t { CENTROID, ROW, BETWEEN, SHIFTED };

std::int8_t clipped(int x) { return static_cast<std::int8_t>(std::clamp(x, -127, 127)); }

// What a row is expected to be: its centroid c, an earlier row p, the middle of both, or its
// centroid moved by half of what the earlier row lies from its own centroid o.
int predicted(int kind, int c, int p, int o) {
    switch (kind) {
        case CENTROID: return c;
        case ROW: return p;
        case BETWEEN: return (c + p) >> 1;
        default: return c + ((p - o) >> 1);
    }
}

std::int32_t dot(const std::int16_t* a, const std::int16_t* b, std::int64_t n) {
    std::int32_t sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
    return sum;
}

// Where a band of a row of `width` ends.
std::int64_t band_end(std::int64_t width, int band) {
    constexpr std::int64_t ends[BANDS] = {1, 4, 8, 12, 14, 16};
    return width / UNIT * ends[band];
}

// Which symbol each state stands for: every symbol's share, strewn over the table.
void strew(const std::uint16_t* shares, std::uint8_t* symbols) {
    constexpr int STEP = (STATES >> 1) + (STATES >> 3) + 3;
    std::fill(symbols, symbols + STATES, std::uint8_t(ESCAPE));  // shares may not be set yet
    int at = 0;
    for (int s = 0; s < SYMBOLS; ++s)
        for (int i = 0; i < shares[s]; ++i, at = (at + STEP) & (STATES - 1))
            symbols[at] = static_cast<std::uint8_t>(s);
}

int log2_of(std::uint32_t x) {
    int bits = 0;
    while (x >>= 1) ++bits;
    return bits;
}

int symbol_of(int residual) {
    return residual >= -31 && residual <= 31 ? residual + 31 : ESCAPE;
}

void residual_of(const Coding& coding, const Passage& passage, const Plan& plan, std::int64_t t,
                 std::int16_t* out) {
    const std::int64_t width = coding.width;
    const auto centroid = [&](std::int64_t row) {
        return coding.centroids + passage.cells[passage.slots[row]] * width;
    };
    const std::int8_t* n = passage.rows + t * width;
    const std::int8_t* c = centroid(t);
    const std::int8_t* p = plan.back ? passage.rows + (t - plan.back) * width : c;
    const std::int8_t* o = plan.back ? centroid(t - plan.back) : c;
    for (std::int64_t h = 0; h < width; ++h)
        out[h] = static_cast<std::int16_t>(n[h] - clipped(predicted(plan.kind, c[h], p[h], o[h])));
}

// The size class by the weighted energy of a residual.
std::uint8_t size_of(const Coding& coding, const std::int16_t* residual) {
    std::int64_t energy = 0, h = 0;
    for (int b = 0; b < BANDS; ++b) {
        std::int64_t sum = 0;
        for (; h < band_end(coding.width, b); ++h) sum += residual[h] * residual[h];
        energy += sum * coding.weights[b];
    }
    energy /= coding.width;  // mean square, in units of 1/256
    int size = 0;
    while (size + 1 < CLASSES && energy >= std::int64_t(16) << (size + 1)) ++size;
    return static_cast<std::uint8_t>(size);
}

bool wide_slots(std::int64_t cell_count) { return cell_count > 256; }

}  // namespace

std::vector<Plan> plan(const Coding& coding, const Passage& passage) {
    const std::int64_t width = coding.width, count = passage.count, cells = passage.cell_count;
    std::vector<std::int16_t> rows(static_cast<std::size_t>(count * width));
    std::vector<std::int16_t> centres(static_cast<std::size_t>(cells * width));
    for (std::int64_t i = 0; i < count * width; ++i) rows[static_cast<std::size_t>(i)] = passage.rows[i];
    for (std::int64_t s = 0; s < cells; ++s)
        for (std::int64_t h = 0; h < width; ++h)
            centres[static_cast<std::size_t>(s * width + h)] =
                coding.centroids[passage.cells[s] * width + h];
    const auto row = [&](std::int64_t t) { return rows.data() + t * width; };
    const auto centre = [&](std::int64_t s) { return centres.data() + s * width; };

    std::vector<std::int32_t> between(static_cast<std::size_t>(cells * cells));  // c . c
    for (std::int64_t s = 0; s < cells; ++s)
        for (std::int64_t z = 0; z <= s; ++z)
            between[static_cast<std::size_t>(s * cells + z)] =
                between[static_cast<std::size_t>(z * cells + s)] = dot(centre(s), centre(z), width);
    std::vector<std::int32_t> with(static_cast<std::size_t>(count * cells));  // n . c
    for (std::int64_t t = 0; t < count; ++t)
        for (std::int64_t s = 0; s < cells; ++s)
            with[static_cast<std::size_t>(t * cells + s)] = dot(row(t), centre(s), width);

    std::vector<std::int32_t> square(static_cast<std::size_t>(count));
    std::vector<Plan> plans(static_cast<std::size_t>(count));
    std::vector<std::int16_t> left(static_cast<std::size_t>(width));
    for (std::int64_t t = 0; t < count; ++t) {
        const std::int64_t s = passage.slots[t];
        const std::int32_t nn = square[static_cast<std::size_t>(t)] = dot(row(t), row(t), width);
        const std::int32_t* nc = with.data() + t * cells;
        const std::int64_t cc = between[static_cast<std::size_t>(s * cells + s)];
        // Four times the squared distance from each prediction, roundings aside.
        std::int64_t best = 4 * (std::int64_t(nn) - 2 * nc[s] + cc);
        Plan mine{0, CENTROID, 0};
        const auto offer = [&](std::int64_t distance, std::int64_t p, Kind kind) {
            if (distance >= best) return;
            best = distance;
            mine = {static_cast<std::uint8_t>(t - p), kind, 0};
        };
        for (std::int64_t p = std::max<std::int64_t>(0, t - MOST_BACK); p < t; ++p) {
            const std::int64_t np = dot(row(t), row(p), width);
            const std::int64_t pp = square[static_cast<std::size_t>(p)];
            const std::int64_t z = passage.slots[p];
            const std::int32_t* pc = with.data() + p * cells;
            const std::int64_t cz = between[static_cast<std::size_t>(s * cells + z)];
            const std::int64_t zz = between[static_cast<std::size_t>(z * cells + z)];
            offer(4 * (nn - 2 * np + pp), p, ROW);
            offer(4 * nn - 4 * (nc[s] + np) + cc + pp + 2 * pc[s], p, BETWEEN);
            // |n - c - (p - o) / 2|^2, with o the centroid of p
            offer(4 * (nn - 2 * nc[s] + cc) + (pp - 2 * pc[z] + zz) -
                      4 * (np - nc[z] - pc[s] + cz),
                  p, SHIFTED);
        }
        residual_of(coding, passage, mine, t, left.data());
        mine.size = size_of(coding, left.data());
        plans[static_cast<std::size_t>(t)] = mine;
    }
    return plans;
}

void count_symbols(const Coding& coding, const Passage& passage, std::int64_t* counts) {
    const std::vector<Plan> plans = plan(coding, passage);
    std::vector<std::int16_t> left(static_cast<std::size_t>(coding.width));
    for (std::int64_t t = 0; t < passage.count; ++t) {
        const Plan& mine = plans[static_cast<std::size_t>(t)];
        residual_of(coding, passage, mine, t, left.data());
        std::int64_t h = 0;
        for (int b = 0; b < BANDS; ++b) {
            std::int64_t* row = counts + coding.context(mine.size, b) * SYMBOLS;
            for (; h < band_end(coding.width, b); ++h) ++row[symbol_of(left[static_cast<std::size_t>(h)])];
        }
    }
}

Encoder::Encoder(const Coding& coding)
    : coding_(coding), next_(CONTEXTS * STATES), first_(CONTEXTS * SYMBOLS) {
    for (int c = 0; c < CONTEXTS; ++c) {
        const std::uint16_t* shares = coding.shares + c * SYMBOLS;
        std::uint16_t* first = first_.data() + c * SYMBOLS;
        for (int s = 0, sum = 0; s < SYMBOLS; sum += shares[s++])
            first[s] = static_cast<std::uint16_t>(sum);
        std::uint8_t symbols[STATES];
        strew(shares, symbols);
        std::uint16_t seen[SYMBOLS] = {};
        for (int state = 0; state < STATES; ++state) {
            const int s = symbols[state];
            next_[static_cast<std::size_t>(c * STATES + first[s] + seen[s]++)] =
                static_cast<std::uint16_t>(state);
        }
    }
}

void Encoder::encode(const Passage& passage, std::vector<std::uint8_t>& out) const {
    const std::int64_t width = coding_.width, count = passage.count;
    if (count == 0) return;
    const std::vector<Plan> plans = plan(coding_, passage);
    for (const Plan& mine : plans) out.push_back(mine.back);
    for (const Plan& mine : plans)
        out.push_back(static_cast<std::uint8_t>(mine.kind << 4 | mine.size));
    const auto put = [&](std::uint32_t value, int bytes) {
        for (int i = 0; i < bytes; ++i) out.push_back(static_cast<std::uint8_t>(value >> 8 * i));
    };
    for (std::int64_t t = 0; t < count; ++t)
        put(passage.slots[t], wide_slots(passage.cell_count) ? 2 : 1);

    std::vector<std::uint8_t> symbols(static_cast<std::size_t>(count * width));
    std::vector<std::int16_t> left(static_cast<std::size_t>(width));
    std::vector<std::uint8_t> escapes;
    std::uint32_t escaped = 0;
    std::int64_t last = -1;  // row with an escape
    for (std::int64_t t = 0; t < count; ++t) {
        const Plan& mine = plans[static_cast<std::size_t>(t)];
        residual_of(coding_, passage, mine, t, left.data());
        std::int64_t h = 0;
        for (int b = 0; b < BANDS; ++b) {
            const std::uint16_t* shares = coding_.shares + coding_.context(mine.size, b) * SYMBOLS;
            for (; h < band_end(width, b); ++h) {
                const int residual = left[static_cast<std::size_t>(h)];
                int s = symbol_of(residual);
                if (s == ESCAPE || shares[s] == 0 || t - last == MOST_APART) {
                    s = ESCAPE;
                    ++escaped;
                    last = t;
                    for (std::int64_t value : {t, t >> 8, h, h >> 8})
                        escapes.push_back(static_cast<std::uint8_t>(value));
                    escapes.push_back(static_cast<std::uint8_t>(residual));  // modulo 256
                }
                symbols[static_cast<std::size_t>(t * width + h)] = static_cast<std::uint8_t>(s);
            }
        }
    }
    put(escaped, 4);
    out.insert(out.end(), escapes.begin(), escapes.end());

    // A stream is written from its last symbol to its first, and read the other way round.
    std::vector<std::uint8_t> streams[STREAMS];
    std::uint16_t states[STREAMS];
    std::vector<std::uint16_t> pieces;  // bits << 4 | how many
    for (int k = 0; k < STREAMS; ++k) {
        std::uint32_t state = 0;
        pieces.clear();
        for (std::int64_t t = count - 1; t >= 0; --t) {
            int b = BANDS - 1;
            for (std::int64_t h = width / STREAMS * (k + 1) - 1; h >= width / STREAMS * k; --h) {
                while (b > 0 && h < band_end(width, b - 1)) --b;
                const int c = coding_.context(plans[static_cast<std::size_t>(t)].size, b);
                const int s = symbols[static_cast<std::size_t>(t * width + h)];
                const std::uint32_t share = coding_.shares[c * SYMBOLS + s];
                const std::uint32_t from = state + STATES;
                int bits = STATE_BITS - log2_of(share);
                if (from >> bits < share) --bits;
                else if (from >> bits >= 2 * share) ++bits;
                pieces.push_back(static_cast<std::uint16_t>((from & ((1u << bits) - 1)) << 4 | bits));
                state = next_[c * STATES + first_[c * SYMBOLS + s] + (from >> bits) - share];
            }
        }
        states[k] = static_cast<std::uint16_t>(state);
        std::uint64_t held = 0;
        int have = 0;
        for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {
            held |= std::uint64_t(*piece >> 4) << have;
            for (have += *piece & 15; have >= 8; have -= 8, held >>= 8)
                streams[k].push_back(static_cast<std::uint8_t>(held));
        }
        if (have) streams[k].push_back(static_cast<std::uint8_t>(held));
    }
    for (int k = 0; k < STREAMS; ++k) {
        put(states[k], 2);
        if (k + 1 < STREAMS) put(static_cast<std::uint32_t>(streams[k].size()), 4);
    }
    for (const auto& stream : streams) out.insert(out.end(), stream.begin(), stream.end());
}

// What a state of a context gives: state << 16 | residual << 8 | bits, the next state being that
// and so many bits.
Decoder::Decoder(const Coding& coding) : coding_(coding), steps_(CONTEXTS * STATES) {
    for (int c = 0; c < CONTEXTS; ++c) {
        const std::uint16_t* shares = coding.shares + c * SYMBOLS;
        std::uint8_t symbols[STATES];
        strew(shares, symbols);
        std::uint32_t from[SYMBOLS];
        for (int s = 0; s < SYMBOLS; ++s) from[s] = shares[s];
        for (int state = 0; state < STATES; ++state) {
            const int s = symbols[state];
            const std::uint32_t x = std::max(from[s]++, std::uint32_t(1));
            const int bits = STATE_BITS - log2_of(x);
            const std::uint32_t residual = s == ESCAPE ? 0 : static_cast<std::uint8_t>(s - 31);
            steps_[static_cast<std::size_t>(c * STATES + state)] =
                ((x << bits) - STATES) << 16 | residual << 8 | std::uint32_t(bits);
        }
    }
}

constexpr std::int64_t AHEAD = 4;   // rows: a centroid comes from far away

namespace {

// Bytes after a passage that reading a row may touch: a quarter of it, and the last load.
std::int64_t beyond(std::int64_t width) { return width / STREAMS * STATE_BITS / 8 + 16; }

// A passage being read, row after row.
class Reading {
  public:
    Reading(const Decoder& decoder, const Code& code, std::int8_t* rows)
        : decoder_(decoder), coding_(decoder.coding()), code_(code), rows_(rows),
          wide_(wide_slots(code.cell_count)) {
        const std::int64_t spare = beyond(coding_.width);
        if (code_.readable - code_.size < spare) {
            copy_.assign(code_.bytes, code_.bytes + code_.size);
            copy_.resize(static_cast<std::size_t>(code_.size + spare));
            code_.bytes = copy_.data();
        }
    }

    std::int64_t count() const { return code_.count; }

    // The head. False where it is not what an encoder writes.
    bool begin() {
        const std::int64_t count = code_.count;
        if (count == 0) return true;
        const std::uint8_t* const end = code_.bytes + code_.size;
        constexpr std::int64_t FIXED = 2 * STREAMS + 4 * (STREAMS - 1);
        if (code_.size < count * (wide_ ? 4 : 3) + 4 + FIXED) return false;
        const std::uint8_t* at = code_.bytes + count * (wide_ ? 4 : 3);
        const auto take = [&](int n) {
            std::uint32_t value = 0;
            for (int i = 0; i < n; ++i) value |= std::uint32_t(*at++) << 8 * i;
            return value;
        };
        escaped_ = take(4);
        if (escaped_ > (end - at - FIXED) / 5) return false;
        escapes_ = at;
        at += 5 * escaped_;
        std::uint32_t sizes[STREAMS] = {};
        for (int k = 0; k < STREAMS; ++k) {
            streams_[k].state = take(2);
            if (streams_[k].state >= STATES) return false;
            if (k + 1 < STREAMS) sizes[k] = take(4);
        }
        for (int k = 0; k < STREAMS; ++k) {
            if (sizes[k] > std::uint64_t(end - at)) return false;
            streams_[k].place = std::uint64_t(at - code_.bytes) * 8;
            at += sizes[k];
        }
        next_.streams = streams_;
        next_.bytes = code_.bytes;
        next_.width = coding_.width;
        return true;
    }

    // Row t made ready to be read; nullptr where it cannot be.
    const LatticeRow* prepare(std::int64_t t) {
        const std::int64_t back = code_.bytes[t];
        const std::uint8_t form = code_.bytes[code_.count + t];
        next_.kind = form >> 4;
        next_.centroid = centroid(t);
        if (back > t || next_.kind > SHIFTED || (next_.kind != CENTROID) != (back != 0) ||
            !next_.centroid)
            return nullptr;
        if (t + AHEAD < code_.count) {
            if (const std::int8_t* later = centroid(t + AHEAD)) {
                __builtin_prefetch(later);
                __builtin_prefetch(later + 64);
            }
        }
        for (int b = 0; b < BANDS; ++b)
            next_.tables[b] = decoder_.steps(coding_.context(form & 15, b));
        next_.row = rows_ + t * coding_.width;
        next_.earlier = back ? next_.row - back * coding_.width : next_.centroid;
        next_.other = next_.kind == SHIFTED ? centroid(t - back) : next_.centroid;
        return &next_;
    }

    // Row t read: its escapes put in, and what was expected added.
    bool finish(const Isa& isa, std::int64_t t) {
        for (const Stream& stream : streams_)
            if (stream.place > std::uint64_t(code_.size) * 8) return false;
        for (; escape_ < escaped_; ++escape_) {
            const std::uint8_t* e = escapes_ + 5 * escape_;
            if ((e[0] | e[1] << 8) != (t & 0xffff)) break;
            const std::int64_t h = e[2] | e[3] << 8;
            if (h >= coding_.width) return false;
            next_.row[h] = static_cast<std::int8_t>(e[4]);
        }
        isa.predict_lattice_row(next_);
        return true;
    }

    bool whole() const { return escape_ == escaped_; }

  private:
    const std::int8_t* centroid(std::int64_t t) const {
        const std::uint8_t* slots = code_.bytes + 2 * code_.count;
        const std::int64_t s = wide_ ? slots[2 * t] | slots[2 * t + 1] << 8 : slots[t];
        if (s >= code_.cell_count || code_.cells[s] >= coding_.cells) return nullptr;
        return coding_.centroids + code_.cells[s] * coding_.width;
    }

    const Decoder& decoder_;
    const Coding& coding_;
    Code code_;
    std::int8_t* rows_;
    bool wide_;
    std::vector<std::uint8_t> copy_;
    const std::uint8_t* escapes_ = nullptr;
    std::int64_t escaped_ = 0, escape_ = 0;
    Stream streams_[STREAMS] = {};
    LatticeRow next_{};
};

}  // namespace

bool Decoder::decode(const Isa& isa, const Code& code, std::int8_t* rows, const Code* other,
                     std::int8_t* other_rows) const {
    Reading one(*this, code, rows);
    Reading two(*this, other ? *other : Code{}, other_rows);
    if (!one.begin() || !two.begin()) return false;
    Reading& longer = one.count() >= two.count() ? one : two;
    Reading& shorter = &longer == &one ? two : one;
    for (std::int64_t t = 0; t < longer.count(); ++t) {
        const bool both = t < shorter.count();
        const LatticeRow* x = longer.prepare(t);
        const LatticeRow* y = both ? shorter.prepare(t) : nullptr;
        if (!x || (both && !y)) return false;
        isa.read_lattice_rows(*x, y);
        if (!longer.finish(isa, t) || (both && !shorter.finish(isa, t))) return false;
    }
    return one.whole() && two.whole();
}

}  // namespace tokret
