#include "verify/evidence.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "base/merkle.h"

namespace sluice::verify {
namespace {

using base::ByteRange;
using base::FileDigests;
using base::ReadState;
using base::Sha256;

/// Judges one file by the digests that are its own.
class FileJudge {
 public:
  FileJudge(const Promise& promise, const FileDigests& digests, std::uint64_t blocks_per_node,
            Evidence& evidence, Proofs& proofs)
      : promise_(promise),
        digests_(digests),
        blocks_per_node_(blocks_per_node),
        evidence_(evidence),
        proofs_(proofs),
        length_bytes_(promise.length_bytes().value_or(digests.found_bytes)) {}

  void judge(const format::ReleaseLayout* layout) {
    judge_size();
    if (promise_.released != nullptr) judge_tree(*promise_.released, *layout);
    if (promise_.stated != nullptr) judge_stated(*promise_.stated);
    evidence_.cleared = strong_ && !evidence_.differs;
  }

 private:
  void complain(const std::string& problem) {
    if (evidence_.problem.empty()) evidence_.problem = problem;
  }

  void judge_size() {
    const auto [low, high] = std::minmax(digests_.found_bytes, length_bytes_);
    if (low == high) return;
    evidence_.bad.push_back({low, high - low});
    complain("has " + std::to_string(digests_.found_bytes) + " bytes, expected " +
             std::to_string(length_bytes_));
  }

  void judge_tree(const format::ReleaseFile& released, const format::ReleaseLayout& layout) {
    if (!released.leaves.empty()) {
      compare_row(released.leaves, digests_.leaves, base::kMerkleBlockBytes);
    } else if (!released.piece_layer.empty()) {
      const bool has_layer = !digests_.layer.empty();
      const auto from_leaves =
          has_layer ? std::vector<Sha256>{} : base::merkle_layer(digests_.leaves, blocks_per_piece(layout));
      compare_row(released.piece_layer, has_layer ? digests_.layer : from_leaves, layout.piece_bytes);
    } else if (released.root) {
      compare_root(*released.root);
    }
  }

  void compare_row(const std::vector<Sha256>& expected, const std::vector<Sha256>& found,
                   std::uint64_t unit_bytes) {
    const auto bad = bad_units(unit_bytes, length_bytes_, [&](std::uint64_t index) {
      return index >= found.size() || found[index] != expected[index];
    });
    evidence_.bad.insert(evidence_.bad.end(), bad.begin(), bad.end());
    evidence_.compared = evidence_.located = proofs_.v2 = true;
  }

  void judge_stated(const format::ManifestFile& stated) {
    if (stated.length_bytes && *stated.length_bytes != length_bytes_) {
      evidence_.differs = true;
      complain("should have " + std::to_string(length_bytes_) + " bytes by the torrent, and " +
               std::to_string(*stated.length_bytes) + " by the manifest");
    }
    if (stated.root) compare_root(*stated.root);
    if (stated.sha256) {
      proofs_.sha256 = true;
      compare("SHA-256", *digests_.sha256, *stated.sha256);
      if (digests_.sha256 == stated.sha256) strong_ = true;
    }
    if (stated.md5) {
      proofs_.md5 = true;
      compare("MD5", *digests_.md5, *stated.md5);
    }
  }

  void compare_root(const Sha256& expected) {
    proofs_.v2 = true;
    compare("BEP 52 root", root(), expected);
    if (root() == expected) strong_ = true;
  }

  [[nodiscard]] Sha256 root() const {
    if (!digests_.layer.empty())
      return base::merkle_root(digests_.layer, static_cast<unsigned>(std::countr_zero(blocks_per_node_)));
    return digests_.leaves.empty() ? Sha256{} : base::merkle_root(digests_.leaves);
  }

  template <typename D>
  void compare(std::string_view what, const D& found, const D& expected) {
    evidence_.compared = true;
    if (found == expected) return;
    evidence_.differs = true;
    complain("has the " + std::string(what) + ' ' + base::to_hex(found) + ", expected " +
             base::to_hex(expected));
  }

  const Promise& promise_;
  const FileDigests& digests_;
  std::uint64_t blocks_per_node_;
  Evidence& evidence_;
  Proofs& proofs_;
  std::uint64_t length_bytes_;
  bool strong_ = false;  // a SHA-256 over all of the file is right
};

/// Holds the v1 pieces against the files that they run over.
class PieceJudge {
 public:
  PieceJudge(const format::ReleaseLayout& layout, const std::vector<Promise>& promises,
             const std::vector<FileDigests>& digests, std::vector<Evidence>& evidence)
      : layout_(layout), promises_(promises), digests_(digests), evidence_(evidence) {}

