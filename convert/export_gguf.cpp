// Writes a model as GGUF: lists the file's tensors under llama.cpp's names, makes the head (parameters and
// tokenizer as key-value pairs), and streams the tensors behind it.
//
// All checks come first: the tokenizer must be one that GGUF's tokenizer "llama" reproduces, and every tensor
// has its type and place before a byte is written. One thread runs this; ExportStream spreads the encoding of
// rows over its workers, and the file does not depend on their number. Where a GGUF cannot hold what the
// model has, the export refuses or warns; it never changes the model silently.

#include "convert/export_gguf.h"

#include <algorithm>

#include "base/error.h"
#include "base/invariant.h"
#include "format/gguf/gguf_writer.h"
#include "format/json.h"
#include "format/mistral_params.h"
#include "format/sentencepiece_model.h"
#include "format/tensor_names.h"

namespace sluice::convert {
namespace {

using format::GgufHeader;
using format::GgufTensorType;
using format::MistralParams;
using format::ModelTensor;
using format::PieceType;
using format::QuantizationClass;
using format::SentencePieceModel;
using format::Shape;

/// A tensor of the file: one tensor of the model, or the same matrix of all experts of a layer.
struct GgufTensor {
  std::string name;
  Shape shape;
  ExportType type = ExportType::f32;
  std::vector<ModelTensor> sources;  ///< the model's tensors in it, in their order
};

/// Norms and routers are f32 whatever the request says: llama.cpp computes with no other type.
ExportType type_for(const ModelTensor& tensor, const ModelRows& model, const ExportRequest& request) {
  if (tensor.quantization == QuantizationClass::unquantized) return ExportType::f32;
  const ExportType type = request.type.value_or(exact_type(model.exact_dtype(tensor)));
  if (type != ExportType::q8_0 && type != ExportType::q4_0) return type;
  // Blocks lie within rows.
  if (tensor.shape.back() % format::kGgufBlockWeights != 0) return ExportType::bf16;
  // Four bits cost most where every token passes; embedding and head are a small part of the file.
  const bool is_of_tokens =
      tensor.quantization == QuantizationClass::embedding || tensor.quantization == QuantizationClass::head;
  return is_of_tokens ? ExportType::q8_0 : type;
}

std::vector<GgufTensor> list_tensors(const ModelRows& model, const ExportRequest& request) {
  std::vector<GgufTensor> tensors;
  for (const ModelTensor& tensor : format::model_tensors(model.description())) {
    // The first placement is the current one: all experts of a matrix merged into one tensor.
    const format::Placement place = format::gguf_placements(tensor, model.description()).front();
    const ExportType type = type_for(tensor, model, request);
    // The search begins at the back, where the tensors of the same layer are.
    const auto found = std::ranges::find(tensors.rbegin(), tensors.rend(), place.name, &GgufTensor::name);
    if (found == tensors.rend()) {
      tensors.push_back({place.name, place.shape, type, {tensor}});
      continue;
    }
    // GGUF has one type for all experts of a matrix: f32 is exact for all of them.
    if (type != found->type) found->type = ExportType::f32;
    found->sources.push_back(tensor);
  }
  return tensors;
}

GgufTensorType gguf_type(ExportType type) {
  switch (type) {
    case ExportType::f32: return GgufTensorType::f32;
    case ExportType::f16: return GgufTensorType::f16;
    case ExportType::bf16: return GgufTensorType::bf16;
    case ExportType::q8_0: return GgufTensorType::q8_0;
    case ExportType::q4_0: return GgufTensorType::q4_0;
  }
  INVARIANT(!"an ExportType without GGUF type");
}

/// Bytes of the tensors with the types of a request, which are nearly all of the file.
std::uint64_t data_bytes(const std::vector<GgufTensor>& tensors) {
  std::uint64_t bytes = 0;
  for (const GgufTensor& tensor : tensors)
    bytes += base::align_up(format::gguf_tensor_bytes(gguf_type(tensor.type), tensor.shape),
                            format::kGgufAlignmentBytes);
  return bytes;
}

/// What the file would have with other types.
std::vector<SmallerExport> smaller_exports(const ModelRows& model, ExportRequest request) {
  std::vector<SmallerExport> smaller;
  for (const auto& [type, option] :
       {std::pair{ExportType::bf16, "bf16"}, {ExportType::q8_0, "q8_0"}, {ExportType::q4_0, "q4_0"}}) {
    request.type = type;
    smaller.push_back({option, data_bytes(list_tensors(model, request))});
  }
  return smaller;
}

/// The type of most of the file's tensors (llama.h, enum llama_ftype). llama.cpp only shows it.
std::uint32_t file_type(ExportType type) {
  switch (type) {
    case ExportType::f32: return 0;
    case ExportType::f16: return 1;
    case ExportType::q4_0: return 2;
    case ExportType::q8_0: return 7;
    case ExportType::bf16: return 32;
  }
  INVARIANT(!"an ExportType without number");
}

/// The context length up to which llama.cpp gives the model's own results. Its "llama" has no attention
/// window, so beyond a window the results would differ. Mistral's parameters name no length; llama.cpp's
/// converters take 32,768 for them.
std::uint32_t context_length(const ModelRows& model, const MistralParams& mistral) {
  constexpr std::uint64_t kUnknown = 32768;
  std::uint64_t length = kUnknown;
  const format::Json params = format::parse_json(model.params_text(), "params.json");
  for (const char* key : {"max_position_embeddings", "max_seq_len"}) {
    if (const format::Json* value = params.find(key); value != nullptr && value->is_number())
      length = value->as_uint(key);
  }
  length = std::min(length, mistral.sliding_window.value_or(length));
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(length, 1, 1u << 30));
}

/// Writes the keys that llama.cpp's converter writes for the architecture "llama".
void set_params(const ModelRows& model, const MistralParams& params, GgufHeader& header) {
  const auto u32 = [&](const std::string& key, std::uint64_t value) {
    header.set_u32("llama." + key, static_cast<std::uint32_t>(value));  // validate() bounds them all
  };
  u32("vocab_size", params.vocab_size);
  u32("context_length", context_length(model, params));
  u32("embedding_length", params.dim);
  u32("block_count", params.n_layers);
  u32("feed_forward_length", params.hidden_dim);
  u32("attention.head_count", params.n_heads);
  u32("attention.head_count_kv", params.n_kv_heads);
  u32("attention.key_length", params.head_dim);
  u32("attention.value_length", params.head_dim);
  u32("rope.dimension_count", params.head_dim);
  header.set_f32("llama.rope.freq_base", static_cast<float>(params.rope_theta));
  header.set_f32("llama.attention.layer_norm_rms_epsilon", static_cast<float>(params.norm_eps));
  if (params.sliding_window) u32("attention.sliding_window", *params.sliding_window);
  if (params.num_experts == 0) return;
  u32("expert_count", params.num_experts);
  u32("expert_used_count", params.num_experts_per_tok);
}

/// GGUF's tokenizer "llama" is SentencePiece's BPE without normalization of the text.
void require_expressible(const SentencePieceModel& tokenizer, std::uint64_t vocab_size,
                         const std::string& subject) {
  const auto refuse = [&](const std::string& cause) {
    base::throw_malformed(subject,
                          "tokenizer.model: " + cause + ", which GGUF's tokenizer 'llama' cannot say");
  };
  if (tokenizer.algorithm != SentencePieceModel::Algorithm::bpe) refuse("is no BPE model");
  if (tokenizer.has_charsmap) refuse("maps characters to others");
  if (tokenizer.remove_extra_whitespaces) refuse("removes spaces");
  if (!tokenizer.escape_whitespaces) refuse("keeps spaces as they are");
  if (tokenizer.treat_whitespace_as_suffix) refuse("takes spaces as the ends of words");
  if (tokenizer.pieces.size() > vocab_size) {
    base::throw_malformed(subject, "tokenizer.model has " + std::to_string(tokenizer.pieces.size()) +
                                       " pieces, the model " + std::to_string(vocab_size) + " rows for them");
  }
}

/// The ids that end a text, -1 for none: GGUF has three keys for them. More ids are told by write_gguf().
constexpr std::size_t kEndKeys = 3;
std::vector<std::int32_t> end_ids(const format::TokenFacts& facts, const SentencePieceModel& tokenizer) {
  std::vector<std::int32_t> ids = facts.end_ids;
  if (std::ranges::find(ids, tokenizer.eos_id) == ids.end()) ids.push_back(tokenizer.eos_id);
  ids.resize(std::max(ids.size(), kEndKeys), -1);
  return ids;
}

void set_tokenizer(const ModelRows& model, const std::string& subject, GgufHeader& header) {
  const format::TokenizerParts released = model.tokenizer();
  if (released.kind != format::TokenizerKind::sentencepiece) {
    base::throw_malformed(subject, "its tokenizer is a " + std::string(format::file_name(released.kind)) +
                                       ", which GGUF's tokenizer 'llama' cannot say");
  }
  SentencePieceModel tokenizer = format::parse_sentencepiece(released.model, subject + ": tokenizer.model");
  const std::uint64_t vocab_size = model.description().vocabulary;
  require_expressible(tokenizer, vocab_size, subject);
  const std::vector<std::int32_t> ends = end_ids(released.facts, tokenizer);
  // llama.cpp requires a token for every row of the embedding.
  while (tokenizer.pieces.size() < vocab_size) {
    const std::string text = "[PAD" + std::to_string(tokenizer.pieces.size()) + "]";
    tokenizer.pieces.push_back({text, -1e9F, PieceType::unused});
  }
  for (const format::AddedToken& token : released.facts.added)
    tokenizer.pieces[static_cast<std::size_t>(token.id)] = {
        token.text, -1e9F, token.control ? PieceType::control : PieceType::user_defined};
  std::vector<std::string> texts;
  std::vector<float> scores;
  std::vector<std::int32_t> types;
  for (const format::SentencePiece& piece : tokenizer.pieces) {
    texts.push_back(piece.text);
    scores.push_back(piece.score);
    types.push_back(static_cast<std::int32_t>(piece.type));
  }
  header.set_string("tokenizer.ggml.model", "llama");
  header.set_string("tokenizer.ggml.pre", "default");
  header.set_strings("tokenizer.ggml.tokens", texts);
  header.set_f32s("tokenizer.ggml.scores", scores);
  header.set_i32s("tokenizer.ggml.token_type", types);
  for (const auto& [key, id] : {std::pair{"bos", tokenizer.bos_id},
                                {"eos", ends[0]},
                                {"eot", ends[1]},
                                {"eom", ends[2]},
                                {"unknown", tokenizer.unk_id},
                                {"padding", tokenizer.pad_id}}) {
    if (id >= 0)
      header.set_u32("tokenizer.ggml." + std::string(key) + "_token_id", static_cast<std::uint32_t>(id));
  }
  // Mistral's models were trained with BOS before every text and produce EOS themselves.
  header.set_bool("tokenizer.ggml.add_bos_token", true);
  header.set_bool("tokenizer.ggml.add_eos_token", false);
  header.set_bool("tokenizer.ggml.add_space_prefix", tokenizer.add_dummy_prefix);
  if (const std::string text = model.chat_files().chat_template; !text.empty())
    header.set_string("tokenizer.chat_template", text);
}

}  // namespace

