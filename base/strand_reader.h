#pragma once
// Reads a strand (digest_plan.h) chunk by chunk: bytes of files, the zeros of pad files, and gaps where bytes
// cannot be had. What goes wrong with a file is noted with it and becomes a gap.

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

struct Chunk {
  std::size_t input = 0;
  std::uint64_t offset_bytes = 0;  ///< in the input
  Bytes bytes;                     ///< in the reader's buffer, or zeros
  std::uint64_t gap_bytes = 0;     ///< that follow, and are not known
  bool pad = false;
  bool ends_segment = false;  ///< after which whoever takes the chunks calls DigestFiles::release()
};

class StrandReader final {
 public:
  StrandReader(std::span<const Segment> segments, DigestFiles& files, const DigestOptions& options,
               Progress& progress, const std::stop_token& stop);

  void start(const Strand& strand);

  /// The next chunk, as large as the buffer allows; nothing at the strand's end. It ends with a BEP 52 block
  /// of its input, or with the segment. The buffer is of chunk_buffer_bytes(). Throws Error{interrupted}.
  [[nodiscard]] std::optional<Chunk> next(MutableBytes buffer);

  /// Before the file of the last chunk may be released: that chunk is no longer in use.
  void leave_chunk();

 private:
  [[nodiscard]] bool enter_segment();
  void read_into(MutableBytes buffer, Chunk& chunk);
  [[nodiscard]] Bytes read_some(MutableBytes buffer, std::uint64_t count);

  std::span<const Segment> segments_;
  DigestFiles& files_;
  const DigestOptions& options_;
  Progress& progress_;
  const std::stop_token& stop_;

  std::size_t next_segment_ = 0;
  std::size_t end_segment_ = 0;
  std::uint64_t stream_bytes_ = 0;  // read so far, as a place on the disk
  const Segment* segment_ = nullptr;
  std::uint64_t at_bytes_ = 0;         // in the input
  std::uint64_t known_end_bytes_ = 0;  // in the input: from here on there is a gap
  const OpenInput* open_ = nullptr;
  std::optional<CachedRangeReader> cached_;
};

/// What a buffer for chunks of `chunk_bytes` (whole BEP 52 blocks) takes: reads past the cache begin and end
/// with a page.
[[nodiscard]] constexpr std::size_t chunk_buffer_bytes(std::size_t chunk_bytes) {
  return chunk_bytes + 2 * kPageBytes;
}

}  // namespace sluice::base
