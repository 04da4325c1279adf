#pragma once
// Writes a model as a GGUF file, tensor by tensor through a stream.

#include <cstddef>
#include <string>

#include "convert/export.h"
#include "convert/export_stream.h"
#include "convert/model_rows.h"

namespace sluice::convert {

/// The tensors that an export has written.
struct ExportedTensors {
  std::size_t count = 0;
  ExportType type = ExportType::f32;  ///< of the expert matrices
};

/// The type that holds values of `dtype` exactly: what is written when the request names no type.
[[nodiscard]] ExportType exact_type(format::DType dtype);

/// GGUF version 3 with architecture "llama"; the experts of a layer are merged into one tensor for each of
/// w1, w2 and w3. `subject` names the model in errors.
[[nodiscard]] ExportedTensors write_gguf(const ModelRows& model, const ExportRequest& request,
                                         const std::string& subject, ExportStream& stream,
                                         base::Progress& progress);

}  // namespace sluice::convert
