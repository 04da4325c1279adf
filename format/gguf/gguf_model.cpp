// Reads what the keys of a GGUF file say about its model. Key names are those of llama.cpp
// (src/llama-arch.cpp); Mixtral and Mistral have the architecture "llama" there, whose keys say what
// MistralParams say. For the other families, kRules has what llama.cpp's code does without asking a key
// (src/models/*.cpp, and llama_model_rope_type in llama-model.cpp); where a key of that meaning is there all
// the same, it must agree.
//
// As in params.json, a key under the name of the architecture that is not known is refused, because it may
// change the result. Everything runs on the caller's thread.

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "format/gguf/gguf.h"
#include "format/gguf/gguf_keys.h"
#include "format/hub/rope_config.h"
#include "format/model_limits.h"

namespace sluice::format {
namespace {

/// The key that has the width of an expert.
enum class ExpertWidth : std::uint8_t {
  own,          ///< expert_feed_forward_length, else feed_forward_length / expert_used_count
  feed_forward  ///< feed_forward_length
};

/// Rules of an architecture that hold whatever the keys say.
struct Rules {
  std::string_view name;
  RopeStyle rope = RopeStyle::half_split;
  QueryKeyNorm query_key_norm = QueryKeyNorm::none;
  bool optional_query_key_norm = false;  ///< per head, where the file has its weights
  ExpertWidth expert_width = ExpertWidth::own;
  std::optional<bool> renormalise;   ///< absent: expert_weights_norm
  std::optional<RouterScore> score;  ///< absent: expert_gating_func, and sigmoid without it
  bool selection_bias = false;
  bool shared_gate = false;            ///< there is a shared expert, whose result goes through a gate
  double renormalise_epsilon = 1e-20;  ///< that of the release: files do not have it
  bool granite_scales = false;         ///< factors of embedding, attention, residual stream and logits
  /// gpt-oss: sinks, a window in every other layer, biases of router and experts, clamped SwiGLU, and a ramp
  /// of YaRN that is not rounded, whatever llama.cpp does (docs/families.md).
  bool gpt_oss = false;
  bool latent = false;        ///< latent attention; the bias for choosing is there or not
  bool convolutions = false;  ///< layers without heads of keys are short convolutions
};

// "llama" stands first, and is read by gguf_params().
constexpr auto kRules = std::to_array<Rules>({
    {.name = "llama", .rope = RopeStyle::interleaved, .renormalise = true, .score = RouterScore::softmax},
    {.name = "qwen3moe",
     .query_key_norm = QueryKeyNorm::per_head,
     .renormalise = true,
     .score = RouterScore::softmax},
    {.name = "qwen2moe", .renormalise = false, .score = RouterScore::softmax, .shared_gate = true},
    {.name = "olmoe",
     .query_key_norm = QueryKeyNorm::full_width,
     .expert_width = ExpertWidth::feed_forward,
     .renormalise = false,
     .score = RouterScore::softmax},
    {.name = "granitemoe",
     .rope = RopeStyle::interleaved,
     .expert_width = ExpertWidth::feed_forward,
     .renormalise = true,
     .score = RouterScore::softmax,
     .granite_scales = true},
    {.name = "glm4moe",
     .optional_query_key_norm = true,
     .renormalise = {},
     .score = {},
     .selection_bias = true},
    {.name = "minimax-m2",
     .query_key_norm = QueryKeyNorm::full_width,
     .renormalise = true,
     .score = {},
     .selection_bias = true},
    {.name = "gpt-oss", .renormalise = true, .score = RouterScore::softmax, .gpt_oss = true},
    {.name = "deepseek2", .rope = RopeStyle::interleaved, .renormalise = {}, .score = {}, .latent = true},
    {.name = "lfm2moe",
     .query_key_norm = QueryKeyNorm::per_head,
     .renormalise = true,
     .score = {},
     .selection_bias = true,
     .renormalise_epsilon = 1e-6,
     .convolutions = true},
});

/// Older files do not have the size of the vocabulary; there it is the number of tokens.
std::uint64_t rows_of_vocabulary(GgufKeys& keys) {
  if (const auto size = keys.find_uint(keys.key("vocab_size"))) return *size;
  return keys.list<std::string>("tokenizer.ggml.tokens").size();
}

/// RoPE over a part of a head and keys of another width than values are mechanisms that MistralParams has no
/// field for.
void require_equal(const GgufKeys& keys, const std::string& key, std::uint64_t expected) {
  const auto value = keys.find_uint(key);
  if (value && *value != expected) {
    keys.refuse(key, "is " + std::to_string(*value) + ", but the heads are " + std::to_string(expected) +
                         " wide: that is not supported");
  }
}

/// The keys of one architecture other than "llama".
class ModelReader final {
 public:
  ModelReader(const CheckpointIndex& checkpoint, const Rules& rules)
      : checkpoint_(checkpoint), rules_(rules), keys_(checkpoint) {}

