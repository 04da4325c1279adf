// Which instruction sets this CPU has, and the table of kernels for each. Nothing outside the kernel files is
// compiled for more than x86-64-v2, so asking the CPU here is enough for one program to run everywhere.

#include "runtime/kernels/isa.h"

#include <algorithm>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/error.h"
#include "base/invariant.h"

namespace sluice::runtime {

#if defined(__x86_64__)
namespace {

// CPUID leaf 7, subleaf 1, EAX bit 4 (Intel SDM, volume 2A). Clang 14's __builtin_cpu_supports does not know
// it. The bit says nothing about whether the system saves the registers; the test for avx2 does.
bool has_avxvnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
}

}  // namespace
#endif

bool is_supported(Isa isa) {
  switch (isa) {
    case Isa::generic: return true;
#if defined(__x86_64__)
    case Isa::avx2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case Isa::avxvnni: return is_supported(Isa::avx2) && has_avxvnni();
    case Isa::avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512vnni");
#else
    case Isa::avx2:
    case Isa::avxvnni:
    case Isa::avx512: return false;
#endif
  }
  INVARIANT(!"an Isa without test");
}

std::string_view to_string(Isa isa) {
  switch (isa) {
    case Isa::generic: return "generic";
    case Isa::avx2: return "avx2";
    case Isa::avxvnni: return "avxvnni";
    case Isa::avx512: return "avx512";
  }
  INVARIANT(!"an Isa without name");
}

std::optional<Isa> parse_isa(std::string_view text) {
  for (const Isa isa : kIsas)
    if (to_string(isa) == text) return isa;
  return std::nullopt;
}

std::optional<MatmulEngine> parse_matmul_engine(std::string_view text) {
  if (text == "auto") return MatmulEngine::automatic;
  if (text == "own") return MatmulEngine::own;
  if (text == "onednn") return MatmulEngine::onednn;
  return std::nullopt;
}

Isa detect_isa() { return *std::find_if(kIsas.rbegin(), kIsas.rend(), is_supported); }

const Kernels& kernels_for(Isa isa) {
  if (!is_supported(isa))
    throw base::Error(base::ErrorKind::usage, "this CPU has no " + std::string(to_string(isa)));
  switch (isa) {
    case Isa::generic: return generic_kernels();
#if defined(__x86_64__)
    case Isa::avx2: return avx2_kernels();
    case Isa::avxvnni: return avxvnni_kernels();
    case Isa::avx512: return avx512_kernels();
#else
    case Isa::avx2:
    case Isa::avxvnni:
    case Isa::avx512: break;
#endif
  }
  INVARIANT(!"an Isa without kernels");
}

}  // namespace sluice::runtime
