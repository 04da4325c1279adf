#pragma once
// The CRC-32 of zip, gzip and Ethernet, over zlib. It finds accidents; against an attacker it proves nothing.

#include <cstdint>

#include "base/bytes.h"

namespace sluice::base {

[[nodiscard]] std::uint32_t crc32(Bytes bytes);

}  // namespace sluice::base
