#pragma once
// Maps the bytes of a checkpoint file to names, so that damage can be reported by name: which tensors and
// rows a range of bytes touches, and which parts (headers, directory, pickle, padding) lie around the
// tensors.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "format/checkpoint_index.h"

namespace sluice::format {

/// Rows of a matrix, both ends included.
struct RowSpan {
  std::uint64_t first = 0;
  std::uint64_t last = 0;

  bool operator==(const RowSpan&) const = default;
};

/// True when any byte of an element lies in [begin_bytes, end_bytes) of the tensor's file. A range within the
/// gaps of a strided view touches no element.
[[nodiscard]] bool touches(const CheckpointTensor& tensor, std::uint64_t begin_bytes,
                           std::uint64_t end_bytes);

/// The rows (indices along the first axis) that have elements in that range. Nothing when no row has, for
/// vectors and scalars, and when rows are not contiguous (a transposed view).
[[nodiscard]] std::optional<RowSpan> touched_rows(const CheckpointTensor& tensor, std::uint64_t begin_bytes,
                                                  std::uint64_t end_bytes);

/// A contiguous part of the file.
struct FilePart {
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  std::string name;      ///< "zip directory", "pickle data.pkl", "padding", "storage 3", "GGUF head"
  bool storage = false;  ///< tensors may lie in this part
};

struct CheckpointMap {
  std::vector<CheckpointTensor> tensors;  ///< all tensors of this file, sorted by name
  std::vector<FilePart> parts;            ///< in order and without gaps; empty when unknown
  std::string problem;                    ///< why tensors or parts are unknown; empty when both are known
};

/// Says whether a range of bytes is known to be damaged.
using IsDamaged = std::function<bool(std::uint64_t offset_bytes, std::uint64_t length_bytes)>;

/// The map of a torch file that is damaged in places. Its directory and pickle are trusted only where they
/// are undamaged, or a copy or a checksum confirms them. Nothing for a file that is no torch file, or whose
/// first bytes and directory are both damaged, so that nothing shows that it is one.
[[nodiscard]] std::optional<CheckpointMap> map_damaged_pth(const std::filesystem::path& path,
                                                           const IsDamaged& is_damaged);
/// The map of a checkpoint file of any kind; nothing for a file that is none. The headers of safetensors and
/// GGUF files have no checksum: they are trusted only where they are not damaged. A tensor in blocks is in
/// the map with its bytes, as rows of u8.
[[nodiscard]] std::optional<CheckpointMap> map_damaged_checkpoint(const std::filesystem::path& path,
                                                                  const IsDamaged& is_damaged);

}  // namespace sluice::format
