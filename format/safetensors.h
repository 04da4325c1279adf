#pragma once
// The safetensors file: u64 length N | N bytes of JSON | tensor data.
//
//   {"__metadata__": {"key": "text"},
//    "name": {"dtype": "BF16", "shape": [8, 256], "data_offsets": [0, 4096]}, ...}
//
// Offsets count from the end of the header; tensors are row-major, little-endian, and fill the data without
// gap or overlap. The header may be padded with whitespace on both sides. Everything else is refused:
// docs/checkpoints.md has the list. Source: huggingface/safetensors, README and safetensors/src/tensor.rs.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

#include "format/checkpoint_index.h"

namespace sluice::format {

constexpr std::uint64_t kSafetensorsHeaderBytesMax = 100'000'000;

/// Opens one file. Error{malformed} names the file and the cause.
[[nodiscard]] CheckpointIndex open_safetensors(const std::filesystem::path& path);

/// Reads the header of a file that is known to be damaged behind it, for example cut short. For naming the
/// damage, never for loading.
[[nodiscard]] CheckpointIndex read_damaged_safetensors(const std::filesystem::path& path);

/// Bytes before the tensor data; nothing when `header_bytes` is above the limit.
[[nodiscard]] std::optional<std::uint64_t> safetensors_data_offset(std::uint64_t header_bytes);

/// The tensors that a header names. They must fill `file_bytes`, the size of the whole file; without it the
/// end of the file is not checked.
[[nodiscard]] CheckpointIndex parse_safetensors(std::string_view header,
                                                std::optional<std::uint64_t> file_bytes,
                                                const std::filesystem::path& path);

}  // namespace sluice::format
