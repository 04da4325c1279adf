// Reads and writes files of leaves: a header of 16 bytes, a table of (root, number of leaves), then the
// leaves of all files one after the other, all little-endian (format in leaf_file.h).
//
// A leaf file is not trusted and needs no digest of its own: whoever uses leaves must compute their root and
// compare it with the torrent's. Here only structure is checked.

#include "format/leaf_file.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/invariant.h"

namespace sluice::format {
namespace {

constexpr std::string_view kMagic = "SLUICELF";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kHeaderBytes = 16;
constexpr std::size_t kRowBytes = base::Sha256::kBytes + sizeof(std::uint64_t);
constexpr std::size_t kLeafBytes = base::Sha256::kBytes;

base::Sha256 take_digest(base::Bytes bytes) {
  base::Sha256 digest;
  std::ranges::copy(bytes.first(kLeafBytes), digest.bytes.begin());
  return digest;
}

template <typename T>
void append_le(std::vector<std::byte>& out, T value) {
  out.resize(out.size() + sizeof(T));
  base::store_le(out, out.size() - sizeof(T), value);
}

void append(std::vector<std::byte>& out, base::Bytes bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

// A file of one leaf has that leaf as its root, which the torrent states already.
bool has_row(const ReleaseFile& file) { return !file.pad && file.leaves.size() > 1; }

}  // namespace

LeafFile LeafFile::open(const std::filesystem::path& path) {
  LeafFile leaves(base::File::open_read(path));
  const std::string subject = path.string();
  const std::uint64_t file_bytes = leaves.file_.size_bytes();
  std::array<std::byte, kHeaderBytes> header{};
  if (file_bytes < kHeaderBytes) base::throw_malformed(subject, "is too short for a file of leaves");
  leaves.file_.read_exact_at(0, header);
  if (base::as_text(header).substr(0, kMagic.size()) != kMagic)
    base::throw_malformed(subject, "is no file of leaves");
  const auto version = base::load_le<std::uint32_t>(header, kMagic.size());
  if (version != kVersion)
    base::throw_malformed(
        subject, "has version " + std::to_string(version) + ", expected " + std::to_string(kVersion));
  const auto file_count = base::load_le<std::uint32_t>(header, kMagic.size() + sizeof(version));
  // This bounds the memory for the table.
  if (file_count > (file_bytes - kHeaderBytes) / kRowBytes)
    base::throw_malformed(subject, "is too short for " + std::to_string(file_count) + " files");

  std::vector<std::byte> table(file_count * kRowBytes);
  leaves.file_.read_exact_at(kHeaderBytes, table);
  std::uint64_t offset_bytes = kHeaderBytes + table.size();
  for (std::uint32_t i = 0; i < file_count; ++i) {
    const base::Bytes row = base::Bytes(table).subspan(i * kRowBytes, kRowBytes);
    const auto leaf_count = base::load_le<std::uint64_t>(row, kLeafBytes);
    // `offset_bytes` never exceeds the file's size, so neither the subtraction nor the sum below overflows.
    if (leaf_count > (file_bytes - offset_bytes) / kLeafBytes)
      base::throw_malformed(subject, "is too short for the " + std::to_string(leaf_count) +
                                         " leaves of file " + std::to_string(i));
    leaves.rows_.emplace(take_digest(row), Row{offset_bytes, leaf_count});  // equal files have equal leaves
    offset_bytes += leaf_count * kLeafBytes;
  }
  if (offset_bytes != file_bytes)
    base::throw_malformed(
        subject, "has " + std::to_string(file_bytes) + " bytes, expected " + std::to_string(offset_bytes));
  return leaves;
}

std::vector<base::Sha256> LeafFile::read(const base::Sha256& root, std::uint64_t first,
                                         std::uint64_t count) const {
  // Leaves are found by root, not by name: names differ between releases, and equal files share a row.
  const auto row = rows_.find(root);
  if (row == rows_.end() || first >= row->second.leaf_count) return {};
  std::vector<std::byte> bytes(std::min(count, row->second.leaf_count - first) * kLeafBytes);
  file_.read_exact_at(row->second.offset_bytes + first * kLeafBytes, bytes);
  std::vector<base::Sha256> leaves;
  for (std::size_t at = 0; at < bytes.size(); at += kLeafBytes)
    leaves.push_back(take_digest(base::Bytes(bytes).subspan(at)));
  return leaves;
}

void write_leaf_file(const std::filesystem::path& path, const ReleaseLayout& layout) {
  const auto file_count = std::ranges::count_if(layout.files, has_row);
  INVARIANT(file_count <= std::numeric_limits<std::uint32_t>::max());
  std::vector<std::byte> table;
  append(table, base::as_bytes(kMagic));
  append_le(table, kVersion);
  append_le(table, static_cast<std::uint32_t>(file_count));
  for (const ReleaseFile& file : layout.files) {
    if (!has_row(file)) continue;
    append(table, file.root.value().bytes);
    append_le(table, std::uint64_t{file.leaves.size()});
  }
  base::AtomicFile output(path);
  output.file().write_at(0, table);
  std::uint64_t offset_bytes = table.size();
  for (const ReleaseFile& file : layout.files) {
    if (!has_row(file)) continue;
    const base::Bytes bytes = std::as_bytes(std::span(file.leaves));
    output.file().write_at(offset_bytes, bytes);
    offset_bytes += bytes.size();
  }
  output.commit();
}

}  // namespace sluice::format
