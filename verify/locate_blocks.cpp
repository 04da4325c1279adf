// Reads damaged pieces again and compares their blocks with a leaf file. The leaf file is not signed or
// pinned: its leaves are used only after the tree over them gave the piece's hash in the torrent.

#include "verify/locate_blocks.h"

#include <algorithm>
#include <bit>
#include <span>

#include "base/error.h"
#include "base/file.h"
#include "base/hasher.h"
#include "base/merkle.h"

namespace sluice::verify {
namespace {

using base::ByteRange;
using base::Sha256;

/// Locates the damage in the pieces of one file.
class BlockLocator {
 public:
  BlockLocator(const format::ReleaseLayout& layout, const format::LeafFile& leaves,
               const ExpectedFile& expected_file, const base::File& file)
      : layout_(layout),
        leaves_(leaves),
        released_(*expected_file.released),
        file_(file),
        blocks_per_piece_(blocks_per_piece(layout)) {}

  [[nodiscard]] std::vector<ByteRange> locate(const std::vector<ByteRange>& bad) const {
    std::vector<ByteRange> located;
    for (const ByteRange& range : bad) {
      const std::uint64_t end_bytes = std::min(range.end_bytes(), released_.length_bytes);
      // Ranges are joined and may cover many pieces. The leaf file is read and tested piece by piece, so one
      // piece without genuine leaves does not spoil the others.
      for (std::uint64_t start = range.offset_bytes; start < end_bytes;) {
        const std::uint64_t piece = start / layout_.piece_bytes;
        const std::uint64_t piece_end = std::min((piece + 1) * layout_.piece_bytes, end_bytes);
        add(piece, {start, piece_end - start}, located);
        start = piece_end;
      }
      // Everything after the expected end of the file is wrong.
      if (range.end_bytes() > released_.length_bytes) {
        const std::uint64_t start = std::max(range.offset_bytes, released_.length_bytes);
        located.push_back({start, range.end_bytes() - start});
      }
    }
    return located;
  }

 private:
  void add(std::uint64_t piece, const ByteRange& whole, std::vector<ByteRange>& located) const {
    const std::vector<Sha256> expected =
        leaves_.read(*released_.root, piece * blocks_per_piece_, blocks_per_piece_);
    const std::vector<ByteRange> wrong =
        are_genuine(piece, expected) ? compare(piece, expected) : std::vector<ByteRange>{};
    // When no block is wrong now, the bytes changed since the first read: the whole piece stays unverified.
    if (wrong.empty()) located.push_back(whole);
    located.insert(located.end(), wrong.begin(), wrong.end());
  }

  /// True when the tree over the leaves has the hash that the torrent states for the piece.
  [[nodiscard]] bool are_genuine(std::uint64_t piece, const std::vector<Sha256>& leaves) const {
    if (leaves.empty()) return false;
    // BEP 52: a file of at most one piece has no piece layer, its root covers the leaves directly. Otherwise
    // the tree below a piece always has the full width; missing leaves at the end of the file are zeros.
    if (released_.piece_layer.empty()) return base::merkle_root(leaves) == *released_.root;
    return base::merkle_root(leaves, 0, blocks_per_piece_) == released_.piece_layer[piece];
  }

  [[nodiscard]] std::vector<ByteRange> compare(std::uint64_t piece,
                                               const std::vector<Sha256>& expected) const {
    const std::uint64_t start = piece * layout_.piece_bytes;
    const std::uint64_t end = std::min(start + layout_.piece_bytes, released_.length_bytes);
    // One block at a time: damaged pieces are few, and so memory stays small whatever the piece length.
    std::vector<std::byte> block(base::kMerkleBlockBytes);
    auto ranges = bad_units(base::kMerkleBlockBytes, end - start, [&](std::uint64_t index) {
      const std::uint64_t offset = start + index * base::kMerkleBlockBytes;
      const auto length = std::min<std::uint64_t>(block.size(), end - offset);
      const auto bytes = std::span(block).first(length);
      return index >= expected.size() || file_.read_at(offset, bytes) != length ||
             base::hash<Sha256>(bytes) != expected[index];
    });
    for (ByteRange& range : ranges) range.offset_bytes += start;
    return ranges;
  }

  const format::ReleaseLayout& layout_;
  const format::LeafFile& leaves_;
  const format::ReleaseFile& released_;
  const base::File& file_;
  std::uint64_t blocks_per_piece_;
};

}  // namespace

void locate_blocks(const std::filesystem::path& folder, const Expectations& expectations,
                   const std::vector<ExpectedFile>& expected_files, std::vector<FileFindings>& findings) {
  for (std::size_t i = 0; i < expected_files.size(); ++i) {
    const ExpectedFile& expected_file = expected_files[i];
    if (findings[i].bad.empty() || expected_file.released == nullptr || !expected_file.released->root)
      continue;
    // A file that is missing has no bad ranges, because these come only from files that were read.
    const base::File file = base::File::open_read(folder / expected_file.path);
    findings[i].bad =
        BlockLocator(*expectations.layout, *expectations.leaves, expected_file, file).locate(findings[i].bad);
    normalize(findings[i].bad);
  }
}

}  // namespace sluice::verify
