#pragma once
// Start of libsodium, which base uses for keys and signatures: Ed25519, BLAKE2b, scrypt, random numbers,
// base64 and wiping. Private to base.

namespace sluice::base {

/// Lets libsodium choose its implementations for this CPU and open its source of random numbers. Every
/// function that calls libsodium calls this first; all calls but the first cost nothing. May be called by
/// several threads at once.
void prepare_sodium();

}  // namespace sluice::base
