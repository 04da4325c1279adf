// The rule has four steps, and the first that applies decides:
//   1. keys that this file lists: with a neutral value, or with any;
//   2. keys of bookkeeping by their form: a leading underscore, "unsloth_...", "..._token_id";
//   3. a name without any word of the computation is unknown and skipped;
//   4. a name with such a word changes the result, unless its value switches the mechanism off.
// Names are compared word by word ("q_lora_rank" is "q", "lora", "rank"), so that "pretraining_tp" does not
// match a word that merely begins alike.

#include "format/hub/config_keys.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

namespace sluice::format {
namespace {

// Keys that say nothing about the result, whatever their value: they concern training, memory, the loader, or
// how text is generated (transformers kept the latter in config.json until it had generation_config.json).
constexpr auto kHarmless = std::to_array<std::string_view>({
    "architectures",
    "attn_implementation",
    "auto_map",
    "cache_implementation",
    "do_sample",
    "early_stopping",
    "finetuning_task",
    "flash_attention",
    "id2label",
    "initializer_range",
    "is_decoder",
    "label2id",
    "length_penalty",
    "max_batch_size",
    "max_length",
    "max_new_tokens",
    "max_position_embeddings",
    "max_seq_len",
    "max_sequence_length",
    "min_length",
    "model_max_length",
    "model_type",  // the architecture was checked before
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "original_max_position_embeddings",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "output_scores",
    "pretraining_tp",
    "problem_type",
    "return_dict",
    "return_dict_in_generate",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "seq_length",
    "task_specific_params",
    "temperature",
    "tie_encoder_decoder",
    "top_k",
    "top_p",
    "use_cache",
    "use_flash_attention",
    "use_flash_attention_2",
    "use_flash_attn",
});

/// A word in a key's name that makes the key one of training or of the program, whatever else it says:
/// "attention_dropout", "hidden_dropout_prob", "router_z_loss_coef".
constexpr auto kTrainingWords = std::to_array<std::string_view>(
    {"dropout", "loss", "init", "initializer", "checkpointing", "dtype", "version", "jitter"});

/// Words of the computation. A key with one of them describes a mechanism of a model.
constexpr auto kComputationWords = std::to_array<std::string_view>({
    "activation", "act",         "act2fn",      "adapter",      "alibi",       "alpha",       "attention",
    "attn",       "audio",       "beta",        "bias",         "biases",      "block",       "blocks",
    "cap",        "capping",     "channels",    "chunk",        "clamp",       "clip",        "compress",
    "conv",       "cross",       "decay",       "delta",        "dense",       "depth",       "dim",
    "dims",       "dilated",     "embed",       "embedding",    "embeddings",  "encoder",     "eps",
    "epsilon",    "expert",      "experts",     "factor",       "feed",        "feedforward", "ffn",
    "filter",     "freq",        "frequency",   "gate",         "gated",       "gating",      "gelu",
    "global",     "group",       "groups",      "head",         "heads",       "hidden",      "hybrid",
    "image",      "indexer",     "index",       "intermediate", "kernel",      "kv",          "latent",
    "layer",      "layernorm",   "layers",      "limit",        "linear",      "local",       "logit",
    "logits",     "lora",        "mamba",       "memory",       "mla",         "mlp",         "moe",
    "moes",       "mtp",         "multiplier",  "nextn",        "nope",        "norm",        "normalization",
    "normalize",  "normalized",  "norms",       "parallel",     "partial",     "pattern",     "pos",
    "position",   "positional",  "positions",   "proj",         "projection",  "pruned",      "pruning",
    "qk",         "qkv",         "quant",       "quantization", "quantized",   "rank",        "ratio",
    "recurrent",  "renormalize", "residual",    "rms",          "rope",        "rotary",      "rotation",
    "routed",     "router",      "routing",     "scale",        "scaled",      "scales",      "scaling",
    "score",      "scoring",     "shared",      "share",        "sigmoid",     "sink",        "sinks",
    "sliding",    "softcap",     "softcapping", "softmax",      "sparse",      "sparsity",    "ssm",
    "state",      "step",        "swiglu",      "sync",         "temperature", "theta",       "tie",
    "tied",       "topk",        "vision",      "vocab",        "width",       "window",      "windows",
    "yarn",
});

/// Words of factors, which change nothing when they are 1.
constexpr auto kFactorWords = std::to_array<std::string_view>({"factor", "multiplier", "scale", "scaling"});
/// Words of steps that the supported models take, so that switching them off is a change.
constexpr auto kNormalizingWords = std::to_array<std::string_view>(
    {"norm", "norms", "normalize", "normalized", "normalization", "renormalize"});

std::vector<std::string> words_of(std::string_view key) {
  std::vector<std::string> words(1);
  for (std::size_t i = 0; i < key.size(); ++i) {
    const char c = key[i];
    const bool upper = c >= 'A' && c <= 'Z';
    const bool begins = upper && i > 0 && key[i - 1] >= 'a' && key[i - 1] <= 'z';  // camelCase
    const bool separates = c == '_' || c == '.' || c == '-';
    if ((begins || separates) && !words.back().empty()) words.emplace_back();
    if (!separates) words.back() += upper ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return words;
}

template <std::size_t N>
bool has_word(const std::vector<std::string>& words, const std::array<std::string_view, N>& list) {
  return std::ranges::any_of(words, [&](const std::string& word) {
    return std::ranges::find(list, std::string_view(word)) != list.end();
  });
}

bool is_one_of(const Json& value, std::initializer_list<Json> accepted) {
  return std::ranges::find(accepted, value) != accepted.end();
}

/// Keys that change the result unless they have a value that the supported releases have.
KeyMeaning meaning_of_listed(const Json::Member& member, bool& listed) {
  // No structured binding: clang 14 captures none in a lambda.
  const std::string& key = member.first;
  const Json& value = member.second;
  const auto neutral = [&](std::initializer_list<Json> accepted) {
    return is_one_of(value, accepted) ? KeyMeaning::harmless : KeyMeaning::changes_result;
  };
  listed = true;
  if (key == "use_biases" || key == "attention_bias" || key == "mlp_bias" || key == "tie_word_embeddings" ||
      key == "tied_embeddings")
    return neutral({Json(false), Json(nullptr)});
  if (key == "hidden_act" || key == "hidden_activation") return neutral({Json("silu"), Json(nullptr)});
  // Mixtral divides by the sum over the chosen experts, so false would be another router.
  if (key == "norm_topk_prob") return neutral({Json(true), Json(nullptr)});
  if (std::ranges::find(kHarmless, key) != kHarmless.end()) return KeyMeaning::harmless;
  listed = false;
  return KeyMeaning::unknown;
}

/// A value with which no mechanism is described: none, off, nothing of it.
bool switches_off(const Json& value) {
  return is_one_of(value,
                   {Json(nullptr), Json(false), Json(0), Json(0.0), Json(""), Json::array(), Json::object()});
}

bool is_neutral(const std::vector<std::string>& words, const Json& value) {
  if (value.is_null()) return true;
  if (has_word(words, kFactorWords)) return is_one_of(value, {Json(1), Json(1.0), Json(false)});
  if (has_word(words, kNormalizingWords)) return is_one_of(value, {Json::array(), Json::object()});
  return switches_off(value);
}

}  // namespace

KeyMeaning meaning_of(const Json::Member& member) {
  const std::string_view key = member.first;
  bool listed = false;
  if (const KeyMeaning meaning = meaning_of_listed(member, listed); listed) return meaning;
  if (key.starts_with('_') || key.starts_with("unsloth_")) return KeyMeaning::harmless;
  if (key.ends_with("_token_id") || key.ends_with("_token_ids")) return KeyMeaning::harmless;
  const auto words = words_of(key);
  if (has_word(words, kTrainingWords)) return KeyMeaning::harmless;
  if (!has_word(words, kComputationWords)) return KeyMeaning::unknown;
  return is_neutral(words, member.second) ? KeyMeaning::harmless : KeyMeaning::changes_result;
}

}  // namespace sluice::format
