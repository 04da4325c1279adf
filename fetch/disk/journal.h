#pragma once
// The journal of a fetch records what the bytes on the disk hash to, after they were made durable. It says
// "piece 7 has this digest", not "piece 7 is right": the reader compares the digest with the torrent, so a
// journal proves nothing that the torrent does not. For partial pieces it records which blocks are on the
// disk; these prove nothing until the whole piece has been hashed. docs/fetch.md has the layout.
//
// The file only grows. Each record carries a checksum; a torn or changed record is ignored.

#include <bitset>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/directory.h"
#include "fetch/disk/storage.h"
#include "fetch/torrent/piece_verifier.h"
#include "format/release_layout.h"

namespace sluice::fetch {

/// A piece of which some blocks, but not all, are on the disk.
struct PartialPiece {
  std::uint64_t index = 0;
  std::vector<bool> blocks;  ///< per block of kBlockBytes: true when the block is on the disk
};

/// Which of up to 256 consecutive blocks of a partial piece are on the disk.
struct PartialBlocks {
  static constexpr std::uint32_t kMax = 256;
  std::uint32_t first = 0;  ///< a multiple of kMax
  std::bitset<kMax> present;

  friend bool operator==(const PartialBlocks&, const PartialBlocks&) = default;
};

struct JournalRecord {
  enum class Kind : std::uint8_t {
    piece = 1,        ///< the disk holds piece `index`, which hashes to `digest`
    piece_lost = 2,   ///< the disk no longer holds piece `index`
    file_opened = 3,  ///< file `index` is being written: its stamp means nothing until it is closed
    file_closed = 4,  ///< file `index` was left with `stamp`
    piece_partial =
        5,  ///< in the range of `blocks`, piece `index` has these blocks on the disk and no others
  };
  Kind kind = Kind::piece;
  std::uint32_t index = 0;
  PieceDigest digest;
  base::FileStamp stamp;
  PartialBlocks blocks = {};

  friend bool operator==(const JournalRecord&, const JournalRecord&) = default;
};

using JournalVisitor = std::function<void(const JournalRecord&)>;

/// The header of a journal of this torrent.
[[nodiscard]] std::vector<std::byte> journal_header(const format::ReleaseLayout& layout);

/// Calls `visit` for each intact record in a journal's bytes, in order. Returns false, without a call, when
/// the bytes are not a journal of this torrent.
bool parse_journal(base::Bytes content, const format::ReleaseLayout& layout, const JournalVisitor& visit);

/// The journal file at `path`. It has one writer, and the caller serializes its calls. Errors: io, no_space.
class Journal final {
 public:
  /// Reads the existing records, or starts a new journal when the file is not a journal of this torrent.
  Journal(Storage& storage, const std::filesystem::path& path, const format::ReleaseLayout& layout,
          const JournalVisitor& visit);

  /// Durable on return.
  void append(std::span<const JournalRecord> records);

 private:
  void start();

  std::shared_ptr<StorageFile> file_;
  std::vector<std::byte> header_;
  std::uint64_t end_bytes_ = 0;
};

}  // namespace sluice::fetch
