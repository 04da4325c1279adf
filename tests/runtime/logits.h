#pragma once
// What a session computes, to be compared bit for bit.

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "runtime/runtime.h"

namespace sluice::tests {

/// Of all ids, fed `piece` at a time: [id][vocabulary].
inline std::vector<float> logits_of(runtime::Session& session, std::span<const runtime::TokenId> ids,
                                    std::size_t piece) {
  std::vector<float> all;
  for (; !ids.empty(); ids = ids.subspan(std::min(piece, ids.size()))) {
    session.feed_all(ids.first(std::min(piece, ids.size())), [&](std::size_t, std::span<const float> logits) {
      all.insert(all.end(), logits.begin(), logits.end());
    });
  }
  return all;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace sluice::tests
