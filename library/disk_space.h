#pragma once
// Free space and the sizes of models, for what is said and checked before a long download or conversion.

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace sluice::library {

/// Bytes that this user can write to the file system of `path`, which need not exist yet.
[[nodiscard]] std::uint64_t free_bytes(const std::filesystem::path& path);

/// True when both lie on one file system, so that they share its free space. The paths need not exist yet.
[[nodiscard]] bool share_space(const std::filesystem::path& a, const std::filesystem::path& b);

/// About how many bytes a model takes that is converted from `release_bytes` of bf16 weights.
[[nodiscard]] std::uint64_t estimate_model_bytes(std::uint64_t release_bytes, std::string_view quant);

}  // namespace sluice::library
