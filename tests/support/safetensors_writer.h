#pragma once
// Makes small safetensors files, and files with an arbitrary header and data. Written from the format's
// description, without the reader's code.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "format/tensor.h"

namespace sluice::tests {

struct RawTensor {
  std::string name;
  format::DType dtype = format::DType::bf16;
  format::Shape shape;
  std::string bytes;  ///< row-major
};

/// u64 length, header, data, without any check, also for files that a reader must refuse.
[[nodiscard]] std::string frame_safetensors(std::string_view header, std::string_view data = {});

/// The bytes that safetensors.torch.save_file writes, including metadata.
[[nodiscard]] std::string make_safetensors(const std::vector<RawTensor>& tensors);

/// {"metadata": {..}, "weight_map": {"name": "file", ..}}
[[nodiscard]] std::string make_weight_map(
    const std::vector<std::pair<std::string, std::string>>& files_by_name);

}  // namespace sluice::tests