  ModelConfig read() {
    static_cast<void>(number("context_length", kTokensMax, 1));  // of no effect but for YaRN
    ModelDescription& model = config_.description;
    model.width = count("embedding_length", kWidthMax);
    model.vocabulary = rows_of_vocabulary(keys_);
    model.norm.epsilon = factor("attention.layer_norm_rms_epsilon", 0);
    // llama.cpp takes the embedding where a file has no head.
    model.tied_embeddings = checkpoint_.find("output.weight") == nullptr;
    if (rules_.granite_scales) read_granite_scales();
    if (rules_.gpt_oss) model.activation = ClampedSwiglu{};
    const Mixer mixer = rules_.latent ? Mixer(read_latent_attention()) : Mixer(read_attention());
    const Mixture mixture = read_mixture();
    add_layers(mixer, mixture);
    keys_.refuse_others();
    validate(model, keys_.subject());
    return std::move(config_);
  }

 private:
  [[nodiscard]] std::uint64_t checked(const std::string& key, std::uint64_t value, std::uint64_t max) const {
    require_range(value, max, key, keys_.subject());
    return value;
  }
  [[nodiscard]] std::uint64_t count(std::string_view rest, std::uint64_t max) {
    const std::string key = keys_.key(rest);
    return checked(key, keys_.uint(key), max);
  }
  /// A missing key and 0 mean `otherwise`, as in llama.cpp.
  [[nodiscard]] std::uint64_t number(std::string_view rest, std::uint64_t max, std::uint64_t otherwise) {
    const std::string key = keys_.key(rest);
    const std::uint64_t value = keys_.find_uint(key).value_or(0);
    return value == 0 ? otherwise : checked(key, value, max);
  }
  [[nodiscard]] double factor(std::string_view rest, double otherwise) {
    const double value = keys_.find_float(keys_.key(rest)).value_or(0);
    return value == 0 ? otherwise : value;
  }

  void read_granite_scales() {
    ModelDescription& model = config_.description;
    model.embedding_scale = factor("embedding_scale", 1);
    model.residual_scale = factor("residual_scale", 1);
    // Logits are divided by it.
    model.logits_scale = 1 / factor("logit_scale", 1);
  }

  [[nodiscard]] GroupedQueryAttention read_attention() {
    GroupedQueryAttention attention;
    attention.heads = count("attention.head_count", kWidthMax);
    attention.key_heads = rules_.convolutions ? read_convolutions()
                                              : number("attention.head_count_kv", kWidthMax, attention.heads);
    const std::uint64_t divided = config_.description.width / attention.heads;
    attention.head_dim = number("attention.key_length", kWidthMax, divided);
    require_equal(keys_, keys_.key("attention.value_length"), attention.head_dim);
    attention.query_key_norm = rules_.query_key_norm;
    // These are there or not, and no key says so.
    attention.input_biases = checkpoint_.find("blk.0.attn_q.bias") != nullptr;
    attention.output_bias = checkpoint_.find("blk.0.attn_output.bias") != nullptr;
    if (rules_.optional_query_key_norm && checkpoint_.find("blk.0.attn_q_norm.weight") != nullptr)
      attention.query_key_norm = QueryKeyNorm::per_head;
    if (rules_.granite_scales) {
      if (const double scale = factor("attention.scale", 0); scale != 0) attention.scale = scale;
    }
    if (const double clip = factor("attention.clamp_kqv", 0); clip != 0) attention.clip = clip;
    attention.rope = read_rope(attention.head_dim);
    // Granite's key for "has positions".
    const std::string finetuned = keys_.key("rope.scaling.finetuned");
    if (rules_.granite_scales && !keys_.truth(finetuned, true)) attention.rope.reset();
    attention.sinks = rules_.gpt_oss;
    return attention;
  }

