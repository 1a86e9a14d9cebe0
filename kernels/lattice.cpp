#include "lattice.h"

#include <algorithm>
#include <cstring>
#include <memory>

namespace tokret {

namespace {

enum Place : std::uint8_t { NEW, SAME, LISTED };  // of a row's cell among those of the passage

constexpr int LEAST = 256;               // state of a lane
constexpr std::int64_t WINDOW = MOST_BACK + 1;

int clipped(int x) { return std::clamp(x, -127, 127); }

int symbol_of(int residual) {
    return residual >= -31 && residual <= 31 ? residual + 31 : ESCAPE;
}

bool wide_slots(std::int64_t cell_count) { return cell_count > 256; }

// Whether so much that is left, of so much, pays for another byte.
bool pays(std::int64_t left, std::int64_t of) { return 32 * left < 29 * of; }

// Rows of a passage and their centroids, and the inner products of those in reach of one another.
class Near {
  public:
    Near(const Isa& isa, const Coding& coding, const Passage& passage)
        : isa_(isa), coding_(coding), passage_(passage), width_(coding.width),
          side_(std::min<std::int64_t>(passage.count, WINDOW)) {
        const auto held = static_cast<std::size_t>(side_ * width_);
        const auto square = static_cast<std::size_t>(side_ * side_);
        rows_.resize(held), centroids_.resize(held);
        for (auto* products : {&nn_, &nc_, &cc_}) products->reset(new std::int32_t[square]);
        for (auto* line : {&n_n_, &n_c_, &c_n_, &c_c_}) line->resize(static_cast<std::size_t>(side_));
    }

    // The form of row t; of all rows in turn.
    Form form(std::int64_t t) {
        enter(t);
        const std::int64_t me = t % WINDOW, first = std::max<std::int64_t>(0, t - MOST_BACK);
        const std::int64_t nn = n_n(me), nc = n_c(me), cc = c_c(me);
        Form found;
        const std::int64_t alone = 16 * (nn - 2 * nc + cc);
        std::int64_t best = alone;
        for (std::int64_t p = first; p < t; ++p) {
            const std::int64_t q = p % WINDOW;
            const std::int64_t pp = nn_[at(q, q)];
            const std::int64_t dots[2] = {n_n(q) - nc - c_n(q) + cc, n_n(q) - n_c(q) - c_n(q) + c_c(q)};
            const std::int64_t squares[2] = {pp - 2 * c_n(q) + cc, apart(q)};
            for (int kind = 0; kind < 2; ++kind)
                for (std::int64_t w = 1; w <= 4; ++w) {
                    const std::int64_t left = 16 * (nn - 2 * nc + cc) - 8 * w * dots[kind] +
                                              w * w * squares[kind];
                    if (left >= best) continue;
                    best = left;
                    found.first = static_cast<int>(4 * kind + w);
                    found.back = static_cast<int>(t - p);
                }
        }
        if (!found.first || !pays(best, alone)) return Form{};
        second(t, first, best, found);
        return found;
    }

  private:
    std::int64_t n_n(std::int64_t q) const { return n_n_[static_cast<std::size_t>(q)]; }
    std::int64_t n_c(std::int64_t q) const { return n_c_[static_cast<std::size_t>(q)]; }
    std::int64_t c_n(std::int64_t q) const { return c_n_[static_cast<std::size_t>(q)]; }
    std::int64_t c_c(std::int64_t q) const { return c_c_[static_cast<std::size_t>(q)]; }
    std::size_t at(std::int64_t a, std::int64_t b) const {
        return static_cast<std::size_t>(a * side_ + b);
    }
    // The squared distance of a row from its centroid.
    std::int64_t apart(std::int64_t q) const {
        return std::int64_t(nn_[at(q, q)]) - 2 * nc_[at(q, q)] + cc_[at(q, q)];
    }

