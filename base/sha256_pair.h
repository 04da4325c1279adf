#pragma once
// SHA-256 (FIPS 180-4) of two messages of equal length at a time. One message leaves the CPU's SHA unit idle
// for more than half of the time, since each of its rounds waits for the one before; two that are interleaved
// fill it.

#include <array>
#include <cstddef>

#include "base/bytes.h"
#include "base/digest.h"

namespace sluice::base {

/// True where the CPU has what hash_pair() is made of.
[[nodiscard]] bool has_sha256_pair();

/// Of two messages of equal length; only where has_sha256_pair().
[[nodiscard]] std::array<Sha256, 2> hash_pair(Bytes a, Bytes b);

}  // namespace sluice::base