  /// Files before 2025 have the widths of a head as key_length and value_length; later ones have those of the
  /// cache there, which is one head of latents, and the widths of a head under names of their own.
  [[nodiscard]] LatentAttention read_latent_attention() {
    LatentAttention attention;
    attention.heads = count("attention.head_count", kWidthMax);
    const std::string key_heads = keys_.key("attention.head_count_kv");
    if (const auto found = keys_.find_uint(key_heads); found && *found != 1 && *found != attention.heads) {
      keys_.refuse(key_heads,
                   "is " + std::to_string(*found) + ", expected 1 or " + std::to_string(attention.heads));
    }
    if (const std::uint64_t rank = number("attention.q_lora_rank", kWidthMax, 0); rank > 0)
      attention.query_rank = rank;
    attention.latent_rank = count("attention.kv_lora_rank", kWidthMax);
    const std::uint64_t rotary_dims = count("rope.dimension_count", kWidthMax);
    const bool cache_widths = keys_.find_uint(keys_.key("attention.key_length_mla")).has_value();
    const std::uint64_t head =
        count(cache_widths ? "attention.key_length_mla" : "attention.key_length", kWidthMax);
    attention.value_dims =
        count(cache_widths ? "attention.value_length_mla" : "attention.value_length", kWidthMax);
    if (cache_widths) {
      require_equal(keys_, keys_.key("attention.key_length"), attention.latent_rank + rotary_dims);
      require_equal(keys_, keys_.key("attention.value_length"), attention.latent_rank);
    }
    if (head <= rotary_dims) {
      keys_.refuse(keys_.key("rope.dimension_count"),
                   "is " + std::to_string(rotary_dims) + ", but a head is " + std::to_string(head) + " wide");
    }
    attention.plain_dims = head - rotary_dims;
    attention.rope = read_rope(rotary_dims);
    scale_scores(attention, head);
    return attention;
  }

  /// The converter writes mscale_all_dim / 10; llama.cpp takes mscale for equal to it, so that cosines and
  /// sines have no factor (llama-context.cpp, models/deepseek2.cpp).
  void scale_scores(LatentAttention& attention, std::uint64_t head) {
    auto* yarn = std::get_if<YarnScaling>(&attention.rope.scaling);
    const double log_multiplier = factor("rope.scaling.yarn_log_multiplier", 0);
    if (yarn == nullptr || log_multiplier == 0) return;
    yarn->cos_sin_factor = factor("rope.scaling.attn_factor", 1);
    const double magnitude = yarn_magnitude(yarn->factor, 10 * log_multiplier);
    attention.scale = magnitude * magnitude / std::sqrt(static_cast<double>(head));
  }

  /// The heads of keys in each layer: 0 for a convolution, else the same number, which is returned.
  [[nodiscard]] std::uint64_t read_convolutions() {
    const std::string key = keys_.key("attention.head_count_kv");
    const auto& heads_by_layer = keys_.list<std::int64_t>(key);
    const std::uint64_t blocks = count("block_count", kLayersMax);
    if (heads_by_layer.size() != blocks) {
      keys_.refuse(key, "has " + std::to_string(heads_by_layer.size()) + " numbers, but there are " +
                            std::to_string(blocks) + " blocks");
    }
    std::int64_t heads = 0;
    for (const std::int64_t of_layer : heads_by_layer) {
      if (of_layer < 0 || (heads != 0 && of_layer != 0 && of_layer != heads))
        keys_.refuse(key, "has " + std::to_string(heads) + " and " + std::to_string(of_layer) +
                              ", and only 0 may stand beside one other number");
      heads = std::max(heads, of_layer);
      is_convolution_.push_back(of_layer == 0);
    }
    convolution_.convolution_tokens = count("shortconv.l_cache", kTokensMax);
    return checked(key, static_cast<std::uint64_t>(heads), kWidthMax);
  }

