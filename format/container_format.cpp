// Names, sizes and fixed records of a container (docs/container.md). Header and footer are encoded field by
// field at fixed offsets, little-endian, so that the bytes do not depend on a compiler's padding. Pure
// functions; any number of threads may call them.

#include "format/container_format.h"

#include <algorithm>
#include <utility>

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
constexpr std::size_t kEndMagicBytes = 8;
static_assert(kEndMagicAt + kEndMagicBytes == kContainerFooterBytes);

// About as long as a line of tensors_digest() is.
constexpr std::size_t kTensorLineBytes = 144;

constexpr std::string_view kRootPrefix = "sluice container root 2\n";

void put(base::MutableBytes out, std::size_t offset, base::Bytes bytes) {
  std::ranges::copy(bytes, out.subspan(offset, bytes.size()).begin());
}

base::Sha256 take_digest(base::Bytes bytes, std::size_t offset) {
  base::Sha256 digest;
  std::ranges::copy(bytes.subspan(offset, digest.bytes.size()), digest.bytes.begin());
  return digest;
}

/// SHA-256 over `prefix` and the lines in sorted order, which makes it independent of their order in the
/// file.
base::Sha256 digest_of_lines(std::string_view prefix, std::vector<std::string_view> lines) {
  std::ranges::sort(lines);
  base::Hasher<base::Sha256> hasher;
  hasher.update(base::as_bytes(prefix));
  for (const std::string_view line : lines) hasher.update(base::as_bytes(line));
  return hasher.final();
}

/// Lines one after the other in one text: a model with 45,000 tensors would take as many allocations
/// otherwise.
class Lines final {
 public:
  explicit Lines(std::size_t count, std::size_t line_bytes) {
    text_.reserve(count * line_bytes);
    ends_.reserve(count);
  }

  void add(std::string_view part) { text_ += part; }
  void end_line() {
    text_ += '\n';
    ends_.push_back(text_.size());
  }

  [[nodiscard]] std::vector<std::string_view> all() const {
    std::vector<std::string_view> lines;
    lines.reserve(ends_.size());
    std::size_t begin = 0;
    for (const std::size_t end : ends_) {
      lines.push_back(std::string_view(text_).substr(begin, end - begin));
      begin = end;
    }
    return lines;
  }

 private:
  std::string text_;
  std::vector<std::size_t> ends_;
};

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
    case Storage::mx4_tiles: return "mx4";
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
    case Storage::q4_tiles:
    case Storage::mx4_tiles: return true;
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
    case Storage::mx4_tiles: return TileType::mx4;
    case Storage::f32_rows:
    case Storage::bf16_rows: break;
  }
  INVARIANT(!"rows have no tile type");
}

std::optional<Storage> parse_storage(std::string_view type, std::string_view layout) {
  // The pair decides: "bf16" occurs in rows (the embedding) and in tiles (a matrix).
  for (const Storage storage : {Storage::f32_rows, Storage::bf16_rows, Storage::bf16_tiles, Storage::q8_tiles,
                                Storage::q6_tiles, Storage::q4_tiles, Storage::mx4_tiles})
    if (type_name(storage) == type && layout_name(storage) == layout) return storage;
  return std::nullopt;
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

std::array<std::byte, kContainerHeaderBytes> encode_header(std::uint32_t version) {
  std::array<std::byte, kContainerHeaderBytes> header{};
  put(header, 0, base::as_bytes(kContainerMagic));
  base::store_le<std::uint32_t>(header, 8, version);
  base::store_le<std::uint32_t>(header, 12, kContainerHeaderBytes);
  return header;
}

std::uint32_t check_header(base::Bytes header, std::string_view subject) {
  if (header.size() < kContainerHeaderBytes || base::as_text(header.first(8)) != kContainerMagic)
    base::throw_malformed(subject, "is not a .sluice container (its first bytes are not the magic)");
  const auto version = base::load_le<std::uint32_t>(header, 8);
  if (version == 0 || version > kContainerVersion) {
    base::throw_malformed(subject, "has container version " + std::to_string(version) +
                                       ", this program reads versions 1 to " +
                                       std::to_string(kContainerVersion));
  }
  // All of the header is known, so comparing it as a whole finds every flipped bit.
  const auto expected = encode_header(version);
  if (!std::ranges::equal(header.first(kContainerHeaderBytes), expected))
    base::throw_malformed(subject, "header is damaged");
  return version;
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
  put(bytes, kEndMagicAt, base::as_bytes(kContainerEndMagics.at(footer.version - 1)));
  return bytes;
}

ContainerFooter decode_footer(base::Bytes bytes, std::string_view subject) {
  // The end magic first: it is missing in every file that was cut, which deserves a message of its own.
  const auto magic = bytes.size() != kContainerFooterBytes
                         ? kContainerEndMagics.end()
                         : std::ranges::find(kContainerEndMagics, base::as_text(bytes.subspan(kEndMagicAt)));
  if (magic == kContainerEndMagics.end())
    base::throw_malformed(subject, "is cut off or damaged: the end marker is missing");
  if (take_digest(bytes, kFooterSha256At) != base::hash<base::Sha256>(bytes.first(kFooterSha256At)))
    base::throw_malformed(subject, "footer is damaged: its SHA-256 does not match");
  ContainerFooter footer;
  footer.directory_offset_bytes = base::load_le<std::uint64_t>(bytes, kDirectoryOffsetAt);
  footer.directory_length_bytes = base::load_le<std::uint64_t>(bytes, kDirectoryLengthAt);
  footer.file_bytes = base::load_le<std::uint64_t>(bytes, kFileBytesAt);
  footer.root = take_digest(bytes, kRootAt);
  footer.directory_sha256 = take_digest(bytes, kDirectorySha256At);
  footer.version = static_cast<std::uint32_t>(magic - kContainerEndMagics.begin()) + 1;
  return footer;
}

// Digests of digests: a reader that has verified the tensors needs no bytes of the experts for it.
std::vector<base::Sha256> expert_digests(std::span<const std::span<const base::Sha256>> experts) {
  std::vector<base::Bytes> messages;
  messages.reserve(experts.size());
  for (const auto tensors : experts) messages.push_back(std::as_bytes(tensors));
  std::vector<base::Sha256> digests(experts.size());
  base::hash_each(messages, digests);
  return digests;
}

base::Sha256 tensors_digest(const std::vector<ContainerTensor>& tensors) {
  Lines lines(tensors.size(), kTensorLineBytes);
  for (const ContainerTensor& tensor : tensors) {
    lines.add(tensor.name);
    for (const std::string_view word : {type_name(tensor.storage), layout_name(tensor.storage)}) {
      lines.add(" ");
      lines.add(word);
    }
    lines.add(" ");
    lines.add(to_string(tensor.shape));
    lines.add(" ");
    lines.add(base::to_hex(tensor.digest));
    lines.end_line();
  }
  return digest_of_lines("", lines.all());
}

base::Sha256 root_digest(const std::vector<RootPart>& parts) {
  Lines lines(parts.size(), kTensorLineBytes);
  for (const RootPart& part : parts) {
    lines.add(part.kind + " " + part.name + " " + base::to_hex(part.digest));
    lines.end_line();
  }
  return digest_of_lines(kRootPrefix, lines.all());
}

}  // namespace sluice::format