    void enter(std::int64_t t) {
        const std::int64_t me = t % WINDOW;
        std::int16_t* const n = rows_.data() + me * width_;
        std::int16_t* const c = centroids_.data() + me * width_;
        const std::int8_t* centroid = coding_.centroids + passage_.cells[passage_.slots[t]] * width_;
        const std::int16_t* fine = passage_.fine + t * width_;
        for (std::int64_t h = 0; h < width_; ++h) {
            n[h] = static_cast<std::int16_t>(clipped((fine[h] + FINE / 2) >> 6));
            c[h] = centroid[h];
        }
        const std::int64_t held = std::min(t + 1, WINDOW);
        isa_.dots_16(n, rows_.data(), held, width_, n_n_.data());
        isa_.dots_16(n, centroids_.data(), held, width_, n_c_.data());
        isa_.dots_16(c, rows_.data(), held, width_, c_n_.data());
        isa_.dots_16(c, centroids_.data(), held, width_, c_c_.data());
        for (std::int64_t q = 0; q < held; ++q) {
            const auto k = static_cast<std::size_t>(q);
            nn_[at(me, q)] = nn_[at(q, me)] = n_n_[k];
            nc_[at(me, q)] = n_c_[k];
            nc_[at(q, me)] = c_n_[k];
            cc_[at(me, q)] = cc_[at(q, me)] = c_c_[k];
        }
    }

    // A second row for a form that leaves `one` squares of quarters.
    void second(std::int64_t t, std::int64_t first, std::int64_t one, Form& form) const {
        const std::int64_t me = t % WINDOW, p = (t - form.back) % WINDOW;
        const std::int64_t nc = n_c(me), cc = c_c(me);
        const bool shifted = form.first > 4;
        const std::int64_t w = shifted ? form.first - 4 : form.first;
        // b: what is expected so far, in quarters; d: p less its centroid or this row's; r: 4 n - b
        const std::int64_t dd = shifted ? apart(p) : std::int64_t(nn_[at(p, p)]) - 2 * c_n(p) + cc;
        const std::int64_t dn = n_n(p) - (shifted ? n_c(p) : nc);
        const std::int64_t dc = c_n(p) - (shifted ? c_c(p) : cc);
        const std::int64_t bb = 16 * cc + 8 * w * dc + w * w * dd;
        const std::int64_t rb = 4 * (4 * nc + w * dn) - bb;
        std::int64_t best = 16 * one;
        Form found = form;
        for (std::int64_t earlier = first; earlier < t; ++earlier) {
            const std::int64_t q = earlier % WINDOW;
            const std::int64_t qq = nn_[at(q, q)];
            const std::int64_t d_n = std::int64_t(nn_[at(p, q)]) - (shifted ? nc_[at(q, p)] : c_n(q));
            const std::int64_t d_o = std::int64_t(nc_[at(p, q)]) - (shifted ? cc_[at(p, q)] : c_c(q));
            const std::int64_t b_n = 4 * c_n(q) + w * d_n, b_o = 4 * c_c(q) + w * d_o;
            const std::int64_t r_n = 4 * n_n(q) - b_n, r_o = 4 * n_c(q) - b_o;
            const std::int64_t rf = 4 * r_n - rb, ff = 16 * qq - 8 * b_n + bb;
            const std::int64_t re = r_n - r_o, ee = apart(q);
            const std::int64_t left[SECONDS - 1] = {
                16 * one - 8 * rf + ff, 16 * one - 16 * rf + 4 * ff,
                16 * one - 32 * re + 16 * ee, 16 * one - 64 * re + 64 * ee};
            for (int way = 0; way < SECONDS - 1; ++way)
                if (left[way] < best) {
                    best = left[way];
                    found.second = way + 1;
                    found.back2 = static_cast<int>(t - earlier);
                }
        }
        if (found.second && pays(best, 16 * one)) form = found;
    }

