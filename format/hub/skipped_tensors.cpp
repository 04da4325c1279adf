#include "format/hub/skipped_tensors.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace sluice::format {
namespace {

// Modules of multi-token prediction; towers of images and sound, and what connects them to the model
// (transformers' conversion_mapping.py, Mistral's params.json with a "vision_encoder").
constexpr auto kPrefixes = std::to_array<std::string_view>({
    "mtp.",
    "model.mtp.",
    "visual.",
    "model.visual.",
    "vision_tower.",
    "model.vision_tower.",
    "vision_model.",
    "model.vision_model.",
    "multi_modal_projector.",
    "model.multi_modal_projector.",
    "model.embed_vision.",
    "audio_tower.",
    "model.audio_tower.",
    "model.embed_audio.",
    "vision_encoder.",
    "vision_language_adapter.",
    "patch_merger.",
    "pre_mm_projector_norm.",
});

constexpr auto kHeads =
    std::to_array<std::string_view>({"lm_head.weight", "language_model.lm_head.weight", "output.weight"});

// Frequencies of RoPE, which follow from the configuration.
constexpr std::string_view kFrequencies = ".rotary_emb.inv_freq";

// Only the layers of multi-token prediction have this: the matrix that joins the hidden state with the
// embedding of the next token (DeepSeek-V3, arXiv 2412.19437, section 2.2), under the names of transformers
// and of llama.cpp.
constexpr auto kPredictionMarks = std::to_array<std::string_view>({"eh_proj.weight", "nextn.eh_proj.weight"});

/// "model.layers.46." of "model.layers.46.mlp.gate.weight".
struct LayerPrefix {
  std::string_view text;
  std::uint64_t layer = 0;
};

std::optional<LayerPrefix> layer_prefix_of(std::string_view tensor) {
  for (const std::string_view layers :
       {"model.layers.", "model.language_model.layers.", "language_model.model.layers.", "blk."}) {
    if (!tensor.starts_with(layers)) continue;
    LayerPrefix prefix;
    const char* const begin = tensor.data() + layers.size();
    const char* const end = tensor.data() + tensor.size();
    const auto [at, error] = std::from_chars(begin, end, prefix.layer);
    if (error != std::errc{} || at == end || *at != '.') return std::nullopt;
    prefix.text = tensor.substr(0, static_cast<std::size_t>(at + 1 - tensor.data()));
    return prefix;
  }
  return std::nullopt;
}

// No release has more than three. The bound keeps the list of groups short.
constexpr std::uint64_t kPredictionLayersMax = 64;

bool predicts(const LayerPrefix& prefix, const SkipRule& rule, const CheckpointIndex& checkpoint) {
  if (prefix.layer < rule.layers || prefix.layer - rule.layers >= kPredictionLayersMax) return false;
  if (prefix.layer - rule.layers < rule.prediction_layers) return true;
  return std::ranges::any_of(kPredictionMarks, [&](std::string_view mark) {
    return checkpoint.find(std::string(prefix.text) + std::string(mark)) != nullptr;
  });
}

}  // namespace

std::optional<std::string> skipped_group(std::string_view tensor, const SkipRule& rule,
                                         const CheckpointIndex& checkpoint) {
  for (const std::string_view prefix : kPrefixes)
    if (tensor.starts_with(prefix)) return std::string(prefix);
  if (tensor.ends_with(kFrequencies)) return std::string(kFrequencies);
  if (rule.tied_embeddings && std::ranges::find(kHeads, tensor) != kHeads.end()) return std::string(tensor);
  const auto layer = layer_prefix_of(tensor);
  if (layer && predicts(*layer, rule, checkpoint)) return std::string(layer->text);
  return std::nullopt;
}

void add_skipped(std::string group, std::vector<SkippedTensors>& skipped) {
  const auto found = std::ranges::find(skipped, group, &SkippedTensors::group);
  if (found != skipped.end()) {
    ++found->tensors;
  } else {
    skipped.push_back({std::move(group), 1});
  }
}

}  // namespace sluice::format
