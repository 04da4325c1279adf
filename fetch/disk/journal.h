#pragma once
// The journal of a fetch: what the bytes on the disk hash to, written down only after they were made durable.
// It says "piece 7 has this digest", not "piece 7 is right": a reader compares with the torrent, so that a
// journal can prove nothing that the torrent does not. Of pieces that are not finished it says which blocks
// lie on the disk; they prove nothing until the whole piece has been hashed. docs/fetch.md has the layout.
//
// The file only grows. Records are self-checking; one that was torn or changed counts as not there.

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
#include "fetch/torrent/piece_digest.h"
#include "format/release_layout.h"

namespace sluice::fetch {

/// Which blocks of a piece that is not finished are on the disk: up to 256 of them.
struct BegunBlocks {
  static constexpr std::uint32_t kMax = 256;
  std::uint32_t first = 0;  ///< a multiple of kMax
  std::bitset<kMax> present;

  friend bool operator==(const BegunBlocks&, const BegunBlocks&) = default;
};

struct JournalRecord {
  enum class Kind : std::uint8_t {
    piece = 1,        ///< `digest` of piece `index` is what the disk holds
    piece_lost = 2,   ///< and that it does not any more
    file_opened = 3,  ///< file `index` is being written: its stamp says nothing until it is closed
    file_closed = 4,  ///< file `index` was left with `stamp`
    piece_begun = 5,  ///< of piece `index`, `blocks` were written: those of their range, and no others
  };
  Kind kind = Kind::piece;
  std::uint32_t index = 0;
  PieceDigest digest;
  base::FileStamp stamp;
  BegunBlocks blocks = {};

  friend bool operator==(const JournalRecord&, const JournalRecord&) = default;
};

using JournalVisitor = std::function<void(const JournalRecord&)>;

/// How a journal of this torrent begins.
[[nodiscard]] std::vector<std::byte> journal_header(const format::ReleaseLayout& layout);

/// Calls `visit` for each whole record in a journal's bytes, in order; returns false (nothing visited) when
/// they are not a journal of this torrent.
bool parse_journal(base::Bytes content, const format::ReleaseLayout& layout, const JournalVisitor& visit);

/// The journal file at `path`; of one writer. Errors: io, no_space.
class Journal final {
 public:
  /// Reads what is there, and starts anew when it is not a journal of this torrent.
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