    const Isa& isa_;
    const Coding& coding_;
    const Passage& passage_;
    std::int64_t width_, side_;
    std::vector<std::int16_t> rows_, centroids_;            // [side, width], by t % WINDOW
    std::unique_ptr<std::int32_t[]> nn_, nc_, cc_;          // [side, side]; nc: row, centroid
    std::vector<std::int32_t> n_n_, n_c_, c_n_, c_c_;       // [side], of the last row
};

// The class by the weighted mean square, in units of 1/256 of a step.
std::uint8_t size_of(const Coding& coding, const std::int32_t* away) {
    static const std::vector<std::int64_t> limits = [] {
        std::vector<std::int64_t> found;
        for (int k = 1; k < CLASSES; ++k) {
            std::int64_t root = 0;
            while ((root + 1) * (root + 1) <= std::int64_t(256) << k) ++root;
            found.push_back(root);
        }
        return found;
    }();
    std::int64_t energy = 0;
    for (std::int64_t b = 0; b < coding.width / UNIT; ++b) {
        std::int64_t sum = 0;
        for (std::int64_t h = b * UNIT; h < (b + 1) * UNIT; ++h)
            sum += std::int64_t(away[h]) * away[h];
        energy += sum * coding.weights[b];
    }
    energy /= coding.width * FINE * FINE;
    const auto over = std::upper_bound(limits.begin(), limits.end(), energy);
    return static_cast<std::uint8_t>(over - limits.begin());
}

// Residuals of a row that lies so far `away` from what was expected, in parts: of the two steps
// around each the one that costs less; and then, one after the other, the other one where what
// the row gains or loses along itself would cost more.
void choose(const Coding& coding, int size, const std::int32_t* away, const std::int16_t* along,
            std::int16_t* residuals) {
    const std::int64_t width = coding.width;
    std::vector<std::int32_t> others(static_cast<std::size_t>(width));  // what the other costs more
    std::int64_t lost = 0;
    for (std::int64_t h = 0; h < width; ++h) {
        const std::int32_t* penalties = coding.penalties + coding.context(size, h / UNIT) * SYMBOLS;
        const auto cost = [&](int k) {
            const int left = away[h] - FINE * k;
            return left * left + penalties[symbol_of(k)];
        };
        const int low = away[h] >> 6, high = low + ((away[h] & (FINE - 1)) != 0);
        const int least = cost(low), most = cost(high);
        const bool upper = most < least;
        residuals[h] = static_cast<std::int16_t>(upper ? high : low);
        others[static_cast<std::size_t>(h)] = upper ? least - most : most - least;
        lost += std::int64_t(along[h]) * (away[h] - FINE * residuals[h]);
    }
    const auto squared = [](std::int64_t x) {
        x /= ALONG * FINE;
        return x * x;
    };
    for (std::int64_t h = 0; h < width; ++h) {
        const int left = away[h] - FINE * residuals[h];
        const int to = residuals[h] + (left > 0) - (left < 0);
        const std::int64_t then = lost + std::int64_t(along[h]) * FINE * (residuals[h] - to);
        if (squared(then) + others[static_cast<std::size_t>(h)] >= squared(lost)) continue;
        residuals[h] = static_cast<std::int16_t>(to);
        lost = then;
    }
}

LatticeRow row_of(const Coding& coding, const Form& form, const std::int8_t* c, const std::int8_t* p,
                  const std::int8_t* o, const std::int8_t* p2, const std::int8_t* o2,
                  std::int8_t* row) {
    const bool shifted = form.first > 4, shifted2 = form.second > 2;
    return {c, p, shifted ? o : c, p2, o2, shifted ? form.first - 4 : form.first,
            shifted2 ? form.second - 2 : form.second, !shifted2, coding.width, row};
}

}  // namespace

Planned planned(const Isa& isa, const Coding& coding, const Passage& passage) {
    const std::int64_t width = coding.width, count = passage.count;
    Planned out;
    out.residuals.resize(static_cast<std::size_t>(count * width));
    out.rows.assign(static_cast<std::size_t>(count * width), 0);
    Near near(isa, coding, passage);
    std::vector<std::int32_t> away(static_cast<std::size_t>(width));
    const auto centroid = [&](std::int64_t t) {
        return coding.centroids + passage.cells[passage.slots[t]] * width;
    };
    std::int64_t used = 0;
    for (std::int64_t t = 0; t < count; ++t) {
        const Form form = near.form(t);
        std::int8_t* const row = out.rows.data() + t * width;  // zeros yet
        isa.predict_lattice_row(row_of(coding, form, centroid(t), row - form.back * width,
                                       centroid(t - form.back), row - form.back2 * width,
                                       centroid(t - form.back2), row));
        const std::int16_t* fine = passage.fine + t * width;
        for (std::int64_t h = 0; h < width; ++h)
            away[static_cast<std::size_t>(h)] = fine[h] - FINE * row[h];
        const std::uint8_t size = size_of(coding, away.data());
        std::int16_t* const residuals = out.residuals.data() + t * width;
        choose(coding, size, away.data(), passage.along + t * width, residuals);
        for (std::int64_t h = 0; h < width; ++h) row[h] = static_cast<std::int8_t>(row[h] + residuals[h]);
        const std::uint16_t slot = passage.slots[t];
        Place place = LISTED;
        if (slot == used) place = NEW, ++used;
        else if (form.first && slot == passage.slots[t - form.back]) place = SAME;
        out.forms.push_back(form);
        out.sizes.push_back(size);
        out.places.push_back(place);
    }
    return out;
}

void count_symbols(const Isa& isa, const Coding& coding, const Passage& passage,
                   std::int64_t* counts) {
    const Planned plan = planned(isa, coding, passage);
    const std::int16_t* residual = plan.residuals.data();
    for (std::size_t t = 0; t < plan.forms.size(); ++t) {
        ++counts[SIZES * SYMBOLS + plan.sizes[t]];
        ++counts[FORMS * SYMBOLS + plan.forms[t].symbol()];
        ++counts[PLACES * SYMBOLS + plan.places[t]];
        for (std::int64_t b = 0; b < coding.width / UNIT; ++b) {
            std::int64_t* row = counts + coding.context(plan.sizes[t], b) * SYMBOLS;
            for (int h = 0; h < UNIT; ++h) ++row[symbol_of(*residual++)];
        }
    }
}

Encoder::Encoder(const Coding& coding) : coding_(coding), starts_(TABLES * SYMBOLS) {
    for (int c = 0; c < TABLES; ++c)
        for (int s = 0, sum = 0; s < SYMBOLS; sum += coding.shares[c * SYMBOLS + s++])
            starts_[static_cast<std::size_t>(c * SYMBOLS + s)] = static_cast<std::uint8_t>(sum);
}

bool Encoder::encode(const Isa& isa, const Passage& passage, std::vector<std::uint8_t>& out,
                     std::int8_t* rows) const {
    const std::int64_t width = coding_.width, count = passage.count;
    if (count == 0) return true;
    const Planned plan = planned(isa, coding_, passage);
    std::copy(plan.rows.begin(), plan.rows.end(), rows);

    std::vector<std::uint8_t> asides, symbols(static_cast<std::size_t>(count * width));
    for (std::int64_t t = 0; t < count; ++t) {
        const auto k = static_cast<std::size_t>(t);
        const Form& form = plan.forms[k];
        for (int back : {form.back, form.back2})
            if (back) asides.push_back(static_cast<std::uint8_t>(back));
        if (plan.places[k] == LISTED) {
            asides.push_back(static_cast<std::uint8_t>(passage.slots[t]));
            if (wide_slots(passage.cell_count))
                asides.push_back(static_cast<std::uint8_t>(passage.slots[t] >> 8));
        }
        for (std::int64_t h = 0; h < width; ++h) {
            const std::int16_t residual = plan.residuals[static_cast<std::size_t>(t * width + h)];
            int s = symbol_of(residual);
            if (s == ESCAPE || !coding_.shares[coding_.context(plan.sizes[k], h / UNIT) * SYMBOLS + s]) {
                s = ESCAPE;
                asides.push_back(static_cast<std::uint8_t>(residual));  // modulo 256
            }
            symbols[static_cast<std::size_t>(t * width + h)] = static_cast<std::uint8_t>(s);
        }
    }

    // Written from the last symbol to the first, and read the other way round.
    std::uint32_t states[CODE_LANES];
    std::fill(states, states + CODE_LANES, LEAST);
    std::vector<std::uint8_t> stream;
    bool good = true;
    const auto put = [&](int table, int symbol, std::int64_t lane) {
        const std::uint32_t share = coding_.shares[table * SYMBOLS + symbol];
        if (!share) good = false;
        if (!share) return;
        std::uint32_t& state = states[lane];
        if (state >= share << (16 - STATE_BITS)) {
            stream.push_back(static_cast<std::uint8_t>(state));
            state >>= 8;
        }
        const std::uint32_t start = starts_[static_cast<std::size_t>(table * SYMBOLS + symbol)];
        state = (state / share << STATE_BITS) + state % share + start;
    };
    for (std::int64_t t = count - 1; t >= 0; --t) {
        const std::uint8_t* row = symbols.data() + t * width;
        for (std::int64_t h = width - 1; h >= 0; --h)
            put(coding_.context(plan.sizes[static_cast<std::size_t>(t)], h / UNIT), row[h],
                h % CODE_LANES);
        if (t % CODE_LANES) continue;
        const std::int64_t group = std::min(CODE_LANES, count - t);
        const auto head = [&](std::int64_t lane) { return static_cast<std::size_t>(t + lane); };
        for (std::int64_t i = group - 1; i >= 0; --i) put(PLACES, plan.places[head(i)], i);
        for (std::int64_t i = group - 1; i >= 0; --i) put(FORMS, plan.forms[head(i)].symbol(), i);
        for (std::int64_t i = group - 1; i >= 0; --i) put(SIZES, plan.sizes[head(i)], i);
    }
    const auto write = [&](std::uint64_t value, int bytes) {
        for (int i = 0; i < bytes; ++i) out.push_back(static_cast<std::uint8_t>(value >> 8 * i));
    };
    for (std::uint32_t state : states) write(state, 2);
    write(stream.size(), 4);
    out.insert(out.end(), stream.rbegin(), stream.rend());
    out.insert(out.end(), asides.begin(), asides.end());
    return good;
}

Decoder::Decoder(const Coding& coding) : coding_(coding), tables_(TABLES) {
    for (int c = 0; c < TABLES; ++c) {
        const std::uint8_t* shares = coding.shares + c * SYMBOLS;
        LaneTable& table = tables_[static_cast<std::size_t>(c)];
        int state = 0;
        for (int s = 0; s < SYMBOLS; ++s)
            for (int i = 0; i < shares[s] && state < STATES; ++i, ++state) {
                table.share[state] = shares[s];
                table.beyond[state] = static_cast<std::uint8_t>(i);
                table.symbol[state] = static_cast<std::uint8_t>(
                    c >= CONTEXTS ? s : s == ESCAPE ? ESCAPED : s - 31);
            }
    }
}

namespace {

constexpr std::int64_t AHEAD = 4;   // rows: a centroid comes from far away

// A passage being read, row after row.
class Reading {
  public:
    Reading(const Decoder& decoder, const Code& code, std::int8_t* rows)
        : decoder_(decoder), coding_(decoder.coding()), code_(code), rows_(rows),
          wide_(wide_slots(code.cell_count)) {
        // that reading a row, or heads, may touch
        const std::int64_t spare = std::max(coding_.width, 3 * CODE_LANES) + CODE_LANES;
        if (code_.count && code_.readable - code_.size < spare) {
            copy_.resize(static_cast<std::size_t>(code_.size + spare));
            std::copy(code_.bytes, code_.bytes + code_.size, copy_.data());
            code_.bytes = copy_.data();
        }
        tables_.resize(static_cast<std::size_t>(coding_.width / UNIT));
        next_.lanes = &lanes_;
        next_.tables = tables_.data();
        next_.steps = coding_.width / UNIT;
    }

