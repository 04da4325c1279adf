#pragma once
// The file of `run --prompt-cache`: the keys and values of a prompt's tokens.
//
//   offset  bytes  what
//        0      8  "SLUICEPC"
//        8      4  version, 2; also changed when the arithmetic of the forward pass changes
//       12      4  type of the keys and values (KvType)
//       16      4  instruction set that they were computed with (Isa)
//       20      4  zero
//       24     32  root of the container
//       56     32  SHA-256 of the container's directory, which holds the parameters
//       88      8  number of tokens, T
//       96      8  bytes of a position's keys and values, over all layers and heads, P
//      104   4 T  token ids
//  104+4 T   P T  the columns of the cache (KvCache::columns), each with the elements of all tokens
//                 32 bytes at the end: SHA-256 of all that is before

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "runtime/runtime.h"

namespace sluice::runtime {

/// What must be the same for keys and values to be of use.
struct PromptCacheIdentity {
  KvType kv = KvType::f32;
  Isa isa = Isa::generic;
  base::Sha256 root;
  base::Sha256 directory;
  std::uint64_t position_bytes = 0;

  friend bool operator==(const PromptCacheIdentity&, const PromptCacheIdentity&) = default;
};

struct PromptCacheContent {
  PromptCacheIdentity identity;
  std::vector<TokenId> tokens;
  base::Bytes rows;  ///< into the file's bytes
};

/// All that stands before the rows.
[[nodiscard]] std::vector<std::byte> encode_prompt_cache_head(const PromptCacheIdentity& identity,
                                                              std::span<const TokenId> tokens);

/// Error{malformed} naming `subject` for bytes that are no prompt cache, are cut, damaged or of another
/// version. What it returns has been proven by the digest.
[[nodiscard]] PromptCacheContent parse_prompt_cache(base::Bytes file, std::string_view subject);

/// True for the first bytes of a prompt cache of any version.
[[nodiscard]] bool is_prompt_cache(base::Bytes file);

}  // namespace sluice::runtime
