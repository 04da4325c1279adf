// Finds the model's tensors in a release, whatever layout it has (docs/checkpoints.md, "Layouts").
//
// The search starts from the model, not from the files: model_tensors() lists what the parameters ask for,
// tensor_names.h says under which names each tensor may stand, and ModelFinder takes the first name that
// exists and checks shape, type and scale. Afterwards no tensor of the files may be left over
// (refuse_others), because a tensor that nobody asked for means that the parameters describe another model.
// Only heads and indices of the files are read here, never their payload. Everything runs on the caller's
// thread.

#include "format/released_model.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "format/gguf/gguf.h"
#include "format/gguf/gguf_split_heads.h"
#include "format/gguf/gguf_types.h"
#include "format/grok/grok_release.h"
#include "format/hub/architecture.h"
#include "format/hub/family_config.h"
#include "format/hub/tokenizer_file.h"
#include "format/mistral_params.h"
#include "format/packed_int4.h"
#include "format/tensor_names.h"
#include "format/tile.h"

namespace sluice::format {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kParamsBytesMax = 1u << 20;
constexpr std::uint64_t kScaleBlock = 128;  // DeepSeek-V3, quantization_config.weight_block_size

/// The root of the names of transformers; nullptr for other names. Every model has an embedding, and only
/// transformers calls it so.
const HubRoot* find_hub_root(const CheckpointIndex& checkpoint) {
  for (const HubRoot& root : hub_roots())
    if (checkpoint.find(std::string(root.model) + "embed_tokens.weight") != nullptr) return &root;
  return nullptr;
}

bool is_float(DType dtype) { return dtype == DType::bf16 || dtype == DType::f16 || dtype == DType::f32; }

/// llama.cpp stores a matrix of one row, such as the gate of a shared expert, as a vector.
bool is_row_without_axis(const Shape& found, const Shape& expected) {
  return expected.size() == 2 && expected[0] == 1 && found == Shape{expected[1]};
}

/// The rows of one of the model's matrices in a tensor of the files.
struct Slice {
  std::uint64_t offset_elements = 0;
  std::uint64_t row_stride = 0;
  std::uint64_t col_stride = 1;
};

/// Strides of a matrix inside a tensor of two axes, or of three: with the experts as the first, or with one
/// of no extent in the middle. Exchanging the strides is all that a transposed placement needs: TensorSource
/// reads along the shorter one.
Slice slice_of(const CheckpointTensor& source, const Placement& place, const ModelTensor& target) {
  Slice slice;
  slice.col_stride = source.strides.back();
  slice.row_stride = source.strides.size() > 1 ? source.strides[source.strides.size() - 2] : 0;
  // A kernel has an axis of one between channels and tokens, whose stride says nothing.
  if (source.strides.size() == 3 && !place.outer_index) slice.row_stride = source.strides.front();
  if (place.outer_index) slice.offset_elements += *place.outer_index * source.strides.front();
  slice.offset_elements += place.first_row * slice.row_stride;
  if (place.transposed) std::swap(slice.row_stride, slice.col_stride);
  std::uint64_t& along_outputs = target.shape.size() == 1 ? slice.col_stride : slice.row_stride;
  slice.offset_elements += place.turn * along_outputs;
  along_outputs *= place.turns;
  return slice;
}

class ModelFinder final {
 public:
  ModelFinder(const CheckpointIndex& checkpoint, const ModelConfig& config, std::string params_name)
      : checkpoint_(checkpoint),
        hub_root_(find_hub_root(checkpoint)),
        description_(config.description),
        skip_rule_{config.description.layer_count(), config.prediction_layers,
                   config.description.tied_embeddings},
        params_name_(std::move(params_name)) {}

  [[nodiscard]] std::vector<ReleasedTensor> find() {
    std::vector<ReleasedTensor> tensors;
    for (ModelTensor& target : model_tensors(description_)) {
      const auto places = placements(target);
      TensorView view = find(target, places);
      tensors.push_back({std::move(target), std::move(view)});
    }
    skip_or_refuse_others();
    return tensors;
  }