    std::int64_t count() const { return code_.count; }

    // The head. False where it is not what an encoder writes.
    bool begin() {
        if (code_.count == 0) return true;
        if (code_.size < CODE_HEAD || !code_.has_room()) return false;
        const std::uint8_t* at = code_.bytes;
        for (std::uint16_t& state : lanes_.states) {
            state = static_cast<std::uint16_t>(at[0] | at[1] << 8);
            if (state < LEAST) return false;
            at += 2;
        }
        const std::uint32_t size = at[0] | at[1] << 8 | at[2] << 16 | std::uint32_t(at[3]) << 24;
        lanes_.next = code_.bytes + CODE_HEAD;
        if (size > std::uint64_t(code_.size - CODE_HEAD)) return false;
        aside_ = end_ = lanes_.next + size;
        last_ = code_.bytes + code_.size;
        row_cells_.resize(static_cast<std::size_t>(code_.count));
        return true;
    }

    // Row t made ready to be read; nullptr where it cannot be.
    const LaneRow* prepare(const Isa& isa, std::int64_t t) {
        const std::int64_t in = t % CODE_LANES;
        if (in == 0 && !group(isa, std::min(CODE_LANES, code_.count - t))) return nullptr;
        const int size = heads_[0][in], symbol = heads_[1][in];
        if (size >= CLASSES || symbol >= FORM_SYMBOLS || heads_[2][in] > LISTED) return nullptr;
        form_ = Form{};
        if (symbol) {
            form_.first = (symbol - 1) / SECONDS + 1;
            form_.second = (symbol - 1) % SECONDS;
            if (last_ - aside_ < 1 + (form_.second != 0)) return nullptr;
            form_.back = *aside_++;
            if (form_.second) form_.back2 = *aside_++;
            if (std::max(form_.back, form_.back2) > t || !form_.back || (form_.second && !form_.back2)) return nullptr;
        }
        for (std::int64_t b = 0; b < next_.steps; ++b)
            tables_[static_cast<std::size_t>(b)] = &decoder_.table(coding_.context(size, b));
        next_.out = reinterpret_cast<std::uint8_t*>(rows_ + t * coding_.width);
        return place(t, heads_[2][in]) ? &next_ : nullptr;
    }

