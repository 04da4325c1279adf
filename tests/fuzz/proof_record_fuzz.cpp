// The record of proofs beside a container: a file of ours, in a folder that others may write. Its SHA-256
// keeps a fuzzer out of it, so it is put right here.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/hasher.h"
#include "base/invariant.h"
#include "format/proof_record.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice;
  const base::Bytes input = std::as_bytes(std::span(data, size));
  std::vector<std::byte> bytes(input.begin(), input.end());
  if (size >= base::Sha256::kBytes) {
    const std::size_t end = size - base::Sha256::kBytes;
    std::ranges::copy(base::hash<base::Sha256>(base::Bytes(bytes).first(end)).bytes, bytes.begin() + end);
  }
  if (const auto record = format::decode_proof_record(bytes))
    INVARIANT(format::encode_proof_record(*record) == bytes);
  return 0;
}