  [[nodiscard]] std::vector<Placement> placements(const ModelTensor& target) const {
    if (checkpoint_.kind == CheckpointKind::gguf) return gguf_placements(target, description_);
    if (checkpoint_.kind == CheckpointKind::pickle) return grok_placements(target, description_);
    return hub_root_ == nullptr ? native_placements(target, description_)
                                : hub_placements(target, description_, *hub_root_);
  }

  /// The layout by which most of its tensors are named: that of its experts.
  [[nodiscard]] const std::string& layout() const { return layout_; }

  /// The tensors that find() has left out.
  [[nodiscard]] const std::vector<SkippedTensors>& skipped() const { return skipped_; }

 private:
  [[noreturn]] void refuse(const CheckpointTensor& tensor, const std::string& cause) const {
    base::throw_malformed(checkpoint_.files[tensor.file_index].string(),
                          "tensor '" + tensor.name + "': " + cause);
  }

  [[nodiscard]] std::string subject() const {
    const fs::path& first = checkpoint_.files.front();
    return (checkpoint_.files.size() == 1 || !first.has_parent_path() ? first : first.parent_path()).string();
  }

  [[nodiscard]] TensorView find(const ModelTensor& target, const std::vector<Placement>& places) {
    const auto place = std::ranges::find_if(
        places, [&](const Placement& one) { return checkpoint_.find(one.name) != nullptr; });
    if (place == places.end()) {
      if (auto view = find_packed(target, places)) return std::move(*view);
      if (auto view = find_heads(target)) return std::move(*view);
      base::throw_malformed(subject(), "tensor '" + likeliest_name(target, places) + "' is missing");
    }
    usual_places_[target.role] = static_cast<std::size_t>(place - places.begin());
    const CheckpointTensor& source = *checkpoint_.find(place->name);
    // Several targets may lie in one tensor (stacked or fused experts), so this is a set.
    known_.insert(source.name);
    layout_ = target.expert ? place->layout : layout_;
    if (source.shape != place->shape && !is_row_without_axis(source.shape, place->shape)) {
      refuse(source, "has shape " + to_string(source.shape) + ", " + params_name_ + " asks for " +
                         to_string(place->shape));
    }
    if (!place->exponents_name.empty()) return find_mxfp4(target, source, *place);
    const Slice slice = slice_of(source, *place, target);
    TensorView view;
    view.name = source.name;
    view.shape = target.shape;
    view.dtype = source.dtype;
    view.stored_dtype = source.dtype;
    view.file_index = source.file_index;
    view.offset_bytes = source.offset_bytes + stored_bytes(source.dtype, slice.offset_elements);
    view.row_stride = slice.row_stride;
    view.col_stride = slice.col_stride;
    view.rotary_width = place->rotary_width;
    if (source.dtype == DType::f8_e4m3) {
      view.dtype = DType::bf16;
      view.scale = find_scale(source, *place);
    } else if (source.dtype == DType::i8) {
      view.dtype = DType::bf16;
      view.scale = find_int8_scale(source, *place);
    } else if (block_weights(source.dtype) > 1 && source.dtype != DType::mxfp4) {
      view.dtype = DType::f32;
    } else if (!is_float(source.dtype) && source.dtype != DType::mxfp4) {
      refuse(source, "has dtype " + std::string(to_string(source.dtype)) + ", expected bf16, f16 or f32");
    }
    return view;
  }