    // Row t read: its escapes put in, and what was expected added.
    bool finish(const Isa& isa, std::int64_t t, bool escaped) {
        if (lanes_.next > end_) return false;
        const std::int64_t width = coding_.width;
        std::int8_t* const row = rows_ + t * width;
        for (std::int8_t* h = row; escaped;) {
            h = static_cast<std::int8_t*>(
                std::memchr(h, ESCAPED, static_cast<std::size_t>(row + width - h)));
            if (!h) break;
            if (aside_ == last_) return false;
            *h++ = static_cast<std::int8_t>(*aside_++);
        }
        isa.predict_lattice_row(row_of(coding_, form_, centroid(t), row - form_.back * width,
                                       centroid(t - form_.back), row - form_.back2 * width,
                                       centroid(t - form_.back2), row));
        return true;
    }

  private:
    const std::int8_t* centroid(std::int64_t t) const {
        return coding_.centroids + row_cells_[static_cast<std::size_t>(t)] * coding_.width;
    }

    // Heads of the next rows.
    bool group(const Isa& isa, std::int64_t rows) {
        const LaneTable* const tables[] = {&decoder_.table(SIZES), &decoder_.table(FORMS),
                                           &decoder_.table(PLACES)};
        if (rows == CODE_LANES) {
            isa.read_lanes({&lanes_, tables, 3, heads_[0]}, nullptr);
        } else {
            for (int k = 0; k < 3; ++k)
                for (std::int64_t lane = 0; lane < rows; ++lane) {
                    std::uint16_t& state = lanes_.states[lane];
                    const int low = state & (STATES - 1);
                    std::uint32_t now = tables[k]->share[low] * std::uint32_t(state >> STATE_BITS) +
                                        tables[k]->beyond[low];
                    const bool needy = now < LEAST;
                    now = needy ? now << 8 | *lanes_.next : now;
                    lanes_.next += needy;
                    state = static_cast<std::uint16_t>(now);
                    heads_[k][lane] = tables[k]->symbol[low];
                }
        }
        return lanes_.next <= end_;
    }

