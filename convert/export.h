#pragma once
// Export, the reverse of a conversion: writes a model, from a release or a .sluice file, as a file that other
// programs read (docs/export.md). The same input gives the same bytes, for any number of threads.

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

/// The type of the exported matrices. Norms are always f32 in GGUF, as its readers require; with q4_0 the
/// embedding and the head are q8_0.
enum class ExportType : std::uint8_t { f32, f16, bf16, q8_0, q4_0 };

[[nodiscard]] std::string_view to_string(ExportType type);

struct ExportRequest {
  std::filesystem::path input;  ///< a release folder, its checkpoint file, or a .sluice file
  /// The file, replaced only when the new one is complete. For safetensors it may be a folder, which becomes
  /// a release with params.json and tokenizer.model and must hold nothing else.
  std::filesystem::path output;
  bool output_is_folder = false;
  ExportFormat format = ExportFormat::gguf;
  /// Nothing: every tensor keeps its values exactly, bf16 for released bf16 and f32 for decoded codes.
  std::optional<ExportType> type;
  std::uint64_t memory_bytes = 512u << 20;
  unsigned thread_count = 1;
  std::string name;     ///< of a verified release; empty takes the one in the container
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

/// The files that the export writes.
[[nodiscard]] std::vector<std::filesystem::path> exported_paths(const ExportRequest& request);

/// Error{usage} for an output folder that holds other files, that is the input's, or that cannot be made
/// because its parent does not exist.
void require_export_folder(const ExportRequest& request);

/// Error{malformed} for a model that the format cannot hold, Error{verification} for a damaged container,
/// Error{usage} for an output that is not possible.
[[nodiscard]] ExportResult export_model(const ExportRequest& request, base::Progress& progress,
                                        const std::stop_token& stop);

}  // namespace sluice::convert
