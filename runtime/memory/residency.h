#pragma once
// What of a model's weights is to stay in memory: all of it, mapped, where that fits; else attention and
// output matrices, which every token reads, and as many experts as there is room for.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "runtime/memory/model_impl.h"

namespace sluice::runtime {

struct MemoryNeeds {
  std::uint64_t expert_count = 0;
  std::uint64_t expert_bytes = 0;   ///< of the largest
  std::uint64_t experts_bytes = 0;  ///< of all
  std::uint64_t pinned_bytes = 0;      ///< attention and output matrices
  std::uint64_t other_bytes = 0;    ///< keys and values, and what the session's caller takes
};

[[nodiscard]] MemoryNeeds memory_needs(const Model::Impl& model, std::uint64_t other_bytes);

struct ResidencyPlan {
  /// Experts held in memory of our own while the others are read when they are needed. 0: everything is
  /// mapped, because it fits, or because not even two experts do; the page cache then does what it can.
  std::size_t expert_slots = 0;
};

/// `memory_bytes` is what there is for all of it; a part is left to the kernel.
[[nodiscard]] ResidencyPlan plan_residency(const MemoryNeeds& needs, std::uint64_t memory_bytes);

/// Memory that this process may still take: of `limit_bytes` for the whole process, or without it what
/// available_memory_bytes() says.
[[nodiscard]] std::uint64_t memory_left(std::optional<std::uint64_t> limit_bytes);

/// True when the file lies in the page cache from one end to the other: then it fits, whatever the numbers
/// say (somebody else may have been charged for it).
[[nodiscard]] bool is_cached(const Model::Impl& model);

/// Keeps attention and output matrices in memory: locked where this user may, else read ahead once.
class PinnedWeights final {
 public:
  explicit PinnedWeights(const Model::Impl& model);
  ~PinnedWeights();
  PinnedWeights(const PinnedWeights&) = delete;
  PinnedWeights& operator=(const PinnedWeights&) = delete;

 private:
  std::vector<base::Bytes> locked_;  // whole pages
};

}  // namespace sluice::runtime
