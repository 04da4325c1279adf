#pragma once
// The two file formats of an export, each written tensor by tensor through a stream.

#include <optional>
#include <string>

#include "convert/export.h"
#include "convert/export_stream.h"
#include "convert/model_rows.h"

namespace sluice::convert {

/// What ends up in the result.
struct ExportedTensors {
  std::size_t count = 0;
  ExportType type = ExportType::f32;  ///< of the matrices, the widest where they differ
};

/// What is written when nothing was asked for.
[[nodiscard]] ExportType exact_type(format::DType dtype);

/// GGUF version 3 with architecture "llama", experts merged layer by layer.
[[nodiscard]] ExportedTensors write_gguf(const ModelRows& model, const ExportRequest& request,
                                         const std::string& subject, ExportStream& stream,
                                         base::Progress& progress);

/// Native names, as in a release's consolidated.safetensors.
[[nodiscard]] ExportedTensors write_safetensors(const ModelRows& model, const ExportRequest& request,
                                                ExportStream& stream);

}  // namespace sluice::convert