  [[nodiscard]] Rope read_rope(std::uint64_t head_dim) {
    Rope rope;
    rope.style = rules_.rope;
    rope.rotary_dims = number("rope.dimension_count", head_dim, head_dim);
    rope.base = factor("rope.freq_base", 1e4);
    // "linear" is llama.cpp's default, too: a factor counts without a type.
    const std::string type = keys_.key("rope.scaling.type");
    const std::string name = keys_.find_text(type).value_or("linear");
    const double linear = factor("rope.scale_linear", 1);
    const double by = factor("rope.scaling.factor", linear);
    const std::uint64_t context =
        number("rope.scaling.original_context_length", kTokensMax, number("context_length", kTokensMax, 0));
    if (name == "yarn") {
      rope.scaling = read_yarn(by, context);
    } else if (name != "none" && name != "linear") {
      keys_.refuse(type, "is '" + base::to_printable(name) + "', supported are none, linear and yarn");
    } else if (name == "linear" && by != 1) {
      rope.scaling = LinearScaling{by};
    }
    return rope;
  }

  /// llama.cpp rounds the ramp's ends, and multiplies YaRN's own magnitude by the file's factor
  /// (llama-context.cpp).
  [[nodiscard]] YarnScaling read_yarn(double by, std::uint64_t context) {
    YarnScaling yarn;
    yarn.factor = by;
    yarn.original_context_tokens = context;
    yarn.beta_fast = factor("rope.scaling.yarn_beta_fast", yarn.beta_fast);
    yarn.beta_slow = factor("rope.scaling.yarn_beta_slow", yarn.beta_slow);
    yarn.round_ramp = !rules_.gpt_oss;
    const double log_multiplier = factor("rope.scaling.yarn_log_multiplier", 0);
    yarn.cos_sin_factor = yarn_magnitude(by, 1) * factor("rope.scaling.attn_factor", 1);
    if (log_multiplier != 0) yarn.cos_sin_factor /= yarn_magnitude(by, log_multiplier);
    return yarn;
  }

  [[nodiscard]] Mixture read_mixture() {
    Mixture mixture;
    mixture.experts = count("expert_count", kExpertsMax);
    mixture.experts_per_token = count("expert_used_count", kExpertsMax);
    const std::uint64_t feed_forward = number("feed_forward_length", kWidthMax, 0);
    const std::uint64_t divided = feed_forward / mixture.experts_per_token;
    const bool own = rules_.expert_width == ExpertWidth::own;
    mixture.width = number("expert_feed_forward_length", kWidthMax, own ? divided : feed_forward);
    dense_width_ = feed_forward;
    mixture.expert_biases = rules_.gpt_oss;
    mixture.router = read_router();
    mixture.router.logit_bias = rules_.gpt_oss;
    read_shared_expert(feed_forward, mixture);
    return mixture;
  }

  [[nodiscard]] Router read_router() {
    Router router;
    router.score = read_score();
    const std::string norm = keys_.key("expert_weights_norm");
    router.renormalise = keys_.truth(norm, rules_.renormalise.value_or(false));
    if (router.renormalise) router.renormalise_epsilon = rules_.renormalise_epsilon;
    if (rules_.renormalise && router.renormalise != *rules_.renormalise)
      keys_.refuse(norm, std::string("is ") + (router.renormalise ? "true" : "false") +
                             ", but llama.cpp computes the opposite for this architecture");
    router.selection_bias = rules_.selection_bias || has_selection_bias();
    router.scale = factor("expert_weights_scale", 1);
    const std::uint64_t groups = number("expert_group_count", kExpertsMax, 1);
    const std::uint64_t kept = number("expert_group_used_count", kExpertsMax, groups);
    // DeepSeek-V2, with softmax scores, has groups by their best expert; V3 and GLM by their two best.
    const bool by_best = rules_.latent && router.score == RouterScore::softmax;
    if (kept != groups)
      router.groups = RouterGroups{groups, kept, by_best ? GroupScore::best : GroupScore::best_two};
    return router;
  }

