#include "runtime/isa.h"

#include <string>

#include "base/error.h"
#include "base/invariant.h"

namespace sluice::runtime {
namespace {

bool supported(Isa isa) {
  switch (isa) {
    case Isa::generic: return true;
#if defined(__x86_64__)
    case Isa::avx2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case Isa::avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512vnni");
#else
    case Isa::avx2:
    case Isa::avx512: return false;
#endif
  }
  INVARIANT(!"an Isa without test");
}

}  // namespace

std::string_view to_string(Isa isa) {
  switch (isa) {
    case Isa::generic: return "generic";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
  }
  INVARIANT(!"an Isa without name");
}

std::optional<Isa> parse_isa(std::string_view text) {
  for (const Isa isa : {Isa::generic, Isa::avx2, Isa::avx512})
    if (to_string(isa) == text) return isa;
  return std::nullopt;
}

Isa detect_isa() {
  for (const Isa isa : {Isa::avx512, Isa::avx2})
    if (supported(isa)) return isa;
  return Isa::generic;
}

const Kernels& kernels_for(Isa isa) {
  if (!supported(isa))
    throw base::Error(base::ErrorKind::usage, "this CPU has no " + std::string(to_string(isa)));
  switch (isa) {
    case Isa::generic: return generic_kernels();
#if defined(__x86_64__)
    case Isa::avx2: return avx2_kernels();
    case Isa::avx512: return avx512_kernels();
#else
    case Isa::avx2:
    case Isa::avx512: break;
#endif
  }
  INVARIANT(!"an Isa without kernels");
}

}  // namespace sluice::runtime
