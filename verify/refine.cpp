#include "verify/refine.h"

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

/// The pieces of one file.
class Refiner {
 public:
  Refiner(const format::ReleaseLayout& layout, const format::LeafFile& leaves, const Promise& promise,
          const base::File& file)
      : layout_(layout),
        leaves_(leaves),
        released_(*promise.released),
        file_(file),
        blocks_per_piece_(blocks_per_piece(layout)) {}

  [[nodiscard]] std::vector<ByteRange> refine(const std::vector<ByteRange>& bad) const {
    std::vector<ByteRange> refined;
    for (const ByteRange& range : bad) {
      const std::uint64_t end_bytes = std::min(range.end_bytes(), released_.length_bytes);
      for (std::uint64_t start = range.offset_bytes; start < end_bytes;) {
        const std::uint64_t piece = start / layout_.piece_bytes;
        const std::uint64_t piece_end = std::min((piece + 1) * layout_.piece_bytes, end_bytes);
        add(piece, {start, piece_end - start}, refined);
        start = piece_end;
      }
      // Behind the file's end nothing is right.
      if (range.end_bytes() > released_.length_bytes) {
        const std::uint64_t start = std::max(range.offset_bytes, released_.length_bytes);
        refined.push_back({start, range.end_bytes() - start});
      }
    }
    return refined;
  }

 private:
  void add(std::uint64_t piece, const ByteRange& whole, std::vector<ByteRange>& refined) const {
    const std::vector<Sha256> expected =
        leaves_.read(*released_.root, piece * blocks_per_piece_, blocks_per_piece_);
    const std::vector<ByteRange> wrong =
        prove(piece, expected) ? compare(piece, expected) : std::vector<ByteRange>{};
    // Bytes that were wrong a moment ago and are not any more are still nothing to be relied on.
    if (wrong.empty()) refined.push_back(whole);
    refined.insert(refined.end(), wrong.begin(), wrong.end());
  }

  [[nodiscard]] bool prove(std::uint64_t piece, const std::vector<Sha256>& leaves) const {
    if (leaves.empty()) return false;
    if (released_.piece_layer.empty()) return base::merkle_root(leaves) == *released_.root;
    return base::merkle_root(leaves, 0, blocks_per_piece_) == released_.piece_layer[piece];
  }

  [[nodiscard]] std::vector<ByteRange> compare(std::uint64_t piece,
                                               const std::vector<Sha256>& expected) const {
    const std::uint64_t start = piece * layout_.piece_bytes;
    const std::uint64_t end = std::min(start + layout_.piece_bytes, released_.length_bytes);
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

void refine(const std::filesystem::path& folder, const Expectations& expectations,
            const std::vector<Promise>& promises, std::vector<Evidence>& evidence) {
  for (std::size_t i = 0; i < promises.size(); ++i) {
    const Promise& promise = promises[i];
    if (evidence[i].bad.empty() || promise.released == nullptr || !promise.released->root) continue;
    const base::File file = base::File::open_read(folder / promise.path);
    evidence[i].bad =
        Refiner(*expectations.layout, *expectations.leaves, promise, file).refine(evidence[i].bad);
    normalize(evidence[i].bad);
  }
}

}  // namespace sluice::verify
