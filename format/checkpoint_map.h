#pragma once
// What the bytes of a checkpoint file are, so that damage has a name: which tensors and rows a range of bytes
// touches, and what lies around the tensors (headers and directory, pickle, padding).

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

/// True when a byte of an element lies in [begin_bytes, end_bytes) of the tensor's file. A range in the gaps
/// of a strided view touches nothing.
[[nodiscard]] bool touches(const CheckpointTensor& tensor, std::uint64_t begin_bytes,
                           std::uint64_t end_bytes);

/// The rows (steps along the first axis) of which elements lie there. Nothing when none does, for vectors and
/// scalars, and when rows do not lie one after another (a transposed view).
[[nodiscard]] std::optional<RowSpan> touched_rows(const CheckpointTensor& tensor, std::uint64_t begin_bytes,
                                                  std::uint64_t end_bytes);

/// A stretch of the file.
struct FilePart {
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  std::string name;      ///< "zip directory", "pickle data.pkl", "padding", "storage 3", "GGUF head"
  bool storage = false;  ///< tensors may lie in it
};

struct CheckpointMap {
  std::vector<CheckpointTensor> tensors;  ///< all in this file, sorted by name
  std::vector<FilePart> parts;            ///< in order and without gaps; empty when `problem` tells why
  std::string problem;                    ///< why tensors or parts are not known; empty when they are
};

/// True for a range of bytes that is known to be damaged.
using IsDamaged = std::function<bool(std::uint64_t offset_bytes, std::uint64_t length_bytes)>;

/// The map of a torch file that is damaged in places. What says where the tensors lie is believed only as far
/// as it is not damaged itself, or is proven by a copy or a checksum. Nothing for a file that is not one, or
/// whose first bytes, which tell so, are damaged together with its directory.
[[nodiscard]] std::optional<CheckpointMap> map_damaged_pth(const std::filesystem::path& path,
                                                           const IsDamaged& is_damaged);
/// The map of a checkpoint file of any kind; nothing for a file that is none. The headers of safetensors and
/// GGUF files have no checksum: they are believed only where they are not damaged. A tensor in blocks is in
/// the map with its bytes, as rows of u8.
[[nodiscard]] std::optional<CheckpointMap> map_damaged_checkpoint(const std::filesystem::path& path,
                                                                  const IsDamaged& is_damaged);

}  // namespace sluice::format
