#pragma once
// Proofs of a container's payload on first use: what has been proven, in memory and in a record on disk
// (proof_record.h). An expert is a part, and so is each tensor that belongs to none.
//
// To ask whether a part is proven costs one load. To prove parts takes all workers of the caller's pool: the
// leaves of their SHA-256 trees are spread over them by the MiB, several equal leaves at a time.
//
// Rejected: proving page by page under userfaultfd (a digest is over a tensor), and a record inside of the
// container (its file_sha256 would change).

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

/// What proving has cost so far, and what it did not have to do.
struct ProofStats {
  std::uint64_t expert_count = 0;  ///< in the container
  std::uint64_t tensor_count = 0;  ///< that belong to no expert
  std::uint64_t experts_proven = 0;
  std::uint64_t tensors_proven = 0;
  std::uint64_t experts_known = 0;  ///< from the record
  std::uint64_t tensors_known = 0;
  std::uint64_t bytes = 0;       ///< hashed
  double seconds = 0;            ///< in which callers waited for it
  std::filesystem::path record;  ///< where the record is or will be kept; empty: nowhere
};

/// Thread-safe. The container must live longer.
class ContainerProofs final {
 public:
  using Part = std::size_t;
  /// What the user of the bytes asks of a tensor beside its digest; throws when it is not so. Called with the
  /// right digest only, by several threads.
  using Check = std::function<void(const ContainerTensor&, base::Bytes)>;

  struct Options {
    /// Files in which the record may be kept, best first: the first good one is read, the first possible one
    /// is written. None: nothing is remembered.
    std::vector<std::filesystem::path> record_paths = {};
    bool believe_record = true;  ///< false: prove all that is used, and write a new record
    Check check = {};
  };

  ContainerProofs(const ContainerReader& container, Options options);
  /// Keeps what was proven, as far as it can.
  ~ContainerProofs();
  ContainerProofs(const ContainerProofs&) = delete;
  ContainerProofs& operator=(const ContainerProofs&) = delete;

  [[nodiscard]] std::size_t part_count() const { return parts_.size(); }
  /// `tensor_index` into ContainerReader::tensors(). The tensors of an expert are one part.
  [[nodiscard]] Part part_of(std::size_t tensor_index) const { return part_by_tensor_[tensor_index]; }
  [[nodiscard]] bool proven(Part part) const {
    // Nothing is published with it but the fact: the bytes were there before.
    return proven_[part].load(std::memory_order_relaxed);
  }

  /// Proves those of `parts` that are not proven yet. A tensor that does not have its digest is
  /// Error{verification} naming layer, expert and tensor.
  void prove(std::span<const Part> parts, base::WorkerPool& pool);
  /// The same for a part that the caller has read elsewhere: `bytes` are the file's from the part's first tensor
  /// on, and are what will be used.
  void prove(Part part, base::Bytes bytes, base::WorkerPool& pool);

  [[nodiscard]] ProofStats stats() const;

  /// Writes the record when there is news and the file is still the one that was proven. Failing to is not an
  /// error: it costs time at the next start.
  void save() noexcept;

 private:
  struct Extent {
    std::size_t first_tensor = 0;
    std::size_t tensor_count = 1;
    bool expert = false;
  };

  /// `bytes_of` gives a tensor's bytes.
  void prove_open(std::span<const Part> open,
                  const std::function<base::Bytes(const ContainerTensor&)>& bytes_of, base::WorkerPool& pool);
  /// Nothing for a record that is not of this state of this file.
  [[nodiscard]] std::optional<ProofRecord> read_record(const std::filesystem::path& path) const;
  void load_record();
  void check_tensor(const ContainerTensor& tensor, base::Bytes bytes,
                    std::span<const base::Sha256> leaves) const;
  void mark(Part part, std::uint64_t bytes);

  const ContainerReader& container_;
  Options options_;
  ProofSubject subject_;
  std::vector<Extent> parts_;
  std::vector<Part> part_by_tensor_;
  std::vector<std::atomic<bool>> proven_;

  mutable std::mutex mutex_;  // of what follows
  ProofStats stats_;
  bool news_ = false;
};

}  // namespace sluice::format