  /// MXFP4 as gpt-oss has it: codes of all experts [experts, rows, blocks, 16] and exponents [experts, rows,
  /// blocks], both in u8. `source` has the shape that `place` says.
  [[nodiscard]] TensorView find_mxfp4(const ModelTensor& target, const CheckpointTensor& source,
                                      const Placement& place) {
    if (target.shape[1] % kMx4BlockCols != 0) {
      refuse(source, "is MXFP4, which needs a multiple of 32 inputs, but " + params_name_ + " asks for " +
                         std::to_string(target.shape[1]));
    }
    const CheckpointTensor* exponents = checkpoint_.find(place.exponents_name);
    if (exponents == nullptr)
      refuse(source, "has no scales: tensor '" + place.exponents_name + "' is missing");
    known_.insert(exponents->name);
    const Shape expected(place.shape.begin(), place.shape.end() - 1);
    if (exponents->shape != expected)
      refuse(*exponents, "has shape " + to_string(exponents->shape) + ", expected " + to_string(expected) +
                             ", one scale for each block of '" + source.name + "'");
    for (const CheckpointTensor* tensor : {&source, exponents}) {
      if (tensor->dtype != DType::u8)
        refuse(*tensor, "has dtype " + std::string(to_string(tensor->dtype)) + ", expected u8");
      if (!tensor->row_major()) refuse(*tensor, "does not lie in one piece");
    }
    // Both are rows of blocks, those of all experts one after the other.
    const std::uint64_t blocks = expected.back();
    const std::uint64_t first_row =
        place.outer_index.value_or(0) * expected[expected.size() - 2] + place.turn;
    TensorScale scale;
    scale.file = checkpoint_.files[exponents->file_index];
    scale.name = exponents->name;
    scale.shape = exponents->shape;
    scale.dtype = DType::u8;
    scale.first_element = first_row * blocks;
    scale.offset_bytes = exponents->offset_bytes + scale.first_element;
    scale.rows = target.shape[0];
    scale.cols = blocks;
    scale.row_stride = place.turns * blocks;
    scale.col_stride = 1;
    scale.col_block = kMx4BlockCols;
    TensorView view;
    view.name = source.name;
    view.shape = target.shape;
    view.dtype = DType::mxfp4;
    view.stored_dtype = DType::u8;
    view.file_index = source.file_index;
    const std::uint64_t code_bytes = blocks * source.shape.back();
    view.offset_bytes = source.offset_bytes + first_row * code_bytes;
    view.row_stride = place.turns * code_bytes;
    view.col_stride = 1;
    view.scale = std::move(scale);
    return view;
  }

  /// Nothing unless the matrix is in the files as packed 4-bit codes.
  [[nodiscard]] std::optional<TensorView> find_packed(const ModelTensor& target,
                                                      const std::vector<Placement>& places) {
    for (const Placement& place : places) {
      const auto packed = find_packed_int4(checkpoint_, place.name);
      if (!packed) continue;
      usual_places_[target.role] = static_cast<std::size_t>(&place - places.data());
      for (const CheckpointTensor* tensor : {packed->codes, packed->scale, packed->shape})
        known_.insert(tensor->name);
      layout_ = target.expert ? place.layout : layout_;
      return packed_int4_view(checkpoint_, *packed, target, place, params_name_);
    }
    return std::nullopt;
  }

  /// Nothing unless keys and values of latent attention are in tensors of their own.
  [[nodiscard]] std::optional<TensorView> find_heads(const ModelTensor& target) {
    if (target.role != TensorRole::latent_key_value || checkpoint_.kind != CheckpointKind::gguf)
      return std::nullopt;
    const auto tensors = find_split_heads(checkpoint_, target.layer);
    if (!tensors) return std::nullopt;
    known_.insert(tensors->keys->name);
    known_.insert(tensors->values->name);
    return split_heads_view(checkpoint_, *tensors, target,
                            std::get<LatentAttention>(description_.layer(target.layer).mixer));
  }

  /// Chooses among the names that a missing tensor could have: the one of its kind in the layers before, else
  /// the one that resembles the names of the checkpoint most.
  [[nodiscard]] const std::string& likeliest_name(const ModelTensor& target,
                                                  const std::vector<Placement>& places) const {
    if (const auto usual = usual_places_.find(target.role); usual != usual_places_.end())
      return places[usual->second].name;
    const auto common = [](std::string_view a, std::string_view b) {
      return std::ranges::mismatch(a, b).in1 - a.begin();
    };
    // Names are sorted, so the longest common beginning is with a neighbour.
    const auto resemblance = [&](const Placement& place) {
      const auto& tensors = checkpoint_.tensors;
      const auto next = std::ranges::lower_bound(tensors, place.name, {}, &CheckpointTensor::name);
      return std::max(next == tensors.end() ? 0 : common(place.name, next->name),
                      next == tensors.begin() ? 0 : common(place.name, std::prev(next)->name));
    };
    return std::ranges::max_element(places, {}, resemblance)->name;
  }

