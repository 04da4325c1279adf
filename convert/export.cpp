// Exports a model as safetensors, alone or as a whole release folder, and hands GGUF to export_gguf.cpp
// (docs/export.md). The caller's thread runs this file; ExportStream has the workers. The file gets its name
// in commit(), when it is complete and durable.

#include "convert/export.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "base/hasher.h"
#include "base/invariant.h"
#include "base/output.h"
#include "base/text.h"
#include "convert/export_gguf.h"
#include "convert/release_files.h"
#include "convert/safetensors_writer.h"
#include "convert/value_encoder.h"
#include "format/json.h"
#include "format/mistral_params.h"

namespace sluice::convert {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMemoryBytesMin = 64u << 20;
constexpr std::string_view kWeightsName = "consolidated.safetensors";
constexpr std::string_view kParamsName = "params.json";

/// params.json as released when it has Mistral's own keys. Another dialect would not fit the native names of
/// the tensors, so its parameters are written anew.
std::string native_params_text(const ModelRows& model, const std::string& subject) {
  const auto params = format::mistral_params(model.description());
  if (!params) base::throw_malformed(subject, "is no model that Mistral's params.json can describe");
  const format::Json released = format::parse_json(model.params_text(), kParamsName);
  return released.find("dim") != nullptr ? model.params_text() : format::to_json(*params).dump_pretty();
}

std::uint64_t count_values(const ModelRows& model) {
  std::uint64_t count = 0;
  for (const auto& tensor : format::model_tensors(model.description()))
    count += format::element_count(tensor.shape).value();
  return count;
}

format::DType dtype_of(ExportType type) {
  switch (type) {
    case ExportType::f32: return format::DType::f32;
    case ExportType::f16: return format::DType::f16;
    case ExportType::bf16: return format::DType::bf16;
    case ExportType::q8_0:
    case ExportType::q4_0: break;
  }
  INVARIANT(!"safetensors hold no blocks");
}

/// Writes the tensors under native names, as a release's consolidated.safetensors has them. The header comes
/// first in the file and needs all offsets, so the tensors are listed and sorted before the first is opened.
ExportedTensors write_safetensors(const ModelRows& model, const ExportRequest& request, ExportStream& stream,
                                  base::Progress& progress) {
  std::vector<SafetensorsEntry> entries;
  std::map<std::string, format::ModelTensor, std::less<>> tensors;
  std::map<std::string, ExportType, std::less<>> types;
  ExportedTensors done{0, ExportType::bf16};
  std::uint64_t data_bytes = 0;
  std::uint64_t value_count = 0;
  for (const format::ModelTensor& tensor : format::model_tensors(model.description())) {
    const ExportType type = request.type.value_or(exact_type(model.exact_dtype(tensor)));
    entries.push_back({tensor.name, dtype_of(type), tensor.shape});
    const std::uint64_t values = format::element_count(tensor.shape).value();
    value_count += values;
    data_bytes += encoded_bytes(type, values);
    types[tensor.name] = type;
    tensors[tensor.name] = tensor;
    // The experts are most of the weights, so their type stands for the file.
    if (tensor.expert || done.count == 0) done.type = type;
    ++done.count;
  }
  sort_as_safetensors(entries);
  const std::string header = encode_safetensors_header(entries);
  const std::uint64_t file_bytes = header.size() + data_bytes;
  if (done.type == ExportType::f32) {
    const std::uint64_t bf16_bytes = encoded_bytes(ExportType::bf16, value_count);
    warn_of_size(file_bytes, model.stored_bytes(), {{"bf16", bf16_bytes}}, progress);
  }
  stream.require_room(file_bytes);
  // The header fixes the order of the data, which is not the model's.
  stream.write(base::as_bytes(header));
  for (const SafetensorsEntry& entry : entries)
    stream.write(*model.open_tensor(tensors.at(entry.name)), types.at(entry.name));
  return done;
}

}  // namespace

void warn_of_size(std::uint64_t file_bytes, std::uint64_t input_bytes,
                  const std::vector<SmallerExport>& smaller, base::Progress& progress) {
  constexpr std::uint64_t kLargeBytes = 1u << 30;
  if (file_bytes < kLargeBytes || file_bytes <= input_bytes) return;
  std::string text = "this writes " + base::to_human_bytes(file_bytes) + " from " +
                     base::to_human_bytes(input_bytes) + ", because f32 holds every value exactly";
  const char* separator = "; ";
  for (const SmallerExport& other : smaller) {
    text += separator + ("--quant " + other.option) + " would write " + base::to_human_bytes(other.bytes);
    separator = ", ";
  }
  progress.warn(text);
}

ExportType exact_type(format::DType dtype) {
  switch (dtype) {
    case format::DType::bf16: return ExportType::bf16;
    case format::DType::f16: return ExportType::f16;
    default: return ExportType::f32;
  }
}

std::vector<fs::path> exported_paths(const ExportRequest& request) {
  if (!request.output_is_folder) return {request.output};
  std::vector<fs::path> paths{request.output / kParamsName, request.output / kWeightsName};
  for (const std::string_view name : release_file_names()) paths.push_back(request.output / name);
  return paths;
}

void require_export_folder(const ExportRequest& request) {
  const auto refuse = [&](const std::string& problem) {
    throw base::Error(base::ErrorKind::usage, request.output.string() + ": " + problem);
  };
  base::require_output_folder(request.output);
  if (!fs::exists(fs::symlink_status(request.output))) return;
  if (!fs::is_directory(request.output)) refuse("is not a folder");
  // The folder would become a mixture of two things.
  for (const auto& entry : fs::directory_iterator(request.output)) {
    const std::string name = entry.path().filename().string();
    if (name == kWeightsName || name == kParamsName || name.starts_with('.') ||
        std::ranges::find(release_file_names(), name) != release_file_names().end())
      continue;
    refuse("holds '" + base::to_printable(name) + "': a release is written into a folder of its own");
  }
  const fs::path source =
      fs::is_directory(request.input) ? request.input : fs::absolute(request.input).parent_path();
  // Writing there would overwrite the release while it is read.
  if (fs::equivalent(source, request.output)) refuse("is the folder that the model comes from");
}

ExportResult export_model(const ExportRequest& request, base::Progress& progress,
                          const std::stop_token& stop) {
  if (request.memory_bytes < kMemoryBytesMin)
    throw base::Error(base::ErrorKind::usage, "an export needs at least 64 MiB of memory");
  INVARIANT(!request.output_is_folder || request.format == ExportFormat::safetensors);
  const auto model = ModelRows::open(request.input);
  if (request.output_is_folder) {
    require_export_folder(request);
    base::make_directories(request.output);
  }

  ExportResult result;
  if (request.output_is_folder) {
    // The weights come last: a folder without them is no release.
    result.others.push_back(write_side_file(
        request.output / kParamsName, base::as_bytes(native_params_text(*model, request.input.string()))));
    write_release_files(*model, request.output, result);
  }
  const fs::path path = request.output_is_folder ? request.output / kWeightsName : request.output;
  result.value_count = count_values(*model);
  progress.begin("exporting", result.value_count);
  ExportStream stream(path, request.memory_bytes, request.thread_count, progress, stop);
  const ExportedTensors written = request.format == ExportFormat::gguf
                                      ? write_gguf(*model, request, request.input.string(), stream, progress)
                                      : write_safetensors(*model, request, stream, progress);
  result.tensors = written.count;
  result.type = written.type;
  result.weights = stream.commit();
  return result;
}

}  // namespace sluice::convert
