// Which instruction sets this machine runs.

#include <chrono>

#include "core.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace tokret {

namespace {

#if defined(__x86_64__)
void add_wider(std::vector<const Isa*>& sets) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return;
    constexpr unsigned needed = bit_FMA | bit_OSXSAVE | bit_AVX | bit_F16C;
    if ((c & needed) != needed) return;
    unsigned saved, high;  // the registers that the operating system keeps for a process
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if ((saved & 0x6) != 0x6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
    if (!(b & bit_AVX2) || !(b & bit_BMI) || !(b & bit_BMI2)) return;
    unsigned ext_a, ext_b, ext_c, ext_d;
    if (!__get_cpuid(0x80000001, &ext_a, &ext_b, &ext_c, &ext_d) || !(ext_c & bit_LZCNT)) return;
    sets.push_back(&avx2);
    constexpr unsigned wide = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
    if ((saved & 0xe6) != 0xe6 || (b & wide) != wide) return;
    sets.push_back(&avx512);
    if (!(c & bit_AVX512VNNI)) return;
    sets.push_back(&avx512vnni);
    static const Isa avx512vbmi = [] {
        Isa isa = avx512vnni;
        isa.name = "avx512vbmi";
        isa.read_lanes = read_lanes_vbmi;
        return isa;
    }();
    if (c & bit_AVX512VBMI && c & bit_AVX512VBMI2) sets.push_back(&avx512vbmi);
}
#elif defined(__aarch64__)
bool has_dot_products() {
#if defined(__linux__)
    constexpr unsigned long asimddp = 1ul << 20;
    return getauxval(AT_HWCAP) & asimddp;
#elif defined(__APPLE__)
    int has = 0;
    std::size_t size = sizeof has;
    return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, nullptr, 0) == 0 && has;
#else
    return false;
#endif
}

void add_wider(std::vector<const Isa*>& sets) {
    sets.push_back(&neon);
    if (has_dot_products()) sets.push_back(&neondot);
}
#else
void add_wider(std::vector<const Isa*>&) {}
#endif

}  // namespace

const std::vector<const Isa*>& instruction_sets() {
    static const std::vector<const Isa*> sets = [] {
        std::vector<const Isa*> found{&scalar};
        add_wider(found);
        return found;
    }();
    return sets;
}

const Isa* find_isa(const std::string& name) {
    for (const Isa* isa : instruction_sets())
        if (name == isa->name) return isa;
    return nullptr;
}

double multiply_add_peak(const Isa& isa, Dtype dtype, double seconds) {
    using Clock = std::chrono::steady_clock;
    const auto spin = dtype == Dtype::int8 ? isa.spin_codes : isa.spin_floats;
    constexpr std::int64_t rounds = 100000;  // about a tenth of a millisecond
    double best = 0, total = 0;
    do {  // the best of many short runs: others may use the machine
        const auto start = Clock::now();
        const double done = spin(rounds);
        const double took = std::chrono::duration<double>(Clock::now() - start).count();
        total += took;
        if (took > 0) best = best > done / took ? best : done / took;
    } while (total < seconds);
    return best / 1e9;
}

}  // namespace tokret