  void judge(const std::vector<std::optional<base::Sha1>>& found, Proofs& proofs) {
    for (std::size_t piece = 0; piece < layout_.v1_pieces.size(); ++piece) {
      if (found[piece]) proofs.v1 = true;
      if (found[piece] == layout_.v1_pieces[piece]) continue;
      blame(piece, found[piece].has_value());
    }
    for (std::size_t file = 0; file < layout_.files.size(); ++file)
      if (was_read(digests_[file]) && layout_.files[file].length_bytes > 0) evidence_[file].compared = true;
  }

 private:
  struct Part {
    std::size_t file;
    ByteRange range;  // in the file
  };

  void blame(std::size_t piece, bool known) {
    const std::vector<Part> parts = parts_of(piece);
    const bool all_cleared = std::ranges::all_of(parts, [&](const Part& part) { return cleared(part); });
    if (parts.empty()) {
      base::throw_malformed(
          "torrent '" + layout_.name + "'",
          "its v1 piece " + std::to_string(piece) + " is all padding, and not the hash of zeros");
    }
    for (const Part& part : parts) {
      Evidence& evidence = evidence_[part.file];
      if (!was_read(digests_[part.file])) continue;
      // When every file of the piece is cleared, the promises contradict each other, and all are to blame.
      if (!all_cleared && (evidence.located || cleared(part))) continue;
      (known ? evidence.bad : evidence.unknown).push_back(part.range);
    }
  }

  [[nodiscard]] bool cleared(const Part& part) const {
    const Evidence& evidence = evidence_[part.file];
    return evidence.located ? !overlaps(evidence.bad, part.range) : evidence.cleared;
  }

  /// Pieces are asked for in rising order.
  std::vector<Part> parts_of(std::size_t piece) {
    const ByteRange range{piece * layout_.piece_bytes, layout_.piece_bytes};
    while (stream_range(first_).end_bytes() <= range.offset_bytes) ++first_;
    std::vector<Part> parts;
    for (std::size_t file = first_; file < layout_.files.size(); ++file) {
      const ByteRange whole = stream_range(file);
      if (whole.offset_bytes >= range.end_bytes()) break;
      const ByteRange shared = intersection(whole, range);
      if (shared.length_bytes > 0 && !layout_.files[file].pad)
        parts.push_back({file, {shared.offset_bytes - whole.offset_bytes, shared.length_bytes}});
    }
    return parts;
  }

  [[nodiscard]] ByteRange stream_range(std::size_t file) const {
    return {promises_[file].stream_offset_bytes, layout_.files[file].length_bytes};
  }

  const format::ReleaseLayout& layout_;
  const std::vector<Promise>& promises_;
  const std::vector<FileDigests>& digests_;
  std::vector<Evidence>& evidence_;
  std::size_t first_ = 0;
};

}  // namespace

bool was_read(const FileDigests& digests) {
  return digests.state == ReadState::complete || digests.state == ReadState::wrong_size;
}

std::vector<Evidence> weigh(const Expectations& expectations, const std::vector<Promise>& promises,
                            const Computed& computed, Proofs& proofs) {
  const format::ReleaseLayout* layout = expectations.layout ? &*expectations.layout : nullptr;
  const auto& files = computed.digests.files;
  std::vector<Evidence> all(promises.size());
  for (std::size_t i = 0; i < promises.size(); ++i) {
    if (was_read(files[i]) && !promises[i].pad())
      FileJudge(promises[i], files[i], computed.blocks_per_node, all[i], proofs).judge(layout);
  }
  const bool has_pieces = layout != nullptr && !layout->v1_pieces.empty();
  if (has_pieces) PieceJudge(*layout, promises, files, all).judge(computed.digests.v1_pieces, proofs);

  for (std::size_t i = 0; i < promises.size(); ++i) {
    Evidence& evidence = all[i];
    const bool placed = (evidence.located || (has_pieces && promises[i].released != nullptr)) &&
                        (!evidence.bad.empty() || !evidence.unknown.empty());
    if (evidence.differs && !placed)
      evidence.bad.push_back({0, promises[i].length_bytes().value_or(files[i].found_bytes)});
    normalize(evidence.bad);
    normalize(evidence.unknown);
  }
  return all;
}

}  // namespace sluice::verify
