#pragma once
// Writes a model as a GGUF file, tensor by tensor through a stream.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "convert/export.h"
#include "convert/export_stream.h"
#include "convert/model_rows.h"

namespace sluice::convert {

/// The tensors that an export has written.
struct ExportedTensors {
  std::size_t count = 0;
  ExportType type = ExportType::f32;  ///< of the expert matrices
};

/// The size that an export would have with another --quant.
struct SmallerExport {
  std::string option;
  std::uint64_t bytes = 0;
};

/// Tells the size of an f32 file before it is written, when it has 1 GiB or more and is larger than its
/// input.
void warn_of_size(std::uint64_t file_bytes, std::uint64_t input_bytes,
                  const std::vector<SmallerExport>& smaller, base::Progress& progress);

/// The type that holds values of `dtype` exactly: what is written when the request names no type.
[[nodiscard]] ExportType exact_type(format::DType dtype);

/// GGUF version 3 with architecture "llama"; the experts of a layer are merged into one tensor for each of
/// w1, w2 and w3. `subject` names the model in errors.
[[nodiscard]] ExportedTensors write_gguf(const ModelRows& model, const ExportRequest& request,
                                         const std::string& subject, ExportStream& stream,
                                         base::Progress& progress);

}  // namespace sluice::convert
