#pragma once
// Where the tensors of a released checkpoint lie in its files: name, type, shape, strides, byte range.
// Reading an index executes nothing in the file and does not read the payload.
//
// Readable are torch's zip .pth (pickle protocol 2, allow-listed opcodes and globals), safetensors, GGUF, and
// the pickles of Grok-1, one a tensor.
// A .pth keeps each storage as a stored zip member; its tensors are views into storages, whose offsets and
// strides are honoured. Several files of one kind, with different tensors each, make one checkpoint.
// released_model.h maps the names to the tensors of the model.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "format/checkpoint_kind.h"
#include "format/gguf/gguf_format.h"
#include "format/tensor.h"

namespace sluice::format {

struct ZipMember;  // zip_index.h

struct CheckpointTensor {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  /// The distance between neighbours along each axis, in elements; row-major for nearly all released tensors.
  std::vector<std::uint64_t> strides;
  std::size_t file_index = 0;      ///< into CheckpointIndex::files
  std::uint64_t offset_bytes = 0;  ///< of element [0, 0, ..] in the file
  /// Bytes from the first to the last one that an element touches. They lie inside the tensor's storage.
  std::uint64_t extent_bytes = 0;

  [[nodiscard]] bool row_major() const;
};

struct CheckpointIndex {
  CheckpointKind kind = CheckpointKind::pth;
  std::vector<std::filesystem::path> files;
  std::vector<CheckpointTensor> tensors;  ///< sorted by name; names are unique
  GgufPairs gguf_pairs;  ///< keys and values of a GGUF file, of the first when there are shards

  [[nodiscard]] const CheckpointTensor* find(std::string_view name) const;
};

/// Opens one .pth file. Error{malformed} names the file and the cause for everything that is damaged,
/// hostile or unsupported: see docs/checkpoints.md.
[[nodiscard]] CheckpointIndex open_pth(const std::filesystem::path& path);

/// The tensors of a .pth file that is known to be damaged, from its data.pkl and the members that the zip
/// directory names. For naming the damage, never for loading.
[[nodiscard]] CheckpointIndex read_damaged_pth(const std::filesystem::path& path,
                                               const std::vector<ZipMember>& members);

/// Opens a checkpoint of one or more files. `path` is one of them, or a folder. Of several checkpoints in a
/// folder the complete one is taken, or the one with the model's native names (docs/checkpoints.md, "Which
/// files").
[[nodiscard]] CheckpointIndex open_checkpoint(const std::filesystem::path& path);

}  // namespace sluice::format