  /// FP8 weights are code x scale, and the scale is a tensor of its own, which must exist exactly once.
  /// Scales of inputs are approximations that other programs make at run time; they are accepted and ignored.
  [[nodiscard]] TensorScale find_scale(const CheckpointTensor& tensor, const Placement& place) {
    if (place.transposed || tensor.shape.size() < 2)
      refuse(tensor, "has dtype f8_e4m3, which is not supported there");
    const CheckpointTensor* source = nullptr;
    const auto names = scale_names(tensor.name);
    for (const std::string& name : names) {
      const CheckpointTensor* found = checkpoint_.find(name);
      if (found == nullptr) continue;
      if (source != nullptr) refuse(tensor, "has two scales, '" + source->name + "' and '" + name + "'");
      source = found;
    }
    if (source == nullptr) refuse(tensor, "has dtype f8_e4m3 and no scale: '" + names[0] + "' is missing");
    known_.insert(source->name);
    for (const std::string& name : input_scale_names(tensor.name))
      if (const auto* input = checkpoint_.find(name)) known_.insert(input->name);
    if (!is_float(source->dtype))
      refuse(*source, "has dtype " + std::string(to_string(source->dtype)) + ", expected bf16, f16 or f32");
    return place_scale(*source, tensor, place);
  }

  /// Int8 weights [in, out] are code x scale (Grok-1). Groups of neighbouring inputs have a scale for each
  /// output: [groups, out], behind the axis of the experts where the weights have one.
  [[nodiscard]] TensorScale find_int8_scale(const CheckpointTensor& tensor, const Placement& place) {
    const std::size_t stem = tensor.name.rfind('.');
    const std::string name = tensor.name.substr(0, stem) + ".scales";
    const CheckpointTensor* source = stem == std::string::npos ? nullptr : checkpoint_.find(name);
    if (source == nullptr || !place.transposed) refuse(tensor, "has dtype i8 and no scales");
    known_.insert(source->name);
    const Shape& weights = tensor.shape;
    const Shape& scales = source->shape;
    const std::size_t axes = weights.size();
    const bool fits = scales.size() == axes && scales.back() == weights.back() &&
                      weights[axes - 2] % scales[axes - 2] == 0 && (axes == 2 || scales[0] == weights[0]);
    if (!fits || !is_float(source->dtype) || !source->row_major())
      refuse(*source, "has shape " + to_string(scales) + " for int8 weights of shape " + to_string(weights) +
                          ", expected a float for each output and group of inputs");
    TensorScale scale;
    scale.file = checkpoint_.files[source->file_index];
    scale.name = source->name;
    scale.dtype = source->dtype;
    scale.offset_bytes = source->offset_bytes +
                         place.outer_index.value_or(0) * source->strides.front() * size_bytes(source->dtype);
    scale.rows = weights.back();
    scale.cols = scales[axes - 2];
    scale.row_stride = 1;
    scale.col_stride = weights.back();
    scale.col_block = weights[axes - 2] / scale.cols;
    return scale;
  }

  [[nodiscard]] TensorScale place_scale(const CheckpointTensor& source, const CheckpointTensor& tensor,
                                        const Placement& place) const {
    const std::uint64_t rows = tensor.shape[tensor.shape.size() - 2];
    const std::uint64_t cols = tensor.shape.back();
    Shape shape = source.shape;
    TensorScale scale;
    scale.offset_bytes = source.offset_bytes;
    // Experts that share a tensor have one scale each, or the same scale.
    if (place.outer_index && shape.size() == 3 && shape.front() == tensor.shape.front()) {
      scale.offset_bytes += *place.outer_index * source.strides.front() * size_bytes(source.dtype);
      shape.erase(shape.begin());
    }
    // The shape decides the scope: one scale for all weights, one for each row, or one for each block of 128
    // x 128.
    const std::uint64_t count = element_count(shape).value_or(0);
    const Shape blocks{base::divide_up(rows, kScaleBlock), base::divide_up(cols, kScaleBlock)};
    if (count == 1) {
      scale.row_block = rows;
      scale.col_block = cols;
    } else if (shape == Shape{rows} || shape == Shape{rows, 1}) {
      scale.rows = rows;
      scale.col_block = cols;
    } else if (shape == blocks) {
      scale.rows = blocks[0];
      scale.cols = blocks[1];
      scale.row_block = kScaleBlock;
      scale.col_block = kScaleBlock;
    } else {
      refuse(source, "has shape " + to_string(source.shape) + ", expected one scale, one for each of " +
                         std::to_string(rows) + " rows or " + to_string(blocks) +
                         ", one for each block of 128 x 128");
    }
    // read_scales() reads all of them at once.
    if (!source.row_major()) refuse(source, "does not lie in one piece");
    scale.file = checkpoint_.files[source.file_index];
    scale.name = source.name;
    scale.dtype = source.dtype;
    scale.row_stride = scale.cols;
    scale.col_stride = 1;
    scale.first_row = place.first_row;
    return scale;
  }

