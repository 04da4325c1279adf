#pragma once
// Verifies a container's payload on first use, and remembers what has been verified ("proven"), in memory and
// in a record on disk (proof_record.h). A part is an expert, or a tensor that belongs to none.
//
// Asking whether a part is proven costs one atomic load. Verifying parts uses all workers of the caller's
// pool: the leaves of their SHA-256 trees are spread over the workers in tasks of 1 MiB, and several leaves
// of equal length are hashed at once.
//
// Rejected: verifying page by page under userfaultfd (a digest covers a whole tensor), and a record inside
// the container (its file_sha256 would change).

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "base/parallel.h"
#include "format/container_reader.h"
#include "format/proof_record.h"

namespace sluice::format {

/// Counts what verification has cost so far, and how much the record has saved.
struct ProofStats {
  std::uint64_t expert_count = 0;  ///< in the container
  std::uint64_t tensor_count = 0;  ///< tensors that belong to no expert
  std::uint64_t experts_proven = 0;
  std::uint64_t tensors_proven = 0;
  std::uint64_t experts_known = 0;  ///< already proven in the record
  std::uint64_t tensors_known = 0;
  std::uint64_t bytes = 0;       ///< bytes hashed
  double seconds = 0;            ///< time for which callers waited
  std::filesystem::path record;  ///< the record's file; empty when there is none
};

/// Thread-safe. The container must live longer.
class ContainerProofs final {
 public:
  using Part = std::size_t;
  /// A further check by the user of the bytes; throws when the tensor fails it. Called by several threads,
  /// only for tensors that match their digest.
  using Check = std::function<void(const ContainerTensor&, base::Bytes)>;

  struct Options {
    /// Files in which the record may be kept, best first: the first valid one is read, the first writable one
    /// is written. Empty: nothing is remembered.
    std::vector<std::filesystem::path> record_paths = {};
    bool believe_record = true;  ///< false: verify everything that is used, and write a new record
    Check check = {};
  };

  ContainerProofs(const ContainerReader& container, Options options);
  /// Saves the record if it can.
  ~ContainerProofs();
  ContainerProofs(const ContainerProofs&) = delete;
  ContainerProofs& operator=(const ContainerProofs&) = delete;

  [[nodiscard]] std::size_t part_count() const { return parts_.size(); }
  /// `tensor_index` into ContainerReader::tensors(). The tensors of an expert are one part.
  [[nodiscard]] Part part_of(std::size_t tensor_index) const { return part_by_tensor_[tensor_index]; }
  /// Whether the part is an expert, rather than a tensor of its own.
  [[nodiscard]] bool is_expert(Part part) const { return parts_[part].expert; }
  [[nodiscard]] bool proven(Part part) const {
    // Relaxed is enough: the flag publishes no other memory, the bytes were there before.
    return proven_[part].load(std::memory_order_relaxed);
  }

  /// Verifies those of `parts` that are not proven yet. A tensor that does not match its digest is
  /// Error{verification} naming layer, expert and tensor.
  void prove(std::span<const Part> parts, base::WorkerPool& pool);
  /// Verifies a part that the caller has read into other memory: `bytes` are the file's bytes from the part's
  /// first tensor on, and the caller uses these instead of the mapped ones.
  void prove(Part part, base::Bytes bytes, base::WorkerPool& pool);

  [[nodiscard]] ProofStats stats() const;

  /// Writes the record when it has changed and the container's file is still the one that was verified. A
  /// failure is not an error: it only costs time at the next start.
  void save() noexcept;

 private:
  struct PartTensors {
    std::size_t first_tensor = 0;
    std::size_t tensor_count = 1;
    bool expert = false;
  };

  /// Verifies parts that are not proven; `bytes_of` gives a tensor's bytes.
  void prove_open(std::span<const Part> open,
                  const std::function<base::Bytes(const ContainerTensor&)>& bytes_of, base::WorkerPool& pool);
  /// Nothing for a record that belongs to another file, or to another state of this one.
  [[nodiscard]] std::optional<ProofRecord> read_record(const std::filesystem::path& path) const;
  void load_record();
  void check_tensor(const ContainerTensor& tensor, base::Bytes bytes,
                    std::span<const base::Sha256> leaves) const;
  void mark(Part part, std::uint64_t bytes);

  const ContainerReader& container_;
  Options options_;
  ProofSubject subject_;
  std::vector<PartTensors> parts_;
  std::vector<Part> part_by_tensor_;
  std::vector<std::atomic<bool>> proven_;

  mutable std::mutex mutex_;  // guards the members below
  ProofStats stats_;
  bool dirty_ = false;  // parts were proven that the record on disk does not have
};

}  // namespace sluice::format
