#include "verify/tensor_names.h"

#include "base/error.h"
#include "format/checkpoint_index.h"
#include "verify/ranges.h"

namespace sluice::verify {
namespace {

std::optional<format::CheckpointIndex> try_open(const std::filesystem::path& file) {
  try {
    return format::open_checkpoint(file);
  } catch (const base::Error& error) {
    // Not a checkpoint, or damaged where its index stands: the ranges then go without names.
    if (error.kind() != base::ErrorKind::malformed) throw;
    return std::nullopt;
  }
}

}  // namespace

void name_tensors(const std::filesystem::path& file, std::vector<DamagedRange>& damaged) {
  if (damaged.empty()) return;
  const auto index = try_open(file);
  if (!index) return;
  for (DamagedRange& range : damaged) {
    for (const format::CheckpointTensor& tensor : index->tensors) {
      if (index->files[tensor.file_index] != file) continue;
      const Range extent{tensor.offset_bytes, tensor.extent_bytes};
      if (intersection(extent, {range.offset_bytes, range.length_bytes}).length_bytes > 0)
        range.tensors.push_back(tensor.name);
    }
  }
}

}  // namespace sluice::verify
