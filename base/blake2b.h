#pragma once
// BLAKE2b (RFC 7693) of one short message with a digest of any length. OpenSSL 3.0 has only the form of 64
// bytes (Hasher<Blake2b512>, the twin that tests compare this with); the checksum in a secret key file is one
// of 32.

#include "base/bytes.h"

namespace sluice::base {

constexpr std::size_t kBlake2bBlockBytes = 128;

/// Fills `digest` (1 to 64 bytes) for a message of at most kBlake2bBlockBytes.
void blake2b_block(Bytes message, MutableBytes digest);

}  // namespace sluice::base