ExportedTensors write_gguf(const ModelRows& model, const ExportRequest& request, const std::string& subject,
                           ExportStream& stream, base::Progress& progress) {
  const auto params = format::mistral_params(model.description());
  if (!params) base::throw_malformed(subject, "is no model that GGUF's architecture 'llama' can describe");
  const auto tensors = list_tensors(model, request);
  const auto matrix = std::ranges::find_if(
      tensors, [](const GgufTensor& tensor) { return tensor.sources[0].expert.has_value(); });
  INVARIANT(matrix != tensors.end());

  GgufHeader header;
  header.set_string("general.architecture", "llama");
  if (const auto name = request.name.empty() ? model.name() : request.name; !name.empty())
    header.set_string("general.name", name);
  if (const auto licence = request.licence.empty() ? model.licence() : request.licence; !licence.empty())
    header.set_string("general.license", licence);
  header.set_u32("general.file_type", file_type(matrix->type));
  header.set_u32("general.quantization_version", 2);  // ggml.h, GGML_QNT_VERSION
  set_params(model, *params, header);
  set_tokenizer(model, subject, header);
  if (model.tokenizer().facts.end_ids.size() > kEndKeys)
    progress.warn("GGUF has keys for " + std::to_string(kEndKeys) +
                  " tokens that end a text; the model has more, and the others do not end it there");
  for (const GgufTensor& tensor : tensors)
    header.add_tensor(tensor.name, gguf_type(tensor.type), tensor.shape);
  if (params->sliding_window) {
    progress.warn(
        "llama.cpp does not keep to the attention window of " + std::to_string(*params->sliding_window) +
        " tokens: its results are the model's up to that length, which is the file's context_length");
  }

  const std::string head = header.encode();
  const std::uint64_t file_bytes = head.size() + data_bytes(tensors);
  if (matrix->type == ExportType::f32)
    warn_of_size(file_bytes, model.stored_bytes(), smaller_exports(model, request), progress);
  stream.require_room(file_bytes);
  stream.write(base::as_bytes(head));
  for (const GgufTensor& tensor : tensors) {
    for (const ModelTensor& source : tensor.sources) stream.write(*model.open_tensor(source), tensor.type);
    stream.pad_to(format::kGgufAlignmentBytes);
  }
  return {tensors.size(), matrix->type};
}

}  // namespace sluice::convert
