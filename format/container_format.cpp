// Names, sizes and fixed records of a container (docs/container.md). Header and footer are encoded field by
// field at fixed offsets, little-endian, so that the bytes do not depend on a compiler's padding. Pure
// functions; any number of threads may call them.

#include "format/container_format.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/error.h"
#include "base/hasher.h"
#include "base/invariant.h"

namespace sluice::format {
namespace {

// Offsets of the fields in the footer.
constexpr std::size_t kDirectoryOffsetAt = 0;
constexpr std::size_t kDirectoryLengthAt = 8;
constexpr std::size_t kFileBytesAt = 16;
constexpr std::size_t kRootAt = 24;
constexpr std::size_t kDirectorySha256At = 56;
constexpr std::size_t kFooterSha256At = 88;
constexpr std::size_t kEndMagicAt = 120;
static_assert(kEndMagicAt + kContainerEndMagic.size() == kContainerFooterBytes);

void put(base::MutableBytes out, std::size_t offset, base::Bytes bytes) {
  std::ranges::copy(bytes, out.subspan(offset, bytes.size()).begin());
}

base::Sha256 take_digest(base::Bytes bytes, std::size_t offset) {
  base::Sha256 digest;
  std::ranges::copy(bytes.subspan(offset, digest.bytes.size()), digest.bytes.begin());
  return digest;
}

}  // namespace

// Type and layout are two words in the directory, because bf16 occurs in both layouts.
std::string_view type_name(Storage storage) {
  switch (storage) {
    case Storage::f32_rows: return "f32";
    case Storage::bf16_rows:
    case Storage::bf16_tiles: return "bf16";
    case Storage::q8_tiles: return "q8";
    case Storage::q6_tiles: return "q6";
    case Storage::q4_tiles: return "q4";
  }
  INVARIANT(!"a Storage without type");
}

bool is_tiled(Storage storage) {
  switch (storage) {
    case Storage::f32_rows:
    case Storage::bf16_rows: return false;
    case Storage::bf16_tiles:
    case Storage::q8_tiles:
    case Storage::q6_tiles:
    case Storage::q4_tiles: return true;
  }
  INVARIANT(!"a Storage without layout");
}

std::string_view layout_name(Storage storage) { return is_tiled(storage) ? "tiles" : "rows"; }

TileType tile_type(Storage storage) {
  switch (storage) {
    case Storage::bf16_tiles: return TileType::bf16;
    case Storage::q8_tiles: return TileType::q8;
    case Storage::q6_tiles: return TileType::q6;
    case Storage::q4_tiles: return TileType::q4;
    case Storage::f32_rows:
    case Storage::bf16_rows: break;
  }
  INVARIANT(!"rows have no tile type");
}

std::uint64_t storage_bytes(Storage storage, const Shape& shape) {
  if (is_tiled(storage)) {
    INVARIANT(shape.size() == 2);
    return TileLayout(tile_type(storage), shape[0], shape[1]).total_bytes;
  }
  const auto count = element_count(shape);
  INVARIANT(count.has_value());
  return *count * (storage == Storage::f32_rows ? 4 : 2);
}

TileLayout ContainerTensor::tile_layout() const { return TileLayout(tile_type(storage), shape[0], shape[1]); }

std::array<std::byte, kContainerHeaderBytes> encode_header() {
  std::array<std::byte, kContainerHeaderBytes> header{};
  put(header, 0, base::as_bytes(kContainerMagic));
  base::store_le<std::uint32_t>(header, 8, kContainerVersion);
  base::store_le<std::uint32_t>(header, 12, kContainerHeaderBytes);
  return header;
}

void check_header(base::Bytes header, std::string_view subject) {
  if (header.size() < kContainerHeaderBytes || base::as_text(header.first(8)) != kContainerMagic)
    base::throw_malformed(subject, "is not a .sluice container (its first bytes are not the magic)");
  const auto version = base::load_le<std::uint32_t>(header, 8);
  if (version != kContainerVersion) {
    base::throw_malformed(subject, "has container version " + std::to_string(version) +
                                       ", this program reads version " + std::to_string(kContainerVersion));
  }
  // All of the header is known, so comparing it as a whole finds every flipped bit.
  const auto expected = encode_header();
  if (!std::ranges::equal(header.first(kContainerHeaderBytes), expected))
    base::throw_malformed(subject, "header is damaged");
}

std::array<std::byte, kContainerFooterBytes> encode_footer(const ContainerFooter& footer) {
  std::array<std::byte, kContainerFooterBytes> bytes{};
  base::store_le(bytes, kDirectoryOffsetAt, footer.directory_offset_bytes);
  base::store_le(bytes, kDirectoryLengthAt, footer.directory_length_bytes);
  base::store_le(bytes, kFileBytesAt, footer.file_bytes);
  put(bytes, kRootAt, footer.root.bytes);
  put(bytes, kDirectorySha256At, footer.directory_sha256.bytes);
  const auto sha256 = base::hash<base::Sha256>(base::Bytes(bytes).first(kFooterSha256At));
  put(bytes, kFooterSha256At, sha256.bytes);
  put(bytes, kEndMagicAt, base::as_bytes(kContainerEndMagic));
  return bytes;
}

ContainerFooter decode_footer(base::Bytes bytes, std::string_view subject) {
  // The end magic first: it is missing in every file that was cut, which deserves a message of its own.
  if (bytes.size() != kContainerFooterBytes ||
      base::as_text(bytes.subspan(kEndMagicAt)) != kContainerEndMagic)
    base::throw_malformed(subject, "is cut off or damaged: the end marker is missing");
  if (take_digest(bytes, kFooterSha256At) != base::hash<base::Sha256>(bytes.first(kFooterSha256At)))
    base::throw_malformed(subject, "footer is damaged: its SHA-256 does not match");
  ContainerFooter footer;
  footer.directory_offset_bytes = base::load_le<std::uint64_t>(bytes, kDirectoryOffsetAt);
  footer.directory_length_bytes = base::load_le<std::uint64_t>(bytes, kDirectoryLengthAt);
  footer.file_bytes = base::load_le<std::uint64_t>(bytes, kFileBytesAt);
  footer.root = take_digest(bytes, kRootAt);
  footer.directory_sha256 = take_digest(bytes, kDirectorySha256At);
  return footer;
}

// Digests of digests: a reader that has verified the tensors needs no bytes of the expert for it.
base::Sha256 expert_digest(std::span<const base::Sha256> tensors) {
  base::Hasher<base::Sha256> hasher;
  for (const base::Sha256& digest : tensors) hasher.update(digest.bytes);
  return hasher.final();
}

// Sorted lines make the root independent of the order of tensors in the file.
base::Sha256 root_digest(const std::vector<ContainerTensor>& tensors) {
  std::vector<std::string> lines;
  lines.reserve(tensors.size());
  for (const ContainerTensor& tensor : tensors) {
    lines.push_back(tensor.name + " " + std::string(type_name(tensor.storage)) + " " +
                    std::string(layout_name(tensor.storage)) + " " + to_string(tensor.shape) + " " +
                    base::to_hex(tensor.digest) + "\n");
  }
  std::ranges::sort(lines);
  base::Hasher<base::Sha256> hasher;
  for (const std::string& line : lines) hasher.update(base::as_bytes(line));
  return hasher.final();
}

}  // namespace sluice::format
