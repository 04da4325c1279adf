// Turns the segments of a work unit into chunks. The position in an input moves over known bytes and over
// gaps alike, so that hashers can rely on the offsets whatever could be read. Every segment ends with exactly
// one chunk that has ends_segment, also an empty one: it is what releases the file.

#include "base/unit_reader.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/error.h"

namespace sluice::base {
namespace {

constexpr std::array<std::byte, 65536> kZeros{};

// Reads from a file that bypasses the cache. O_DIRECT wants offset, length and memory on page borders, so
// this reads the whole pages around the bytes, for which `buffer` has room, and returns the part that was
// asked for.
Bytes read_pages(const File& file, std::uint64_t offset_bytes, std::uint64_t count, MutableBytes buffer) {
  const std::uint64_t skip = offset_bytes % kPageBytes;
  const std::uint64_t want = align_up(skip + count, kPageBytes);
  std::uint64_t got = 0;
  while (got < want) {
    const auto result = ::pread(file.descriptor(), buffer.data() + got, want - got,
                                static_cast<off_t>(offset_bytes - skip + got));
    if (result < 0 && errno == EINTR) continue;
    if (result < 0) throw_errno(file.path(), "read", errno);
    got += static_cast<std::uint64_t>(result);
    if (result == 0 || got % kPageBytes != 0) break;  // the file ends here
  }
  return Bytes(buffer).first(std::min(got, skip + count)).subspan(std::min(got, skip));
}

}  // namespace

UnitReader::UnitReader(std::span<const Segment> segments, DigestFiles& files, const DigestOptions& options,
                       Progress& progress, const std::stop_token& stop)
    : segments_(segments), files_(files), options_(options), progress_(progress), stop_(stop) {}

void UnitReader::start(const WorkUnit& unit) {
  next_segment_ = unit.first_segment;
  end_segment_ = unit.first_segment + unit.segment_count;
  stream_bytes_ = unit.stream_offset_bytes;
  segment_ = nullptr;
}

std::optional<StreamChunk> UnitReader::next(MutableBytes buffer) {
  // Once per chunk: often enough for Ctrl-C, and rare enough to cost nothing.
  if (stop_.stop_requested()) throw Error(ErrorKind::interrupted, "interrupted");
  release_chunk();
  if (segment_ == nullptr && !enter_segment()) return std::nullopt;
  StreamChunk chunk;
  chunk.input = segment_->input;
  chunk.offset_bytes = at_bytes_;
  chunk.pad = files_.input(segment_->input).path.empty();
  const std::uint64_t end_bytes = segment_->offset_bytes + segment_->length_bytes;
  if (chunk.pad) {
    chunk.bytes = Bytes(kZeros).first(std::min<std::uint64_t>(kZeros.size(), end_bytes - at_bytes_));
  } else if (at_bytes_ < known_end_bytes_) {
    read_into(buffer, chunk);
  }
  at_bytes_ += chunk.bytes.size();
  if (!chunk.pad && at_bytes_ == known_end_bytes_) chunk.gap_bytes = end_bytes - at_bytes_;
  at_bytes_ += chunk.gap_bytes;
  chunk.ends_segment = at_bytes_ == end_bytes;
  if (chunk.ends_segment) {
    stream_bytes_ += segment_->length_bytes;
    segment_ = nullptr;
  }
  return chunk;
}

void UnitReader::release_chunk() {
  if (segment_ == nullptr) cached_.reset();
}

bool UnitReader::enter_segment() {
  if (next_segment_ == end_segment_) return false;
  segment_ = &segments_[next_segment_++];
  at_bytes_ = known_end_bytes_ = segment_->offset_bytes;
  if (files_.input(segment_->input).path.empty()) return true;
  open_ = files_.acquire(segment_->input);
  if (open_ == nullptr) return true;
  // Bytes behind known_bytes do not exist on the disk; next() returns them as a gap.
  known_end_bytes_ = std::clamp(open_->known_bytes, at_bytes_, at_bytes_ + segment_->length_bytes);
  if (open_->cached) {
    cached_.emplace(*open_->cached, open_->begin_bytes + at_bytes_, known_end_bytes_ - at_bytes_,
                    CachedRangeReader::Options{options_.drop_cache, stream_bytes_});
  }
  return true;
}

/// A read error, or a file that ends earlier than expected, turns the rest of the segment into a gap.
void UnitReader::read_into(MutableBytes buffer, StreamChunk& chunk) {
  // A segment may begin within a block (v1 pieces without leaves): the first chunk is shorter, all others
  // begin on a block.
  const std::uint64_t chunk_bytes = buffer.size() - chunk_buffer_bytes(0) - at_bytes_ % kMerkleBlockBytes;
  const std::uint64_t count = std::min(chunk_bytes, known_end_bytes_ - at_bytes_);
  try {
    chunk.bytes = read_some(buffer, count);
    progress_.advance(chunk.bytes.size());
    // The file had more bytes when it was opened.
    if (chunk.bytes.size() < count) files_.fail(chunk.input, ReadState::changed, {});
  } catch (const Error& error) {
    files_.fail(chunk.input, ReadState::unreadable, error.what());
  }
  if (chunk.bytes.size() < count) known_end_bytes_ = at_bytes_ + chunk.bytes.size();
}

Bytes UnitReader::read_some(MutableBytes buffer, std::uint64_t count) {
  if (cached_) return cached_->read(buffer.first(static_cast<std::size_t>(count)));
  return read_pages(open_->file, open_->begin_bytes + at_bytes_, count, buffer);
}

}  // namespace sluice::base
