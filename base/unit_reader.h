#pragma once
// Reads a work unit (digest_plan.h) chunk by chunk: the bytes of files, the zeros of pad files, and gaps for
// bytes that cannot be read. Errors are recorded with their file (DigestFiles::fail) and become gaps.

#include <cstdint>
#include <optional>
#include <stop_token>

#include "base/aligned_buffer.h"
#include "base/digest_files.h"
#include "base/digest_plan.h"
#include "base/merkle.h"
#include "base/page_cache.h"
#include "base/progress.h"

namespace sluice::base {

/// Consecutive bytes of one input.
struct StreamChunk {
  std::size_t input = 0;
  std::uint64_t offset_bytes = 0;  ///< in the input
  Bytes bytes;                     ///< in the reader's buffer or mapped; zeros of a pad file
  std::uint64_t gap_bytes = 0;     ///< length of the bytes after these that could not be read
  bool pad = false;
  bool ends_segment = false;  ///< the user of the chunk then calls DigestFiles::release()
};

class UnitReader final {
 public:
  UnitReader(std::span<const Segment> segments, DigestFiles& files, const DigestOptions& options,
             Progress& progress, const std::stop_token& stop);

  void start(const WorkUnit& unit);

  /// The next chunk, as large as the buffer allows; nothing at the unit's end. A chunk ends with a BEP 52
  /// block of its input or with the segment. The buffer has chunk_buffer_bytes(). Throws Error{interrupted}.
  [[nodiscard]] std::optional<StreamChunk> next(MutableBytes buffer);

  /// Ends the use of the last chunk's bytes. Must come before its file is released.
  void release_chunk();

 private:
  [[nodiscard]] bool enter_segment();
  void read_into(MutableBytes buffer, StreamChunk& chunk);
  [[nodiscard]] Bytes read_some(MutableBytes buffer, std::uint64_t count);

  std::span<const Segment> segments_;
  DigestFiles& files_;
  const DigestOptions& options_;
  Progress& progress_;
  const std::stop_token& stop_;

  std::size_t next_segment_ = 0;
  std::size_t end_segment_ = 0;
  std::uint64_t stream_bytes_ = 0;  // stream offset of the next segment: its position in the disk queue
  const Segment* segment_ = nullptr;
  std::uint64_t at_bytes_ = 0;         // in the input
  std::uint64_t known_end_bytes_ = 0;  // in the input: the rest of the segment is a gap
  const OpenInput* open_ = nullptr;
  std::optional<CachedRangeReader> cached_;
};

/// The size of the buffer for chunks of `chunk_bytes` (whole BEP 52 blocks): reads that bypass the cache
/// begin and end on a page.
[[nodiscard]] constexpr std::size_t chunk_buffer_bytes(std::size_t chunk_bytes) {
  return chunk_bytes + 2 * kPageBytes;
}

}  // namespace sluice::base
