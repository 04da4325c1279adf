#pragma once
// The files of one call of compute_digests() while they are read: opened with the first strand that reaches
// them, closed with the last, which also finds out whether they changed meanwhile.

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/digest_plan.h"
#include "base/directory.h"
#include "base/disk.h"
#include "base/file.h"
#include "base/multi_digest.h"
#include "base/page_cache.h"
#include "base/progress.h"

namespace sluice::base {

struct OpenInput {
  OpenInput(File opened, const DigestInput& input);

  File file;
  FileStamp stamp;
  std::uint64_t begin_bytes;           ///< of the input, in the file
  std::uint64_t found_bytes;           ///< from there on, as far as they count
  std::uint64_t known_bytes;           ///< no more than the input's length: what can be read and is wanted
  std::optional<CachedSource> cached;  ///< nothing where the cache is bypassed
};

/// May be used by several threads at once, each of which touches the digests of what it has acquired only,
/// and of these only its own strand's part.
class DigestFiles final {
 public:
  DigestFiles(std::span<const DigestInput> inputs, const DigestWants& wants, const DigestOptions& options,
              const DigestPlan& plan, Progress& progress);

  /// Once a strand and input; nullptr where its bytes cannot be had. Its leaves or layer have their length.
  [[nodiscard]] const OpenInput* acquire(std::size_t input);
  /// Once for each acquire().
  void release(std::size_t input);

  /// What the input was found to be, for the first reason.
  void fail(std::size_t input, ReadState state, const std::string& problem);

  [[nodiscard]] FileDigests& digests(std::size_t input) { return digests_[input]; }
  [[nodiscard]] const DigestInput& input(std::size_t index) const { return inputs_[index]; }

  /// All results, when all is released.
  [[nodiscard]] std::vector<FileDigests> take();

 private:
  struct Entry {
    std::mutex mutex;
    std::optional<OpenInput> open;
    std::size_t strands_left = 0;
    bool tried = false;  // to open it
    ReadState failure = ReadState::complete;
    std::string problem;
  };

  void open(std::size_t index, Entry& entry);
  void fail(Entry& entry, ReadState state, const std::string& problem);
  void finish(std::size_t index, Entry& entry);

  std::span<const DigestInput> inputs_;
  const DigestWants& wants_;
  const DigestOptions& options_;
  Progress& progress_;
  Disks disks_;
  std::atomic<bool> warned_{false};
  std::vector<Entry> entries_;
  std::vector<FileDigests> digests_;
};

}  // namespace sluice::base
