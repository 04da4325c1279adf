#include "convert/plan.h"

#include "base/error.h"
#include "base/invariant.h"
#include "convert/readiness.h"

namespace sluice::convert {
namespace {

format::Storage tiles_of(Quant quant) {
  switch (quant) {
    case Quant::bf16: return format::Storage::bf16_tiles;
    case Quant::q8: return format::Storage::q8_tiles;
    case Quant::q6: return format::Storage::q6_tiles;
    case Quant::q4: return format::Storage::q4_tiles;
  }
  INVARIANT(!"a Quant without storage");
}

}  // namespace

std::string_view to_string(Quant quant) {
  switch (quant) {
    case Quant::bf16: return "bf16";
    case Quant::q8: return "q8";
    case Quant::q6: return "q6";
    case Quant::q4: return "q4";
  }
  INVARIANT(!"a Quant without name");
}

std::optional<Quant> parse_quant(std::string_view name) {
  for (const Quant quant : {Quant::bf16, Quant::q8, Quant::q6, Quant::q4})
    if (to_string(quant) == name) return quant;
  return std::nullopt;
}

MatrixTypes types_for(Quant quant) {
  // Four bits for attention cost more than four bits for all experts: docs/quantization.md, decision 0014.
  const Quant others = quant == Quant::q4 ? Quant::q6 : quant;
  // Rounding an embedding costs more than rounding a head, and one that is tied is both:
  // docs/quantization.md.
  const Quant tied_head = quant == Quant::q4 ? Quant::q8 : quant;
  return {.experts = quant, .attention = others, .head = others, .tied_head = tied_head};
}

format::Storage storage_for(format::QuantizationClass quantization, const MatrixTypes& types) {
  switch (quantization) {
    case format::QuantizationClass::unquantized: return format::Storage::f32_rows;
    case format::QuantizationClass::embedding: return format::Storage::bf16_rows;
    case format::QuantizationClass::attention: return tiles_of(types.attention);
    case format::QuantizationClass::head: return tiles_of(types.head);
    case format::QuantizationClass::feed_forward: return tiles_of(types.experts);
  }
  INVARIANT(!"a class without storage");
}

format::Storage storage_for(const format::ModelTensor& tensor, const MatrixTypes& types) {
  const bool tied =
      tensor.role == format::TensorRole::embedding && tensor.quantization == format::QuantizationClass::head;
  return tied ? tiles_of(types.tied_head.value_or(types.head)) : storage_for(tensor.quantization, types);
}

format::Storage storage_for(const format::ModelTensor& tensor, format::DType source,
                            const MatrixTypes& types) {
  const format::Storage storage = storage_for(tensor, types);
  // Rounding what the release has in four bits would lose precision, and eight bits would hold no more.
  const bool kept =
      source == format::DType::mxfp4 && format::is_tiled(storage) && storage != format::Storage::bf16_tiles;
  if (kept) return format::Storage::mx4_tiles;
  // Grok-1's embedding is the only matrix of it in f32; bf16 would change other weights than those released.
  const bool exact_head = source == format::DType::f32 && storage == format::Storage::bf16_tiles &&
                          tensor.role == format::TensorRole::embedding;
  return exact_head ? format::Storage::f32_rows : storage;
}

Plan Plan::make(const std::filesystem::path& input, const MatrixTypes& types) {
  if (!std::filesystem::exists(input))
    throw base::Error(base::ErrorKind::usage, input.string() + ": no such file or folder");
  Plan plan;
  plan.release = format::open_released_model(input);
  plan.spare_rows = require_usable_tokenizer(plan.release);
  for (const auto& file : plan.release.files) plan.files.push_back(base::File::open_read(file));
  for (const format::ReleasedTensor& tensor : plan.release.tensors)
    // The pointers lead into plan.release, whose tensors do not move when the plan is moved.
    plan.tensors.push_back(
        {tensor.target, &tensor.view, storage_for(tensor.target, tensor.view.dtype, types)});
  plan.input_bytes = plan.release.value_bytes();
  return plan;
}

}  // namespace sluice::convert
