#pragma once
// The file that `run --prompt-cache` writes: the keys and values of a prompt's tokens and states of recurrent
// layers, little-endian.
//
//   offset  bytes  what
//        0      8  "SLUICEPC"
//        8      4  version, 3; it also changes when the arithmetic of the forward pass changes
//       12      4  type of the keys and values (KvType)
//       16      4  instruction set with which they were computed (Isa)
//       20      4  zero
//       24     32  root digest of the container
//       56     32  SHA-256 of the container's directory, which holds the model parameters
//       88      8  number of tokens, T
//       96      8  bytes of one position's keys and values over all layers and heads, P
//      104      8  bytes of a state of the recurrent layers, B; 0 for models without such layers
//      112      8  number of states, N; a prompt can go on from where there is one
//      120   4 T  token ids
//            8 N  for each state the number of tokens that it has seen, ascending, from 1 to T
//            P T  the elements of all tokens, column after column in the order of KvCache::columns()
//            B N  the states (runtime/memory/recurrent_state.h)
//                 32 bytes at the end: SHA-256 of all bytes before them

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "runtime/runtime.h"

namespace sluice::runtime {

/// Everything that must be equal before a session can use cached keys and values.
struct PromptCacheIdentity {
  KvType kv = KvType::f32;
  Isa isa = Isa::generic;
  base::Sha256 root;
  base::Sha256 directory;
  std::uint64_t position_bytes = 0;
  std::uint64_t state_bytes = 0;

  friend bool operator==(const PromptCacheIdentity&, const PromptCacheIdentity&) = default;
};

struct PromptCacheContent {
  PromptCacheIdentity identity;
  std::vector<TokenId> tokens;
  std::vector<std::uint64_t> state_positions;
  base::Bytes rows;    ///< a view of the file's bytes: [column][token][element]
  base::Bytes states;  ///< the same: [state]
};

/// The bytes of a file up to the rows: header, token ids and positions of states.
[[nodiscard]] std::vector<std::byte> encode_prompt_cache_head(const PromptCacheIdentity& identity,
                                                              std::span<const TokenId> tokens,
                                                              std::span<const std::uint64_t> state_positions);

/// Parses a whole file and compares it with its digest. Error{malformed} naming `subject` for bytes that are
/// not a prompt cache, are cut or damaged, or have another version.
[[nodiscard]] PromptCacheContent parse_prompt_cache(base::Bytes file, std::string_view subject);

/// True for the first bytes of a prompt cache of any version.
[[nodiscard]] bool is_prompt_cache(base::Bytes file);

}  // namespace sluice::runtime
