#pragma once
// The reverse of a conversion: a model, from a release or a .sluice file, in a file that other programs read.
// What they get: docs/export.md. Same input, same bytes, whatever the number of threads.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/progress.h"

namespace sluice::convert {

enum class ExportFormat : std::uint8_t { gguf, safetensors };

/// How matrices are written. Norms are always f32 in GGUF, as its readers ask for.
enum class ExportType : std::uint8_t { f32, f16, bf16, q8_0 };

[[nodiscard]] std::string_view to_string(ExportType type);

struct ExportRequest {
  std::filesystem::path input;  ///< a release folder, its checkpoint file, or a .sluice file
  /// The file, replaced only when the new one is complete. For safetensors it may be a folder: that becomes a
  /// release with params.json and tokenizer.model, and may hold nothing else.
  std::filesystem::path output;
  bool output_is_folder = false;
  ExportFormat format = ExportFormat::gguf;
  /// Without it every tensor keeps its values exactly: bf16 for what was released so, f32 for decoded codes.
  std::optional<ExportType> type;
  std::uint64_t memory_bytes = 512u << 20;
  unsigned thread_count = 1;
  std::string name;     ///< of the release, when proven; a container knows its own
  std::string licence;  ///< likewise
};

struct ExportedFile {
  std::filesystem::path path;
  std::uint64_t bytes = 0;
  base::Sha256 sha256;
};

struct ExportResult {
  ExportedFile weights;
  std::vector<ExportedFile> others;  ///< params.json, tokenizer.model
  std::size_t tensors = 0;
  std::uint64_t value_count = 0;
  ExportType type = ExportType::f32;  ///< of the matrices
};

/// Error{malformed} for a model that the format cannot say, Error{verification} for a container that is
/// damaged, Error{usage} for an output that cannot be.
[[nodiscard]] ExportResult export_model(const ExportRequest& request, base::Progress& progress,
                                        const std::stop_token& stop);

}  // namespace sluice::convert
