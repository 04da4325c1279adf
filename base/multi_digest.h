#pragma once
// Any set of digests of a list of files in one read of each byte: what publish, verify and fetch all use.
//
// The files form one stream in their order, as in a BitTorrent v1 torrent, where pieces run on across file
// borders. The same read gives whole-file digests and the BEP 52 leaves of each file.
//
// The stream is cut into strands (digest_plan.h), which the threads take one by one from read to digest, two
// at a time where that pays. A strand that would keep one thread busy when all others are done, such as the
// one big file of which an MD5 is wanted, is worked on by all of them together, a digest each.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/progress.h"

namespace sluice::base {

struct DigestInput {
  std::filesystem::path path;      ///< empty for a pad file: `length_bytes` zeros that are not on disk
  std::uint64_t length_bytes = 0;  ///< what the file must have; longer or shorter ones are reported
  bool skip = false;               ///< never opened: all its bytes stay unknown, its state is `missing`
  /// Where the bytes begin that count. What follows them is then none of this input's business: the file may
  /// be longer.
  std::optional<std::uint64_t> range_offset_bytes = {};
};

struct DigestWants {
  bool md5 = false;
  bool sha256 = false;
  bool leaves = false;  ///< BEP 52 leaves, 16 KiB each
  /// A power of two. Above 1, files of more blocks than that get a `layer` instead of `leaves`: the same
  /// tree in a fraction of the memory.
  std::uint64_t blocks_per_node = 1;
  std::uint64_t v1_piece_bytes = 0;  ///< SHA-1 pieces over the stream (BEP 3); 0 for none
};

enum class ReadState : std::uint8_t {
  complete,    ///< read to its expected length, and it ended there
  wrong_size,  ///< shorter or longer than expected; what there is was read
  missing,     ///< no such file
  unreadable,  ///< it exists, and cannot be opened or read
  changed,     ///< size or time changed while it was read
};

struct FileDigests {
  ReadState state = ReadState::complete;
  std::string problem;            ///< for unreadable: the operating system's words
  std::uint64_t found_bytes = 0;  ///< the file's size on disk, or what it has of the range
  /// Digests are of the bytes on disk up to the expected length; absent when not wanted or not readable.
  std::optional<Md5> md5;
  std::optional<Sha256> sha256;
  std::vector<Sha256> leaves;
  std::vector<Sha256> layer;  ///< nodes of `blocks_per_node` leaves; the last is filled up with zero leaves
};

struct StreamDigests {
  std::vector<FileDigests> files;              ///< one an input, pad files included
  std::vector<std::optional<Sha1>> v1_pieces;  ///< absent where bytes of the piece could not be read
};

struct DigestOptions {
  unsigned thread_count = 1;
  std::uint64_t memory_bytes =
      64u << 20;           ///< for buffers; digests come on top (1/512 of the data for leaves)
  bool drop_cache = true;  ///< give back what the read brings into the page cache
  bool direct = false;     ///< read past the page cache; where that cannot be done, Progress::warn says so
};

/// Throws Error{interrupted} when `stop` asks for it; files that cannot be read are values, not errors.
[[nodiscard]] StreamDigests compute_digests(std::span<const DigestInput> inputs, const DigestWants& wants,
                                            const DigestOptions& options, Progress& progress,
                                            const std::stop_token& stop);

}  // namespace sluice::base
