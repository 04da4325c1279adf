#pragma once
// The .sluice container, byte for byte: the constants and records that reader and writer share.
// docs/container.md describes it with a worked example.
//
//   header   4096 bytes: magic, version, header size; the rest is zero
//   payload  sections (tokenizer, params.json) and tensors in the order in which a forward pass needs them;
//            every tensor starts on a page (4096); gaps are zero
//   directory  canonical JSON: version, description, tensors, experts, sections, provenance, recipe
//   footer   128 bytes: where the directory is, its SHA-256, the root, the footer's own SHA-256, end magic
//
// Everything that is known only after the payload comes after it, so that one pass writes the file and its
// SHA-256. The tensors of an expert (Mixtral: w1, w3, w2) are one contiguous extent. Experts larger
// than 16 MiB start on a 2 MiB boundary, so that they can lie in huge pages.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "format/tensor.h"
#include "format/tile.h"

namespace sluice::format {

constexpr std::string_view kContainerMagic = "\x89SLUICE\n";
/// Of version 1, 2, ...: the end tells the version, too, so that it is known when the header is damaged.
constexpr std::array<std::string_view, 2> kContainerEndMagics{"SLUICEnd", "SLUICEv2"};
static_assert(kContainerMagic.size() == 8);
/// The version that is written. All earlier ones are read. Version 1 differs in the root of its footer, which
/// covers the tensors alone (tensors_digest), and in the beginning of its directory.
constexpr std::uint32_t kContainerVersion = 2;
static_assert(kContainerEndMagics.size() == kContainerVersion);
constexpr std::uint64_t kContainerHeaderBytes = 4096;
constexpr std::uint64_t kContainerFooterBytes = 128;
constexpr std::uint64_t kTensorAlignmentBytes = 4096;
/// Experts larger than this begin on a huge page. Smaller ones lie next to each other, since the gaps would
/// be a considerable part of the file (docs/decisions/0034-small-experts-lie-side-by-side.md).
constexpr std::uint64_t kLargeExpertBytes = 16u << 20;
constexpr std::uint64_t kLargeExpertAlignmentBytes = 2u << 20;
constexpr std::uint64_t kDirectoryBytesMax = 256u << 20;
/// The key of the provenance that lists the files of the release that were damaged when they were converted:
/// objects with "path", "state" and "problem".
constexpr std::string_view kDamagedSourcesKey = "damaged_sources";

/// The form in which a container stores a tensor's elements.
enum class Storage : std::uint8_t {
  f32_rows,    ///< row-major f32: norms and routers
  bf16_rows,   ///< row-major bf16: the embedding
  bf16_tiles,  ///< tile.h
  q8_tiles,
  q6_tiles,
  q4_tiles,
  mx4_tiles,
};

/// The directory's "type": "f32", "bf16", "q8", "q6", "q4", "mx4".
[[nodiscard]] std::string_view type_name(Storage storage);
/// The directory's "layout": "rows" or "tiles".
[[nodiscard]] std::string_view layout_name(Storage storage);
/// The storage with these two names; nothing when there is none.
[[nodiscard]] std::optional<Storage> parse_storage(std::string_view type, std::string_view layout);
[[nodiscard]] bool is_tiled(Storage storage);
[[nodiscard]] TileType tile_type(Storage storage);

/// The bytes that a tensor takes in the payload.
[[nodiscard]] std::uint64_t storage_bytes(Storage storage, const Shape& shape);

struct ContainerTensor {
  std::string name;
  Shape shape;
  Storage storage = Storage::f32_rows;
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  base::Sha256 digest;  ///< merkle_digest of the stored bytes
  DType source_dtype = DType::bf16;
  base::Sha256 source_digest;  ///< merkle_digest of the released values, row-major, in source_dtype

  /// The layout of a tensor in tiled storage.
  [[nodiscard]] TileLayout tile_layout() const;
};

struct ContainerExpert {
  std::uint64_t layer = 0;
  std::uint64_t expert = 0;
  std::uint64_t offset_bytes = 0;  ///< of its first tensor; the extent ends with its last one
  std::uint64_t length_bytes = 0;
  base::Sha256 digest;  ///< expert_digests() of its tensors, for Mixtral w1, w3, w2
};

/// A named part of the payload that is not a tensor.
struct ContainerSection {
  std::string name;  ///< "tokenizer", "params.json"
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  base::Sha256 sha256;
};

struct ContainerFooter {
  std::uint64_t directory_offset_bytes = 0;
  std::uint64_t directory_length_bytes = 0;
  std::uint64_t file_bytes = 0;
  base::Sha256 root;  ///< root_digest(); in version 1 tensors_digest()
  base::Sha256 directory_sha256;
  std::uint32_t version = kContainerVersion;
};

[[nodiscard]] std::array<std::byte, kContainerHeaderBytes> encode_header(
    std::uint32_t version = kContainerVersion);
[[nodiscard]] std::array<std::byte, kContainerFooterBytes> encode_footer(const ContainerFooter& footer);
/// Both throw Error{malformed} naming `subject` for anything that encode_header() and encode_footer() would
/// not have written. check_header() returns the version.
std::uint32_t check_header(base::Bytes header, std::string_view subject);
[[nodiscard]] ContainerFooter decode_footer(base::Bytes footer, std::string_view subject);

/// Returns for each expert the SHA-256 over the digests of its tensors, in order of their use.
[[nodiscard]] std::vector<base::Sha256> expert_digests(
    std::span<const std::span<const base::Sha256>> experts);

/// `tensors_sha256`: SHA-256 over the lines "name type layout shape digest\n" of all tensors, sorted by name.
/// Containers with the same weights have the same digest, whatever their description, tokenizer, provenance
/// or recipe.
[[nodiscard]] base::Sha256 tensors_digest(const std::vector<ContainerTensor>& tensors);

/// Something that the root covers, by its digest. Kind and name have no spaces and no control characters.
struct RootPart {
  std::string kind;  ///< "description", "section" or "tensors"
  std::string name;
  base::Sha256 digest;
};

/// `root_sha256`: SHA-256 over the line "sluice container root 2\n" and the lines "kind name digest\n" of the
/// parts, sorted. The first line keeps it apart from tensors_digest(), and each line says what its digest is
/// of, so later kinds of parts can be added without a second meaning of an old root.
[[nodiscard]] base::Sha256 root_digest(const std::vector<RootPart>& parts);

}  // namespace sluice::format