  void skip_or_refuse_others() {
    for (const CheckpointTensor& tensor : checkpoint_.tensors) {
      if (known_.contains(tensor.name)) continue;
      if (auto group = skipped_group(tensor.name, skip_rule_, checkpoint_)) {
        add_skipped(std::move(*group), skipped_);
        continue;
      }
      base::throw_malformed(checkpoint_.files[tensor.file_index].string(),
                            "tensor '" + tensor.name + "' " + to_string(tensor.shape) +
                                " is not part of the model that " + params_name_ + " describes");
    }
  }

  const CheckpointIndex& checkpoint_;
  const HubRoot* hub_root_;  ///< nullptr for names that are not those of transformers
  const ModelDescription& description_;
  SkipRule skip_rule_;
  std::string params_name_;
  std::string layout_;
  std::vector<SkippedTensors> skipped_;
  std::set<std::string_view> known_;
  std::map<TensorRole, std::size_t> usual_places_;  ///< which of its names a role had last
};

/// Native names come with params.json, those of transformers with config.json. Where the expected file is
/// missing, the other one serves as well: both state the same parameters.
fs::path find_params(const fs::path& folder, bool native) {
  const fs::path first = folder / (native ? "params.json" : "config.json");
  const fs::path second = folder / (native ? "config.json" : "params.json");
  if (fs::exists(first)) return first;
  if (fs::exists(second)) return second;
  base::throw_malformed(folder.string(), first.filename().string() + " is missing");
}

/// Takes the tokenizer and what the files around it say of its tokens and of conversations.
void read_tokenizer(const fs::path& folder, bool native, ReleasedModel& model) {
  const TokenizerFile file = find_tokenizer(folder, native);
  model.tokenizer_kind = file.kind;
  model.tokenizer_source = file.path.string();
  model.tokenizer = read_tokenizer_file(file);
  const std::uint64_t vocabulary = model.description.vocabulary;
  if (file.kind == TokenizerKind::sentencepiece) {
    const SentencePieceModel pieces = parse_sentencepiece(model.tokenizer, model.tokenizer_source);
    model.tokens = read_token_facts(folder, pieces, vocabulary);
  } else {
    model.tokens = read_end_ids(folder, vocabulary);
  }
  model.chat = read_chat_files(folder);
}

std::map<std::string, std::uint64_t> quantized_types(const CheckpointIndex& checkpoint) {
  const auto quantized = [&](const CheckpointTensor& tensor) {
    return block_weights(tensor.dtype) > 1 && !is_released_type(checkpoint, tensor.dtype);
  };
  if (std::ranges::none_of(checkpoint.tensors, quantized)) return {};
  std::map<std::string, std::uint64_t> types;
  for (const CheckpointTensor& tensor : checkpoint.tensors) ++types[std::string(gguf_name(tensor.dtype))];
  return types;
}

/// OpenAI's own files of gpt-oss, which the repository on the hub has in "original/".
void refuse_original_gpt_oss(const CheckpointIndex& checkpoint) {
  const CheckpointTensor* tensor = checkpoint.find("block.0.attn.qkv.weight");
  if (tensor == nullptr) return;
  base::throw_malformed(checkpoint.files[tensor->file_index].string(),
                        "holds gpt-oss under OpenAI's own names (block.0.attn.qkv.weight), which are not "
                        "supported; the folder above \"original\" has the same weights as "
                        "model-00001-of-....safetensors: convert that folder");
}

/// `params_name` names what the configuration was read from, for messages.
void find_tensors(const CheckpointIndex& checkpoint, const ModelConfig& config, std::string params_name,
                  ReleasedModel& model) {
  ModelFinder finder(checkpoint, config, std::move(params_name));
  model.tensors = finder.find();
  model.kind = checkpoint.kind;
  model.layout = finder.layout();
  model.skipped_tensors = finder.skipped();
  model.files = checkpoint.files;
}

/// The pickles have no configuration beside them: it follows from their shapes. The tokenizer lies in the
/// release folder, above that of the pickles.
ReleasedModel open_grok_model(const CheckpointIndex& checkpoint) {
  ReleasedModel model;
  const ModelConfig config = grok_config(checkpoint);
  model.description = config.description;
  model.params_text = to_json(model.description).dump_pretty();
  fs::path folder = checkpoint.files.front().parent_path();
  const std::string_view tokenizer = file_name(TokenizerKind::sentencepiece);
  if (!fs::exists(folder / tokenizer)) folder = (folder / "..").lexically_normal();
  if (!fs::exists(folder / tokenizer))
    base::throw_malformed(
        folder.string(),
        "tokenizer.model is missing: the torrent does not have it, take that of github.com/xai-org/grok-1");
  read_tokenizer(folder, true, model);
  // run.py feeds a prompt as it is.
  model.chat.tokenizer_config = R"({"add_bos_token": false})";
  find_tensors(checkpoint, config, "the model", model);
  return model;
}

/// A GGUF file contains everything: parameters and tokenizer are not looked for next to it.
ReleasedModel open_gguf_model(const CheckpointIndex& checkpoint) {
  ReleasedModel model;
  const ModelConfig config = gguf_config(checkpoint);
  model.description = config.description;
  const auto params = mistral_params(model.description);
  model.params_text = (params ? to_json(*params) : to_json(model.description)).dump_pretty();
  model.tokenizer_kind = gguf_tokenizer_kind(checkpoint);
  if (model.tokenizer_kind == TokenizerKind::sentencepiece) {
    model.tokenizer = gguf_tokenizer(checkpoint);
  } else {
    const std::string text = gguf_tokenizer_json(checkpoint);
    const base::Bytes bytes = base::as_bytes(text);
    model.tokenizer.assign(bytes.begin(), bytes.end());
    model.chat.tokenizer_config = gguf_tokenizer_config(checkpoint);
  }
  model.tokens = gguf_token_facts(checkpoint);
  model.chat.chat_template = gguf_chat_template(checkpoint);
  model.tokenizer_source = checkpoint.files.front().string() + ": tokenizer";
  model.quantized_types = quantized_types(checkpoint);
  find_tensors(checkpoint, config, "its metadata", model);
  return model;
}

}  // namespace