  /// Whether a file of latent attention has biases for choosing, in its first layer with experts.
  [[nodiscard]] bool has_selection_bias() {
    if (!rules_.latent) return false;
    const std::uint64_t layer = number("leading_dense_block_count", kLayersMax, 0);
    return checkpoint_.find("blk." + std::to_string(layer) + ".exp_probs_b.bias") != nullptr;
  }

  [[nodiscard]] RouterScore read_score() {
    const std::string key = keys_.key("expert_gating_func");
    // LLAMA_EXPERT_GATING_FUNC_TYPE_SOFTMAX and _SIGMOID.
    constexpr std::uint64_t kSoftmax = 1;
    constexpr std::uint64_t kSigmoid = 2;
    const auto named = [](RouterScore score) { return score == RouterScore::softmax ? kSoftmax : kSigmoid; };
    // Files of DeepSeek-V2 do not have the key.
    const bool softmax = rules_.latent && !has_selection_bias();
    const std::uint64_t otherwise =
        named(rules_.score.value_or(softmax ? RouterScore::softmax : RouterScore::sigmoid));
    const std::uint64_t number = keys_.find_uint(key).value_or(0);
    const std::uint64_t found = number == 0 ? otherwise : number;
    if (found > kSigmoid || (rules_.score && found != otherwise)) {
      keys_.refuse(key, "is " + std::to_string(found) + ", expected " +
                            (rules_.score ? std::to_string(otherwise) : "1 (softmax) or 2 (sigmoid)"));
    }
    return found == kSoftmax ? RouterScore::softmax : RouterScore::sigmoid;
  }

  void read_shared_expert(std::uint64_t feed_forward, Mixture& mixture) {
    const std::uint64_t experts = number("expert_shared_count", kExpertsMax, 0);
    // The width of all of them together.
    const std::uint64_t width =
        number("expert_shared_feed_forward_length", kWidthMax, experts * mixture.width);
    if (width > 0) mixture.shared = SharedExpert{width, rules_.shared_gate};
    if (width == 0 && rules_.shared_gate) mixture.shared = SharedExpert{feed_forward, true};
  }

  /// gpt-oss: every other layer has the window, the first one too.
  void add_windowed_layers(GroupedQueryAttention attention, const Mixture& mixture) {
    const std::uint64_t layers = count("block_count", kLayersMax);
    const std::uint64_t window = count("attention.sliding_window", kTokensMax);
    for (std::uint64_t layer = 0; layer < layers; ++layer) {
      attention.window_tokens = layer % 2 == 0 ? std::optional(window) : std::nullopt;
      config_.description.add_layers(1, {attention, {.dense = {}, .mixture = mixture}});
    }
  }

  void add_layers(const Mixer& mixer, const Mixture& mixture) {
    if (rules_.gpt_oss) return add_windowed_layers(std::get<GroupedQueryAttention>(mixer), mixture);
    const std::uint64_t blocks = count("block_count", kLayersMax);
    config_.prediction_layers = number("nextn_predict_layers", kLayersMax, 0);
    if (config_.prediction_layers >= blocks)
      keys_.refuse(keys_.key("nextn_predict_layers"), "is " + std::to_string(config_.prediction_layers) +
                                                          ", but there are " + std::to_string(blocks) +
                                                          " blocks");
    const std::uint64_t layers = blocks - config_.prediction_layers;
    const std::uint64_t dense = std::min(number("leading_dense_block_count", kLayersMax, 0), layers);
    for (std::uint64_t layer = 0; layer < layers; ++layer) {
      LayerDescription description{mixer, {}};
      if (!is_convolution_.empty() && is_convolution_[layer]) description.mixer = convolution_;
      if (layer < dense) description.feed_forward.dense = DenseFeedForward{dense_width_};
      if (layer >= dense) description.feed_forward.mixture = mixture;
      config_.description.add_layers(1, description);
    }
  }

