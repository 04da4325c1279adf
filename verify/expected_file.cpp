// Joins the files of a torrent and of a manifest by path. The torrent is checked first: everything after it
// relies on rows of hashes that have the right length and lead to the stated roots.

#include "verify/expected_file.h"

#include <algorithm>
#include <bit>
#include <map>
#include <string_view>

#include "base/error.h"
#include "base/merkle.h"

namespace sluice::verify {
namespace {

// This limit is one of plausibility: 1 TiB is far above the piece lengths in use, and fetch accepts at most
// 512 MiB.
constexpr std::uint64_t kPieceBytesMax = std::uint64_t{1} << 40;

/// A torrent that contradicts itself cannot tell right from wrong bytes, so it is refused as a whole instead
/// of being reported as damage of files.
[[noreturn]] void refuse_torrent(const format::ReleaseLayout& layout, const std::string& why) {
  base::throw_malformed("torrent '" + layout.name + "'", why);
}

std::string counted(std::uint64_t count, std::string_view what) {
  return std::to_string(count) + ' ' + std::string(what);
}

/// Checks the rows of hashes of one file against its length and its root (BEP 52). In a v2 torrent the piece
/// layers stand outside the info dictionary, so the info-hash covers only the root; a row is trusted because
/// its tree leads to that root.
void check_tree(const format::ReleaseLayout& layout, const format::ReleaseFile& file) {
  const auto check_row = [&](const std::vector<base::Sha256>& row, std::uint64_t blocks,
                             std::string_view what) {
    if (row.empty()) return;
    const std::uint64_t expected = base::divide_up(file.length_bytes, blocks * base::kMerkleBlockBytes);
    if (row.size() != expected) {
      refuse_torrent(layout, "has " + counted(row.size(), what) + " for '" + file.path + "', expected " +
                                 std::to_string(expected));
    }
    // The row lies log2(blocks) levels above the leaves.
    const auto height = static_cast<unsigned>(std::countr_zero(blocks));
    if (file.root && base::merkle_root(row, height) != *file.root)
      refuse_torrent(layout, "the " + std::string(what) + " of '" + file.path + "' do not make its root");
  };
  if (!file.piece_layer.empty()) check_row(file.piece_layer, blocks_per_piece(layout), "piece hashes");
  check_row(file.leaves, 1, "block hashes");
}

/// Checks everything that later steps index by: names, lengths whose sum fits into 64 bits, and as many
/// hashes as pieces.
void check_layout(const format::ReleaseLayout& layout) {
  format::check_release_names(layout, "torrent '" + layout.name + "'");
  std::uint64_t total_bytes = 0;
  for (const format::ReleaseFile& file : layout.files) {
    const auto sum = base::checked_add(total_bytes, file.length_bytes);
    if (!sum) refuse_torrent(layout, "is larger than 2^64 bytes");
    total_bytes = *sum;
    check_tree(layout, file);
  }
  if (layout.v1_pieces.empty()) return;
  if (layout.piece_bytes == 0 || layout.piece_bytes > kPieceBytesMax)
    refuse_torrent(layout, "has pieces of " + counted(layout.piece_bytes, "bytes"));
  const std::uint64_t expected = base::divide_up(total_bytes, layout.piece_bytes);
  if (layout.v1_pieces.size() != expected) {
    refuse_torrent(layout, "has " + counted(layout.v1_pieces.size(), "v1 pieces") + ", its files make " +
                               std::to_string(expected));
  }
}

/// An info-hash that only one side has is no contradiction: a manifest may name the v1 hash alone.
template <typename D>
void check_same(const std::optional<D>& torrent, const std::optional<D>& manifest, std::string_view what) {
  if (!torrent || !manifest || *torrent == *manifest) return;
  throw base::Error(base::ErrorKind::verification,
                    "the torrent is not the one that the manifest names: " + std::string(what) + " is " +
                        base::to_hex(*torrent) + ", expected " + base::to_hex(*manifest));
}

}  // namespace

std::uint64_t blocks_per_piece(const format::ReleaseLayout& layout) {
  const std::uint64_t blocks = layout.piece_bytes / base::kMerkleBlockBytes;
  if (layout.piece_bytes % base::kMerkleBlockBytes != 0 || !std::has_single_bit(blocks) ||
      layout.piece_bytes > kPieceBytesMax) {
    refuse_torrent(layout, "has v2 hashes over pieces of " + counted(layout.piece_bytes, "bytes"));  // BEP 52
  }
  return blocks;
}

std::optional<std::uint64_t> ExpectedFile::length_bytes() const {
  if (released != nullptr) return released->length_bytes;
  return stated != nullptr ? stated->length_bytes : std::nullopt;
}

std::vector<ExpectedFile> collect_expected_files(const Expectations& expectations) {
  std::vector<ExpectedFile> expected_files;
  // The keys are views into `expectations`, which outlives this function.
  std::map<std::string_view, std::size_t> index_of;
  if (expectations.layout) {
    check_layout(*expectations.layout);
    std::uint64_t offset_bytes = 0;
    for (const format::ReleaseFile& file : expectations.layout->files) {
      // Several pad files may have the same name.
      if (!file.pad) index_of.emplace(file.path, expected_files.size());
      expected_files.push_back({file.path, &file, nullptr, offset_bytes});
      offset_bytes += file.length_bytes;
    }
  }
  if (!expectations.manifest) return expected_files;
  const format::Manifest& manifest = *expectations.manifest;
  if (expectations.layout) {
    check_same(expectations.layout->infohash_v1, manifest.infohash_v1, "info-hash v1");
    check_same(expectations.layout->infohash_v2, manifest.infohash_v2, "info-hash v2");
  }
  // A manifest's entry joins the torrent's entry of the same path. Other entries come last: they must not
  // move the torrent's files, whose positions are those of the v1 stream.
  for (const format::ManifestFile& file : manifest.files) {
    format::check_listed_path(file.path, "manifest '" + manifest.name + "'");
    const auto [place, is_new] = index_of.emplace(file.path, expected_files.size());
    if (is_new) {
      expected_files.push_back({file.path, nullptr, &file, 0});
    } else {
      expected_files[place->second].stated = &file;
    }
  }
  return expected_files;
}

}  // namespace sluice::verify