std::uint64_t ReleasedModel::value_bytes() const {
  std::uint64_t bytes = 0;
  for (const ReleasedTensor& tensor : tensors) bytes += tensor.view.value_bytes();
  return bytes;
}

ReleasedModel open_released_model(const fs::path& path) {
  // The layout must be known before the parameters are looked for, since it decides which file is preferred.
  // A checkpoint of another architecture may have types that are refused, too, which would hide the cause.
  if (fs::is_directory(path)) require_supported_architecture(path);
  const CheckpointIndex checkpoint = open_checkpoint(path);
  if (checkpoint.kind == CheckpointKind::gguf) return open_gguf_model(checkpoint);
  if (checkpoint.kind == CheckpointKind::pickle) return open_grok_model(checkpoint);
  refuse_original_gpt_oss(checkpoint);
  const fs::path folder = fs::is_directory(path) ? path : (path.has_parent_path() ? path.parent_path() : ".");
  const bool native = find_hub_root(checkpoint) == nullptr;
  const fs::path params_path = find_params(folder, native);
  ReleasedModel model;
  model.params_text = base::read_text_file(params_path, kParamsBytesMax);
  const ModelConfig config = parse_model_config(model.params_text, params_path.string());
  model.description = config.description;
  model.skipped_keys = config.skipped_keys;
  read_tokenizer(folder, native, model);
  find_tensors(checkpoint, config, params_path.filename().string(), model);
  return model;
}

}  // namespace sluice::format
