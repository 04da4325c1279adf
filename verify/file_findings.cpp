// Comparison of computed digests with expected ones, in three steps, each of which adds to the findings of
// the files: first every file by its own digests (FileVerifier), then the v1 pieces, which can cover several
// files (PieceVerifier), last the files of which only a digest of the whole file differs and which are
// therefore bad as a whole. The order matters: the second step uses what the first one found to decide which
// file of a wrong piece is the damaged one.

#include "verify/file_findings.h"

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

/// Compares one file with the digests of this file; v1 pieces follow in PieceVerifier.
class FileVerifier {
 public:
  FileVerifier(const ExpectedFile& expected_file, const FileDigests& digests, std::uint64_t blocks_per_node,
               FileFindings& findings, ComparedKinds& kinds)
      : expected_(expected_file),
        digests_(digests),
        blocks_per_node_(blocks_per_node),
        findings_(findings),
        kinds_(kinds),
        length_bytes_(expected_file.length_bytes().value_or(digests.found_bytes)) {}

  void verify(const format::ReleaseLayout* layout) {
    // The size comes first, because its problem is the most telling one and set_problem() keeps the first.
    verify_size();
    if (expected_.released != nullptr) verify_tree(*expected_.released, *layout);
    if (expected_.stated != nullptr) verify_stated(*expected_.stated);
    findings_.is_correct = sha256_matches_ && !findings_.differs;
  }

 private:
  // One sentence per file is enough: further differences have the same cause as a rule.
  void set_problem(const std::string& problem) {
    if (findings_.problem.empty()) findings_.problem = problem;
  }

  void verify_size() {
    // The bytes that are missing at the end, or that should not be there.
    const auto [low, high] = std::minmax(digests_.found_bytes, length_bytes_);
    if (low == high) return;
    findings_.bad.push_back({low, high - low});
    set_problem("has " + std::to_string(digests_.found_bytes) + " bytes, expected " +
                std::to_string(length_bytes_));
  }

  // The most precise row decides. The others need not be compared in addition, since collect_expected_files()
  // has shown that they lead to the same root.
  void verify_tree(const format::ReleaseFile& released, const format::ReleaseLayout& layout) {
    if (!released.leaves.empty()) {
      compare_row(released.leaves, digests_.leaves, base::kMerkleBlockBytes);
    } else if (!released.piece_layer.empty()) {
      // Small files have leaves even when nodes were asked for.
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
      // A file that is too short has fewer nodes than expected; the units without a node are wrong.
      return index >= found.size() || found[index] != expected[index];
    });
    findings_.bad.insert(findings_.bad.end(), bad.begin(), bad.end());
    findings_.compared = findings_.located = kinds_.v2 = true;
  }

  // The manifest's digests are compared even where the torrent's tree matches: a manifest that disagrees with
  // its torrent must not go unnoticed.
  void verify_stated(const format::ManifestFile& stated) {
    if (stated.length_bytes && *stated.length_bytes != length_bytes_) {
      findings_.differs = true;
      set_problem("should have " + std::to_string(length_bytes_) + " bytes by the torrent, and " +
                  std::to_string(*stated.length_bytes) + " by the manifest");
    }
    if (stated.root) compare_root(*stated.root);
    if (stated.sha256) {
      kinds_.sha256 = true;
      compare("SHA-256", *digests_.sha256, *stated.sha256);
      if (digests_.sha256 == stated.sha256) sha256_matches_ = true;
    }
    if (stated.md5) {
      // MD5 can show damage, and it does not make a file `is_correct`: two different files with one MD5 can
      // be made on purpose.
      kinds_.md5 = true;
      compare("MD5", *digests_.md5, *stated.md5);
    }
  }

  void compare_root(const Sha256& expected) {
    kinds_.v2 = true;
    compare("BEP 52 root", root(), expected);
    if (root() == expected) sha256_matches_ = true;
  }

  // A file has nodes or leaves, never both. BEP 52 gives an empty file no root; zeros stand for it, which no
  // expected root equals.
  [[nodiscard]] Sha256 root() const {
    if (!digests_.layer.empty())
      return base::merkle_root(digests_.layer, static_cast<unsigned>(std::countr_zero(blocks_per_node_)));
    return digests_.leaves.empty() ? Sha256{} : base::merkle_root(digests_.leaves);
  }

  template <typename D>
  void compare(std::string_view what, const D& found, const D& expected) {
    findings_.compared = true;
    if (found == expected) return;
    findings_.differs = true;
    set_problem("has the " + std::string(what) + ' ' + base::to_hex(found) + ", expected " +
                base::to_hex(expected));
  }

  const ExpectedFile& expected_;
  const FileDigests& digests_;
  std::uint64_t blocks_per_node_;
  FileFindings& findings_;
  ComparedKinds& kinds_;
  std::uint64_t length_bytes_;
  bool sha256_matches_ = false;  // over the whole file: its own or its tree's
};

/// Compares the v1 pieces and assigns the wrong ones to the files that they cover.
class PieceVerifier {
 public:
  PieceVerifier(const format::ReleaseLayout& layout, const std::vector<ExpectedFile>& expected_files,
                const std::vector<FileDigests>& digests, std::vector<FileFindings>& findings)
      : layout_(layout), expected_files_(expected_files), digests_(digests), findings_(findings) {}

