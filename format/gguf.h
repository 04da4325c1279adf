#pragma once
// Reads GGUF files (gguf_format.h), versions 2 and 3: pairs, and where the tensors lie. Nothing in the file
// is believed: every count and length is checked against what the file still has before it is used.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "format/checkpoint_index.h"
#include "format/model_params.h"

namespace sluice::format {

/// Whole numbers, signed ones too, are 64 bits wide; arrays of arrays are refused, as no model has them.
using GgufValue = std::variant<std::uint64_t, std::int64_t, double, bool, std::string,
                               std::vector<std::int64_t>, std::vector<double>, std::vector<std::string>>;

struct GgufFile {
  CheckpointIndex checkpoint;           ///< kind "gguf"
  std::uint64_t data_offset_bytes = 0;  ///< of the first tensor
  std::map<std::string, GgufValue, std::less<>> pairs;
};

/// Error{malformed} naming file, place, expected and found: docs/checkpoints.md, "GGUF".
[[nodiscard]] GgufFile open_gguf(const std::filesystem::path& path);
/// The same of a file that may be cut behind its head, or have something behind its tensors.
[[nodiscard]] GgufFile read_damaged_gguf(const std::filesystem::path& path);

/// The hyperparameters of architecture "llama". A key of it that is not known may change the result and is
/// refused by name.
[[nodiscard]] ModelParams gguf_params(const GgufFile& file);

/// The file's tokenizer as a tokenizer.model, which gives the same ids. Error{malformed} for any but "llama".
[[nodiscard]] std::vector<std::byte> gguf_tokenizer(const GgufFile& file);

}  // namespace sluice::format
