#include "convert/plan.h"

#include <set>
#include <string_view>

#include "base/error.h"
#include "base/invariant.h"

namespace sluice::convert {
namespace {

namespace fs = std::filesystem;

/// Every tensor of the model must be in the checkpoint with its shape, and nothing else may be.
std::vector<PlannedTensor> match_tensors(const format::ModelParams& params,
                                         const format::CheckpointIndex& checkpoint, Quant quant,
                                         std::string_view subject) {
  std::vector<PlannedTensor> planned;
  std::set<std::string_view> known;
  for (format::ModelTensor& target : format::model_tensors(params)) {
    const auto* source = checkpoint.find(target.name);
    if (source == nullptr) base::throw_malformed(subject, "tensor '" + target.name + "' is missing");
    if (source->shape != target.shape) {
      base::throw_malformed(subject, "tensor '" + target.name + "': has shape " +
                                         format::to_string(source->shape) + ", params.json asks for " +
                                         format::to_string(target.shape));
    }
    known.insert(source->name);
    const format::Storage storage = storage_for(target.role, quant);
    planned.push_back({std::move(target), source, storage});
  }
  for (const format::CheckpointTensor& tensor : checkpoint.tensors) {
    if (!known.contains(tensor.name)) {
      base::throw_malformed(subject, "tensor '" + tensor.name + "' " + format::to_string(tensor.shape) +
                                         " is not part of the model that params.json describes");
    }
  }
  return planned;
}

}  // namespace

std::string_view to_string(Quant quant) {
  switch (quant) {
    case Quant::bf16: return "bf16";
    case Quant::q8: return "q8";
    case Quant::q4: return "q4";
  }
  INVARIANT(!"a Quant without name");
}

std::optional<Quant> parse_quant(std::string_view name) {
  for (const Quant quant : {Quant::bf16, Quant::q8, Quant::q4})
    if (to_string(quant) == name) return quant;
  return std::nullopt;
}

format::Storage storage_for(format::TensorRole role, Quant quant) {
  switch (role) {
    case format::TensorRole::norm:
    case format::TensorRole::router: return format::Storage::f32_rows;
    case format::TensorRole::embedding: return format::Storage::bf16_rows;
    case format::TensorRole::attention:
    case format::TensorRole::head:
      return quant == Quant::bf16 ? format::Storage::bf16_tiles : format::Storage::q8_tiles;
    case format::TensorRole::expert: break;
  }
  switch (quant) {
    case Quant::bf16: return format::Storage::bf16_tiles;
    case Quant::q8: return format::Storage::q8_tiles;
    case Quant::q4: return format::Storage::q4_tiles;
  }
  INVARIANT(!"a role without storage");
}

Plan Plan::make(const fs::path& input, Quant quant) {
  if (!fs::exists(input))
    throw base::Error(base::ErrorKind::usage, input.string() + ": no such file or folder");
  const fs::path folder =
      fs::is_directory(input) ? input : (input.has_parent_path() ? input.parent_path() : ".");
  const fs::path params_path = folder / "params.json";
  const fs::path tokenizer_path = folder / "tokenizer.model";
  for (const fs::path& needed : {params_path, tokenizer_path})
    if (!fs::exists(needed))
      base::throw_malformed(folder.string(), needed.filename().string() + " is missing");

  Plan plan;
  plan.params_text = base::read_text_file(params_path, 1u << 20);
  plan.params = format::parse_params(plan.params_text, params_path.string());
  plan.tokenizer = base::read_file(tokenizer_path);
  plan.checkpoint = format::open_checkpoint(input);
  for (const fs::path& file : plan.checkpoint.files) plan.files.push_back(base::File::open_read(file));
  plan.tensors = match_tensors(plan.params, plan.checkpoint, quant, plan.checkpoint.files.front().string());
  for (const PlannedTensor& tensor : plan.tensors)
    plan.input_bytes +=
        *format::element_count(tensor.source->shape) * format::size_bytes(tensor.source->dtype);
  return plan;
}

}  // namespace sluice::convert
