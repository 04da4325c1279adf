#pragma once
// This header declares the checksum and the usual compression of zip members, both over zlib.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"

namespace sluice::base {

/// The CRC-32 of zip, gzip and Ethernet. It finds accidents; against an attacker it proves nothing.
[[nodiscard]] std::uint32_t crc32(Bytes bytes);

struct Inflated {
  std::vector<std::byte> bytes;  ///< at most as many as were asked for
  bool complete = false;         ///< the stream's end was reached
};

/// Decompresses the raw deflate stream (RFC 1951) that `bytes` begins with; what follows it is ignored.
/// Nothing for bytes that are no such stream, or one that is cut.
[[nodiscard]] std::optional<Inflated> inflate(Bytes bytes, std::size_t bytes_max);

}  // namespace sluice::base