  void verify(const std::vector<std::optional<base::Sha1>>& found, ComparedKinds& kinds) {
    // An absent digest never equals the expected one, so a piece with unreadable bytes is assigned as well,
    // as unknown.
    for (std::size_t piece = 0; piece < layout_.v1_pieces.size(); ++piece) {
      if (found[piece]) kinds.v1 = true;
      if (found[piece] == layout_.v1_pieces[piece]) continue;
      assign(piece, found[piece].has_value());
    }
    // Every byte of the stream is in a piece: files that were read are compared, also when all pieces match.
    for (std::size_t file = 0; file < layout_.files.size(); ++file)
      if (was_read(digests_[file]) && layout_.files[file].length_bytes > 0) findings_[file].compared = true;
  }

 private:
  /// The part of a piece that lies in one file.
  struct PiecePart {
    std::size_t file;
    ByteRange range;  // in the file
  };

  void assign(std::size_t piece, bool known) {
    const std::vector<PiecePart> parts = parts_of(piece);
    // A piece says that some of its bytes are wrong, and not which. Digests of single files (FileVerifier)
    // tell: files that these show to be right are left out, and the damage falls on the rest of the piece.
    const bool all_correct =
        std::ranges::all_of(parts, [&](const PiecePart& part) { return is_correct(part); });
    // No file is damaged when only pad files, which are zeros and not on disk, lie in the piece.
    if (parts.empty()) {
      base::throw_malformed(
          "torrent '" + layout_.name + "'",
          "its v1 piece " + std::to_string(piece) + " is all padding, and not the hash of zeros");
    }
    for (const PiecePart& part : parts) {
      FileFindings& findings = findings_[part.file];
      // A file that could not be read is reported by its state; it has no ranges.
      if (!was_read(digests_[part.file])) continue;
      // When all files of the piece match their digests, the references contradict each other: all are
      // reported.
      if (!all_correct && (findings.located || is_correct(part))) continue;
      (known ? findings.bad : findings.unknown).push_back(part.range);
    }
  }

  [[nodiscard]] bool is_correct(const PiecePart& part) const {
    // With a tree only this part has to be right; with a digest of the whole file, the whole file.
    const FileFindings& findings = findings_[part.file];
    return findings.located ? !overlaps(findings.bad, part.range) : findings.is_correct;
  }

  /// The parts that lie in files, without padding. Must be called with rising piece numbers, so that all
  /// calls together walk the files once.
  std::vector<PiecePart> parts_of(std::size_t piece) {
    const ByteRange range{piece * layout_.piece_bytes, layout_.piece_bytes};
    // Files before first_ end before this piece and before all later ones.
    while (stream_range(first_).end_bytes() <= range.offset_bytes) ++first_;
    std::vector<PiecePart> parts;
    for (std::size_t file = first_; file < layout_.files.size(); ++file) {
      const ByteRange whole = stream_range(file);
      // Empty files share no byte with a piece, and pad files (BEP 47) are not on disk.
      if (whole.offset_bytes >= range.end_bytes()) break;
      const ByteRange shared = intersection(whole, range);
      if (shared.length_bytes > 0 && !layout_.files[file].pad)
        parts.push_back({file, {shared.offset_bytes - whole.offset_bytes, shared.length_bytes}});
    }
    return parts;
  }

  [[nodiscard]] ByteRange stream_range(std::size_t file) const {
    return {expected_files_[file].stream_offset_bytes, layout_.files[file].length_bytes};
  }

  const format::ReleaseLayout& layout_;
  const std::vector<ExpectedFile>& expected_files_;
  const std::vector<FileDigests>& digests_;
  std::vector<FileFindings>& findings_;
  std::size_t first_ = 0;
};

}  // namespace

bool was_read(const FileDigests& digests) {
  return digests.state == ReadState::complete || digests.state == ReadState::wrong_size;
}

std::vector<FileFindings> compare_digests(const Expectations& expectations,
                                          const std::vector<ExpectedFile>& expected_files,
                                          const ComputedDigests& computed, ComparedKinds& kinds) {
  const format::ReleaseLayout* layout = expectations.layout ? &*expectations.layout : nullptr;
  const auto& files = computed.digests.files;
  std::vector<FileFindings> all(expected_files.size());
  for (std::size_t i = 0; i < expected_files.size(); ++i) {
    if (was_read(files[i]) && !expected_files[i].pad())
      FileVerifier(expected_files[i], files[i], computed.blocks_per_node, all[i], kinds).verify(layout);
  }
  const bool has_pieces = layout != nullptr && !layout->v1_pieces.empty();
  if (has_pieces)
    PieceVerifier(*layout, expected_files, files, all).verify(computed.digests.v1_pieces, kinds);

  for (std::size_t i = 0; i < expected_files.size(); ++i) {
    FileFindings& findings = all[i];
    // A digest of the whole file is needed only when nothing more precise was compared, or when it found no
    // damage. In the second case the references contradict each other, and the file must not pass.
    const bool placed = (findings.located || (has_pieces && expected_files[i].released != nullptr)) &&
                        (!findings.bad.empty() || !findings.unknown.empty());
    if (findings.differs && !placed)
      findings.bad.push_back({0, expected_files[i].length_bytes().value_or(files[i].found_bytes)});
    normalize(findings.bad);
    normalize(findings.unknown);
  }
  return all;
}

}  // namespace sluice::verify
