#pragma once
// The files of one call of compute_digests() while they are read. A file is opened when the first work unit
// reaches it and closed when the last one releases it; only then can it be known whether the file changed
// during the read.

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
  FileStamp stamp;                     ///< when it was opened
  std::uint64_t begin_bytes;           ///< where the input begins in the file
  std::uint64_t found_bytes;           ///< length of the input as found on disk
  std::uint64_t known_bytes;           ///< length that can be read and is wanted: at most the input's length
  std::optional<CachedSource> cached;  ///< nothing when reads bypass the page cache
};

/// May be used by several threads at once. A thread touches only the digests of inputs that it has acquired,
/// and in these only the elements that belong to its own work unit.
class DigestFiles final {
 public:
  DigestFiles(std::span<const DigestInput> inputs, const DigestWants& wants, const DigestOptions& options,
              const DigestPlan& plan, Progress& progress);

  /// Called once for each work unit and input; nullptr when the input cannot be read. On return the rows of
  /// leaves or of layer nodes in digests() have their final length.
  [[nodiscard]] const OpenInput* acquire(std::size_t input);
  /// Called once for each acquire().
  void release(std::size_t input);

  /// Records the state of an input that could not be read as a whole; the first report of an input counts.
  void fail(std::size_t input, ReadState state, const std::string& problem);

  [[nodiscard]] FileDigests& digests(std::size_t input) { return digests_[input]; }
  [[nodiscard]] const DigestInput& input(std::size_t index) const { return inputs_[index]; }

  /// The results of all inputs, after everything has been released.
  [[nodiscard]] std::vector<FileDigests> take();

 private:
  struct Entry {
    std::mutex mutex;
    std::optional<OpenInput> open;
    std::size_t units_left = 0;
    bool open_tried = false;
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
  DiskQueues disk_queues_;
  std::atomic<bool> warned_{false};
  std::vector<Entry> entries_;
  std::vector<FileDigests> digests_;
};

}  // namespace sluice::base