    // The cell of row t.
    bool place(std::int64_t t, int place) {
        auto& cell = row_cells_[static_cast<std::size_t>(t)];
        if (place == SAME) {
            if (!form_.back) return false;
            cell = row_cells_[static_cast<std::size_t>(t - form_.back)];
            return true;
        }
        std::int64_t slot = used_;
        if (place == NEW) {
            ++used_;
        } else {
            if (last_ - aside_ < (wide_ ? 2 : 1)) return false;
            slot = *aside_++;
            if (wide_) slot |= std::int64_t(*aside_++) << 8;
        }
        if (slot >= code_.cell_count || code_.cells[slot] >= coding_.cells) return false;
        cell = code_.cells[slot];
        if (used_ + AHEAD < code_.cell_count) {
            const std::int64_t later = code_.cells[used_ + AHEAD];
            if (later < coding_.cells) {
                __builtin_prefetch(coding_.centroids + later * coding_.width);
                __builtin_prefetch(coding_.centroids + later * coding_.width + 64);
            }
        }
        return true;
    }

    const Decoder& decoder_;
    const Coding& coding_;
    Code code_;
    std::int8_t* rows_;
    bool wide_;
    std::vector<std::uint8_t> copy_;
    std::vector<const LaneTable*> tables_;
    std::vector<std::uint16_t> row_cells_;  // cells of the rows read
    Lanes lanes_{};
    const std::uint8_t *end_ = nullptr, *aside_ = nullptr, *last_ = nullptr;
    std::int64_t used_ = 0;
    std::uint8_t heads_[3][CODE_LANES] = {};
    Form form_;
    LaneRow next_{};
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
        const LaneRow* x = longer.prepare(isa, t);
        const LaneRow* y = both ? shorter.prepare(isa, t) : nullptr;
        if (!x || (both && !y)) return false;
        const Escapes escapes = isa.read_lanes(*x, y);
        if (!longer.finish(isa, t, escapes.in_x) || (both && !shorter.finish(isa, t, escapes.in_y)))
            return false;
    }
    return true;
}

}  // namespace tokret
