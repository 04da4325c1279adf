// The file of run --prompt-cache: one of ours, at a path that others may write. Its SHA-256 keeps a fuzzer
// out of it, so it is put right here.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/hasher.h"
#include "base/invariant.h"
#include "runtime/generate/prompt_cache.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice;
  const base::Bytes input = std::as_bytes(std::span(data, size));
  std::vector<std::byte> bytes(input.begin(), input.end());
  if (size >= base::Sha256::kBytes) {
    const std::size_t end = size - base::Sha256::kBytes;
    std::ranges::copy(base::hash<base::Sha256>(base::Bytes(bytes).first(end)).bytes, bytes.begin() + end);
  }
  try {
    const auto content = runtime::parse_prompt_cache(bytes, "fuzz");
    const auto head =
        runtime::encode_prompt_cache_head(content.identity, content.tokens, content.state_positions);
    INVARIANT(std::ranges::equal(head, base::Bytes(bytes).first(head.size())));
    INVARIANT(content.states.size() == content.state_positions.size() * content.identity.state_bytes);
    INVARIANT(content.rows.size() == content.tokens.size() * content.identity.position_bytes);
  } catch (const base::Error&) {
  }
  return 0;
}
