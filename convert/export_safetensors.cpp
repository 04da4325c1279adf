#include <map>

#include "base/invariant.h"
#include "convert/export_files.h"
#include "format/safetensors_writer.h"

namespace sluice::convert {
namespace {

format::DType dtype_of(ExportType type) {
  switch (type) {
    case ExportType::f32: return format::DType::f32;
    case ExportType::f16: return format::DType::f16;
    case ExportType::bf16: return format::DType::bf16;
    case ExportType::q8_0: break;
  }
  INVARIANT(!"safetensors hold no blocks");
}

}  // namespace

ExportedTensors write_safetensors(const ModelRows& model, const ExportRequest& request,
                                  ExportStream& stream) {
  std::vector<format::SafetensorsEntry> entries;
  std::map<std::string, format::ModelTensor, std::less<>> tensors;
  std::map<std::string, ExportType, std::less<>> types;
  ExportedTensors done{0, ExportType::bf16};
  for (const format::ModelTensor& tensor : format::model_tensors(model.params())) {
    const ExportType type = request.type.value_or(exact_type(model.exact_dtype(tensor)));
    entries.push_back({tensor.name, dtype_of(type), tensor.shape});
    types[tensor.name] = type;
    tensors[tensor.name] = tensor;
    if (tensor.role == format::TensorRole::expert || done.count == 0) done.type = type;
    ++done.count;
  }
  format::sort_as_safetensors(entries);
  stream.write(base::as_bytes(format::encode_safetensors_header(entries)));
  for (const format::SafetensorsEntry& entry : entries)
    stream.write(*model.open_tensor(tensors.at(entry.name)), types.at(entry.name));
  return done;
}

}  // namespace sluice::convert
