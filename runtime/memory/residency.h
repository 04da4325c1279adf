#pragma once
// Where the weights of an engine are, and whether they have been verified. The forward pass gets every weight
// from here, and knows neither.
//
// When the container and everything else fit into memory, all weights are views into the mapping. Otherwise
// the matrices that every token reads stay in memory (PinnedWeights), and experts are read when the router
// has chosen them (ExpertCache); see docs/larger-than-memory.md.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/parallel.h"
#include "runtime/memory/expert_cache.h"
#include "runtime/memory/model_impl.h"

namespace sluice::runtime {

struct MemoryNeeds {
  std::uint64_t expert_count = 0;
  std::uint64_t expert_bytes = 0;   ///< of the largest
  std::uint64_t experts_bytes = 0;  ///< of all
  std::uint64_t pinned_bytes = 0;   ///< matrices that every token reads
  std::uint64_t other_bytes = 0;    ///< KV pages, and what the engine's caller takes
};

[[nodiscard]] MemoryNeeds memory_needs(const Model::Impl& model, std::uint64_t other_bytes);

struct ResidencyPlan {
  /// Experts that the cache holds at once; the others are read when they are needed. 0: everything is mapped,
  /// because it fits, or because not even two experts do; then the page cache decides what stays.
  std::size_t expert_slots = 0;
  bool too_low = false;  ///< not even two experts fit
};

/// `memory_bytes` is the memory for everything together; a share of it is left to the kernel.
[[nodiscard]] ResidencyPlan plan_residency(const MemoryNeeds& needs, std::uint64_t memory_bytes);

/// Bytes that this process may still take: what remains of `limit_bytes` for the whole process, or, without a
/// limit, available_memory_bytes().
[[nodiscard]] std::uint64_t memory_left(std::optional<std::uint64_t> limit_bytes);

/// True when the whole file lies in the page cache. Then it fits, even if the memory that is left seems too
/// small: its pages may be charged to the control group of another process.
[[nodiscard]] bool is_cached(const Model::Impl& model);

/// Keeps the matrices that every token reads (mixers, shared experts, dense feed-forwards, output) in memory:
/// locked where the user may lock memory, otherwise read ahead once.
class PinnedWeights final {
 public:
  explicit PinnedWeights(const Model::Impl& model);
  ~PinnedWeights();
  PinnedWeights(const PinnedWeights&) = delete;
  PinnedWeights& operator=(const PinnedWeights&) = delete;

 private:
  std::vector<base::Bytes> locked_;  // whole pages
};

/// All weights of a model, for one engine. Used by the engine's thread, not by its workers.
class ResidentWeights final {
 public:
  /// `pool` computes digests.
  ResidentWeights(const Model::Impl& model, base::WorkerPool& pool) : model_(model), pool_(pool) {}

  /// Reads experts through a cache of `expert_slots` experts from now on, and pins the other matrices.
  void stream(std::size_t expert_slots);

  /// Call before each pass of a step's rows through all layers.
  void begin_pass();

  // Each returns weights that have been verified, as the model's options ask. A mismatch is
  // Error{verification} naming the tensor.
  [[nodiscard]] const Embedding& embedding();
  [[nodiscard]] const LayerWeights& layer(std::size_t index);  ///< all of it but the experts
  [[nodiscard]] const Buffer<float>& final_norm() const { return model_.final_norm; }
  [[nodiscard]] const Matrix* head();  ///< null: rows of floats, Embedding::floats

  /// Error{io} when the mapped file was cut or could not be read. Such bytes read as zeros, so results are
  /// valid only if this is called after the computation and does not throw.
  void require_whole() const { model_.container.require_whole(); }

  [[nodiscard]] const Model::Impl& model() const { return model_; }
  [[nodiscard]] ResidencyStats stats() const;

 private:
  friend class LayerExperts;

  const Model::Impl& model_;
  base::WorkerPool& pool_;
  std::unique_ptr<PinnedWeights> pinned_;
  std::unique_ptr<ExpertCache> cache_;
};

/// The experts that a step's rows have chosen in one layer, in groups that are computed together. Mapped
/// experts are one group; streamed ones come in as many groups as the cache needs.
///
///   LayerExperts experts(weights, layer, chosen);
///   while (experts.next_group()) { experts.group() ... experts.matrix(e, ExpertMatrix::gate, panels_end) }
class LayerExperts final {
 public:
  /// `chosen` in ascending order; it must outlive this.
  LayerExperts(ResidentWeights& weights, std::size_t layer, std::span<const std::uint32_t> chosen);

  /// Goes on to the next group and verifies its experts. False when there is none.
  [[nodiscard]] bool next_group();
  [[nodiscard]] bool is_first_group() const { return group_count_ == 1; }
  /// Experts of the group in ascending order, in which their outputs are added up.
  [[nodiscard]] std::span<const std::uint32_t> group() const { return group_; }
  /// The same experts in the order in which they become available.
  [[nodiscard]] std::span<const std::uint32_t> order() const { return order_; }

  /// The type and layout of an expert's matrix, wherever its bytes are.
  [[nodiscard]] const Matrix& mapped(std::uint32_t expert, ExpertMatrix which) const;
  /// The matrix, with all bytes that the panels before `panels_end` need: waits for them. Thread-safe.
  [[nodiscard]] Matrix matrix(std::uint32_t expert, ExpertMatrix which, std::size_t panels_end) const;

  /// Runs tasks that read the group's experts. Streamed experts arrive in task order, so tasks must start in
  /// order; mapped ones are shared out freely.
  void run(std::size_t task_count, base::TaskRef body) const;

 private:
  ResidentWeights& weights_;
  const std::vector<ExpertWeights>& experts_;
  std::span<const std::uint32_t> chosen_;
  std::optional<ExpertCache::Cursor> streamed_;
  std::span<const std::uint32_t> group_;
  std::span<const std::uint32_t> order_;
  std::size_t group_count_ = 0;
};

}  // namespace sluice::runtime
