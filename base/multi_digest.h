#pragma once
// Computes any set of digests over a list of files and reads each byte once. publish, verify and fetch all
// use it.
//
// The files form one stream in their order, as in a BitTorrent v1 torrent, where pieces continue across file
// borders. The same read gives digests of whole files and the BEP 52 leaves of each file.
//
// The stream is cut into work units (digest_plan.h). A thread takes a unit from read to digest, or two units
// at once where that is faster. A unit that would keep one thread busy after all others are done, such as one
// big file of which an MD5 is wanted, is processed by all threads together, each of which computes another
// digest.

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
  std::uint64_t length_bytes = 0;  ///< expected length; another length is reported
  bool skip = false;               ///< not opened: all its bytes are unknown and its state is `missing`
  /// When set, the input is the range of `length_bytes` that begins here, and the file may be longer.
  std::optional<std::uint64_t> range_offset_bytes = {};
};

struct DigestWants {
  bool md5 = false;
  bool sha256 = false;
  bool leaves = false;  ///< BEP 52 leaves, 16 KiB each
  /// A power of two. Above 1, files with more blocks than that get a `layer` instead of `leaves`: the same
  /// tree in a fraction of the memory.
  std::uint64_t blocks_per_node = 1;
  std::uint64_t v1_piece_bytes = 0;  ///< SHA-1 pieces over the stream (BEP 3); 0 for none
};

enum class ReadState : std::uint8_t {
  complete,    ///< has its expected length, and was read completely
  wrong_size,  ///< shorter or longer than expected; the existing bytes up to that length were read
  missing,     ///< no such file
  unreadable,  ///< exists and cannot be opened or read
  changed,     ///< size or time changed while it was read
};

struct FileDigests {
  ReadState state = ReadState::complete;
  std::string problem;            ///< for `unreadable`: the operating system's message
  std::uint64_t found_bytes = 0;  ///< the file's size on disk, or the length of the range that exists
  // Digests cover the bytes on disk up to the expected length; absent when not wanted or not readable.
  std::optional<Md5> md5;
  std::optional<Sha256> sha256;
  std::vector<Sha256> leaves;
  std::vector<Sha256> layer;  ///< nodes over `blocks_per_node` leaves; zero leaves fill up the last one
};

struct StreamDigests {
  std::vector<FileDigests> files;              ///< one for each input, also for pad files
  std::vector<std::optional<Sha1>> v1_pieces;  ///< absent where bytes of the piece could not be read
};

struct DigestOptions {
  unsigned thread_count = 1;
  std::uint64_t memory_bytes =
      64u << 20;           ///< for buffers, without the results (1/512 of the data for leaves)
  bool drop_cache = true;  ///< drop pages from the page cache that this read brought in
  bool direct = false;     ///< bypass the page cache; where that is not possible, Progress::warn says so
};

/// Throws Error{interrupted} after `stop`. A file that cannot be read is a ReadState, not an Error.
[[nodiscard]] StreamDigests compute_digests(std::span<const DigestInput> inputs, const DigestWants& wants,
                                            const DigestOptions& options, Progress& progress,
                                            const std::stop_token& stop);

}  // namespace sluice::base
