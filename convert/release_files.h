#pragma once
// The files of an exported release folder beside its weights and parameters: tokenizer, chat template, and
// what they need.

#include <filesystem>
#include <span>
#include <string_view>

#include "convert/export.h"
#include "convert/model_rows.h"

namespace sluice::convert {

/// All names that write_release_files() may write.
[[nodiscard]] std::span<const std::string_view> release_file_names();

/// Writes them into `folder` as the model's release had them, and appends them to `result.others`. Files of
/// an earlier export that this model does not have are removed, because they would contradict it.
void write_release_files(const ModelRows& model, const std::filesystem::path& folder, ExportResult& result);

/// Writes one file beside the weights.
[[nodiscard]] ExportedFile write_side_file(const std::filesystem::path& path, base::Bytes bytes);

}  // namespace sluice::convert