  const CheckpointIndex& checkpoint_;
  const Rules& rules_;
  GgufKeys keys_;
  ModelConfig config_;
  std::uint64_t dense_width_ = 0;
  ShortConvolution convolution_;
  std::vector<bool> is_convolution_;  ///< by layer; empty where there are none
};

const Rules& rules_of(const CheckpointIndex& checkpoint) {
  require_supported_architecture(checkpoint);
  return *std::ranges::find(kRules, GgufKeys(checkpoint).architecture(), &Rules::name);
}

}  // namespace

void require_supported_architecture(const CheckpointIndex& checkpoint) {
  const GgufKeys keys(checkpoint);
  if (keys.find("general.architecture") == nullptr) return;
  const std::string name = keys.architecture();
  if (std::ranges::find(kRules, name, &Rules::name) != kRules.end()) return;
  std::string supported;
  for (const Rules& rules : kRules) supported += (supported.empty() ? "" : ", ") + std::string(rules.name);
  keys.refuse("general.architecture",
              "is '" + base::to_printable(name.substr(0, 100)) + "', supported are " + supported);
}

MistralParams gguf_params(const CheckpointIndex& checkpoint) {
  GgufKeys keys(checkpoint);
  if (const std::string name = keys.architecture(); name != kRules.front().name)
    keys.refuse("general.architecture",
                "is '" + base::to_printable(name.substr(0, 100)) + "', expected llama");
  MistralParams params;
  params.dim = keys.uint(keys.key("embedding_length"));
  params.n_layers = keys.uint(keys.key("block_count"));
  params.hidden_dim = keys.uint(keys.key("feed_forward_length"));
  params.n_heads = keys.uint(keys.key("attention.head_count"));
  params.n_kv_heads = keys.find_uint(keys.key("attention.head_count_kv")).value_or(params.n_heads);
  const std::string rope = keys.key("rope.dimension_count");
  const std::string key_length = keys.key("attention.key_length");
  const std::string value_length = keys.key("attention.value_length");
  // The width of a head: the width of a key if it is given, then the rotated part, then width / heads.
  const std::uint64_t divided = params.n_heads == 0 ? 0 : params.dim / params.n_heads;
  params.head_dim = keys.find_uint(key_length).value_or(keys.find_uint(rope).value_or(divided));
  for (const std::string& width : {rope, key_length, value_length})
    require_equal(keys, width, params.head_dim);
  params.vocab_size = rows_of_vocabulary(keys);
  params.norm_eps = keys.find_float(keys.key("attention.layer_norm_rms_epsilon")).value_or(0);
  params.rope_theta = keys.find_float(keys.key("rope.freq_base")).value_or(1e4);  // llama.cpp's own default
  params.sliding_window = keys.find_uint(keys.key("attention.sliding_window"));
  const auto experts = keys.find_uint(keys.key("expert_count"));
  const std::string used = keys.key("expert_used_count");
  if (experts && *experts > 0) {
    params.num_experts = *experts;
    params.num_experts_per_tok = keys.uint(used);
  }
  // These say nothing about the result.
  for (const char* key : {"context_length", "rope.scaling.original_context_length"})
    static_cast<void>(keys.key(key));
  if (const GgufValue* scaling = keys.find("llama.rope.scaling.type"); scaling != nullptr) {
    const auto* type = std::get_if<std::string>(scaling);
    if (type != nullptr && *type == "none") static_cast<void>(keys.key("rope.scaling.type"));
  }
  keys.refuse_others();
  validate(params, keys.subject());
  return params;
}

bool is_released_type(const CheckpointIndex& checkpoint, DType dtype) {
  const GgufKeys keys(checkpoint);
  return dtype == DType::mxfp4 && keys.find("general.architecture") != nullptr &&
         keys.architecture() == "gpt-oss";
}

ModelConfig gguf_config(const CheckpointIndex& checkpoint) {
  const Rules& rules = rules_of(checkpoint);
  if (&rules != &kRules.front()) return ModelReader(checkpoint, rules).read();
  return {.description = describe(gguf_params(checkpoint)), .prediction_layers = 0, .skipped_keys = {}};
}

}  // namespace sluice::format
