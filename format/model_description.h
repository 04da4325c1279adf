#pragma once
// What a model computes, as one value: a model family is data, never a class or an `if` in the forward pass.
//
//   params.json, config.json, GGUF keys (mistral_params.h, gguf/gguf.h)  ->  ModelDescription
//       -> tensors, their shapes, names and storage (model_tensors.h, tensor_names.h)
//       -> the container's directory ("description"); bytes and operations a token
//       (runtime/memory/model_cost.h)
//       -> what the runtime computes, or refuses by naming layer and field
//
// This header can say more than the program computes. Which family needs which field, and what is computed
// today: docs/families.md. To add a family, write a parser that fills in these fields; add a field only for a
// mechanism that none of them expresses, and give it a neutral value, so that existing models stay as they
// are.
//
// A matrix is named by what it makes: "query" is the matrix that makes the queries. Shapes are [out, in].

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "format/json.h"

namespace sluice::format {

// ---- Rotary position embedding (RoPE) ----

/// Which two values of a head form a pair that RoPE rotates together.
enum class RopeStyle : std::uint8_t {
  interleaved,  ///< values 2i and 2i + 1: Mistral's own files, the rotary part of latent attention
  half_split,   ///< values i and i + rotary_dims / 2: files of Hugging Face's transformers (Qwen3,
                ///< gpt-oss, and nearly all others)
};

/// Angles are position x base^(-2i / rotary_dims), without any change.
struct NoRopeScaling {
  bool operator==(const NoRopeScaling&) const = default;
};

/// YaRN (arXiv 2309.00071): slow pairs rotate slower by `factor`, fast ones as before, with a ramp between.
struct YarnScaling {
  double factor = 1;                          ///< gpt-oss: 32, DeepSeek-V3: 40
  std::uint64_t original_context_tokens = 0;  ///< context of the first training; gpt-oss: 4096
  double beta_fast = 32;      ///< rotations within the original context above which a pair keeps its speed
  double beta_slow = 1;       ///< rotations below which a pair is slowed down by the whole factor
  bool round_ramp = true;     ///< the ramp begins and ends at whole pairs; gpt-oss: false
  double cos_sin_factor = 1;  ///< cosines and sines are multiplied by it; gpt-oss: 0.1 ln 32 + 1, DeepSeek: 1
  bool operator==(const YarnScaling&) const = default;
};

/// Llama 3.1's rule: like YaRN with a ramp over wavelengths.
struct Llama3Scaling {
  double factor = 1;
  std::uint64_t original_context_tokens = 0;
  double low_frequency_factor = 1;
  double high_frequency_factor = 4;
  bool operator==(const Llama3Scaling&) const = default;
};

/// Only the first `turned_dims` / 2 pairs rotate, at the speeds that they have in a head of all rotary_dims
/// (Gemma-4's full layers: 128 of 512).
struct ProportionalScaling {
  std::uint64_t turned_dims = 0;
  bool operator==(const ProportionalScaling&) const = default;
};

/// All pairs rotate slower by `factor` (position interpolation, arXiv 2306.15595).
struct LinearScaling {
  double factor = 1;
  bool operator==(const LinearScaling&) const = default;
};

using RopeScaling =
    std::variant<NoRopeScaling, YarnScaling, Llama3Scaling, ProportionalScaling, LinearScaling>;

/// Inverse frequencies and the factor of cosines and sines are computed from it when a model is loaded.
struct Rope {
  RopeStyle style = RopeStyle::interleaved;
  std::uint64_t rotary_dims = 0;  ///< first values of a head that rotate, even; GLM-4.5: 64 of 128
  double base = 1e4;              ///< Mixtral: 1e6
  RopeScaling scaling;
  bool operator==(const Rope&) const = default;
};

/// Queries are multiplied by 1 + beta ln(1 + floor(position / original_context_tokens)) (Mistral Small 4).
struct QueryTemperature {
  double beta = 0;
  std::uint64_t original_context_tokens = 0;
  bool operator==(const QueryTemperature&) const = default;
};

// ---- Mixers: how tokens read one another ----

/// RMSNorm of queries and keys before RoPE.
enum class QueryKeyNorm : std::uint8_t {
  none,        ///< Mixtral
  per_head,    ///< weights [head_dim], over each head: Qwen3
  full_width,  ///< weights [heads x head_dim], over all heads at once: OLMoE, MiniMax-M2
};

/// arXiv 2305.13245. Each group of heads / key_heads queries shares one head of keys and values.
struct GroupedQueryAttention {
  std::uint64_t heads = 0;      ///< Mixtral 8x7B: 32
  std::uint64_t key_heads = 0;  ///< of keys and of values; Mixtral 8x7B: 8
  std::uint64_t head_dim = 0;   ///< heads x head_dim need not be the model's width; Qwen3-30B: 128
  std::optional<std::uint64_t> window_tokens;  ///< tokens that a token sees, itself included; gpt-oss: 128
  bool input_biases = false;                   ///< on queries, keys and values: Qwen1.5-MoE, GLM-4.5, gpt-oss
  bool output_bias = false;                    ///< gpt-oss
  QueryKeyNorm query_key_norm = QueryKeyNorm::none;
  bool value_norm = false;  ///< RMSNorm of values, per head, without weights: Gemma-4
  bool keys_are_values =
      false;           ///< no value matrix, values are the keys before their norm: Gemma-4's full layers
  bool sinks = false;  ///< a learned score per head that takes part in the softmax only: gpt-oss
  /// The result is multiplied by the sigmoid of a gate; the query matrix makes query and gate of each head in
  /// turns: Qwen3.5.
  bool output_gate = false;
  std::optional<double> scale;     ///< of scores; absent: head_dim^-0.5. Granite: 0.015625, Gemma-4: 1
  std::optional<double> soft_cap;  ///< scores are cap x tanh(score / cap); Grok-1: 30
  std::optional<double> clip;      ///< queries, keys and values are limited to +-clip; OLMoE may have it
  std::optional<Rope> rope;        ///< absent: attention does not depend on positions
  std::optional<QueryTemperature> query_temperature;
  bool operator==(const GroupedQueryAttention&) const = default;
};

/// Multi-head latent attention (MLA, arXiv 2405.04434): keys and values of all heads are made from one latent
/// vector a token, and the rotary part of the keys is shared by all heads.
struct LatentAttention {
  std::uint64_t heads = 0;                  ///< DeepSeek-V3: 128
  std::optional<std::uint64_t> query_rank;  ///< absent: queries are made in one step. DeepSeek-V3: 1536
  std::uint64_t latent_rank = 0;            ///< width of the latent; DeepSeek-V3: 512
  std::uint64_t plain_dims = 0;             ///< of a head, without positions; DeepSeek-V3: 128
  std::uint64_t value_dims = 0;             ///< of a head; DeepSeek-V3: 128, GLM-4.7-Flash: 256
  std::optional<double>
      latent_norm_epsilon;  ///< absent: the model's. DeepSeek: 1e-6, whatever its config says
  /// Absent: (plain_dims + rope.rotary_dims)^-0.5. YaRN's mscale enters here, squared: DeepSeek-V3 0.135234.
  std::optional<double> scale;
  Rope rope;  ///< its rotary_dims follow the plain dims of a head; DeepSeek-V3: 64
  std::optional<QueryTemperature> query_temperature;
  bool operator==(const LatentAttention&) const = default;
};

/// How the input matrices of a gated delta net are stored.
enum class DeltaInputs : std::uint8_t {
  separate,  ///< query, key and value in one matrix; gate; decay; beta: Qwen3.5
  packed,    ///< all but decay and beta in one matrix, these two in another, by key head: Qwen3-Next
};

/// arXiv 2412.06464. A state of key_dim x value_dim a value head instead of a cache that grows.
struct GatedDeltaNet {
  std::uint64_t key_heads = 0;           ///< Qwen3.5-35B-A3B: 16
  std::uint64_t value_heads = 0;         ///< a multiple of key_heads; Qwen3.5-35B-A3B: 32
  std::uint64_t key_dim = 0;             ///< of a head; 128
  std::uint64_t value_dim = 0;           ///< of a head; 128
  std::uint64_t convolution_tokens = 0;  ///< that the causal convolution of q, k and v sees; 4
  DeltaInputs inputs = DeltaInputs::separate;
  bool operator==(const GatedDeltaNet&) const = default;
};

/// A gated causal convolution over so many tokens, channel by channel (LFM2).
struct ShortConvolution {
  std::uint64_t convolution_tokens = 0;  ///< LFM2: 3
  bool operator==(const ShortConvolution&) const = default;
};

using Mixer = std::variant<GroupedQueryAttention, LatentAttention, GatedDeltaNet, ShortConvolution>;

/// "grouped-query-attention", "latent-attention", "gated-delta-net" or "short-convolution".
[[nodiscard]] std::string_view mixer_name(const Mixer& mixer);

// ---- Feed-forward: what each token computes for itself ----

/// down(activation(gate x) * up x), with gate and up [width, model width].
struct DenseFeedForward {
  std::uint64_t width = 0;  ///< Mistral-7B: 14336
  bool operator==(const DenseFeedForward&) const = default;
};

enum class RouterScore : std::uint8_t {
  softmax,  ///< Mixtral, Qwen3, gpt-oss
  sigmoid,  ///< DeepSeek-V3, GLM-4.5, MiniMax-M2, LFM2
};

enum class GroupScore : std::uint8_t {
  best,      ///< of the group's experts: DeepSeek-V2
  best_two,  ///< their sum: DeepSeek-V3
};

/// Experts are chosen from the best groups only.
struct RouterGroups {
  std::uint64_t groups = 0;  ///< DeepSeek-V3: 8
  std::uint64_t kept = 0;    ///< DeepSeek-V3: 4
  GroupScore score = GroupScore::best;
  bool operator==(const RouterGroups&) const = default;
};

/// A token's logits, one an expert, are scored; the best experts are chosen; their scores are their weights.
struct Router {
  RouterScore score = RouterScore::softmax;
  /// Weights are divided by their sum. With softmax this is the softmax over the chosen experts: Mixtral.
  bool renormalise = false;
  bool logit_bias = false;      ///< added to the logits: gpt-oss
  bool selection_bias = false;  ///< added to scores for choosing, not to weights: DeepSeek-V3
  std::optional<RouterGroups> groups;
  double scale = 1;  ///< of the weights; DeepSeek-V3: 2.5
  /// Reads the residual stream through an RMSNorm of its own instead of the experts' input, and multiplies
  /// each weight by a learned factor of its expert: Gemma-4.
  bool own_input = false;
  double renormalise_epsilon = 1e-20;  ///< added to the sum that weights are divided by; LFM2: 1e-6
  bool operator==(const Router&) const = default;
};

/// A dense feed-forward that every token uses in addition to its experts.
struct SharedExpert {
  std::uint64_t width = 0;  ///< of all shared experts together; DeepSeek-V3: 2048
  bool gate = false;        ///< the result is multiplied by the sigmoid of one logit: Qwen1.5-MoE, Qwen3.5
  bool operator==(const SharedExpert&) const = default;
};

/// arXiv 2401.04088: the weighted sum of the chosen experts, each a feed-forward of `width`.
struct Mixture {
  std::uint64_t experts = 0;            ///< Mixtral: 8
  std::uint64_t experts_per_token = 0;  ///< Mixtral: 2
  std::uint64_t width = 0;              ///< of one expert; Mixtral 8x7B: 14336
  bool expert_biases = false;           ///< on gate, up and down: gpt-oss
  Router router;
  std::optional<SharedExpert> shared;
  bool operator==(const Mixture&) const = default;
};

/// At least one of the two; both are added: Gemma-4.
struct FeedForward {
  std::optional<DenseFeedForward> dense;
  std::optional<Mixture> mixture;
  bool operator==(const FeedForward&) const = default;
};

// ---- Layers and the model ----

/// x += mixer(norm(x)), then x += feed_forward(norm(x)).
struct LayerDescription {
  Mixer mixer;
  FeedForward feed_forward;
  /// Results of mixer and feed-forward go through an RMSNorm before they are added. Where the layer has dense
  /// and mixture, each of them has input and output norms of its own: Gemma-4.
  bool post_norms = false;
  bool output_scale = false;  ///< a learned factor of the layer's result: Gemma-4
  bool operator==(const LayerDescription&) const = default;
};

enum class NormWeights : std::uint8_t {
  plain,     ///< x / rms(x) * w
  plus_one,  ///< x / rms(x) * (1 + w): Qwen3.5
};

/// RMSNorm, of the whole model.
struct Norm {
  double epsilon = 1e-5;
  NormWeights weights = NormWeights::plain;
  bool operator==(const Norm&) const = default;
};

/// silu(gate) * up: Mixtral and most others.
struct Silu {
  bool operator==(const Silu&) const = default;
};
/// gelu(gate) * up in the tanh approximation: Gemma-4, Grok-1.
struct GeluTanh {
  bool operator==(const GeluTanh&) const = default;
};
/// g = min(gate, limit), u = clamp(up, -limit, limit), (u + 1) g sigmoid(alpha g): gpt-oss.
struct ClampedSwiglu {
  double alpha = 1.702;
  double limit = 7;
  bool operator==(const ClampedSwiglu&) const = default;
};

using Activation = std::variant<Silu, GeluTanh, ClampedSwiglu>;

/// "silu", "gelu-tanh" or "clamped-swiglu".
[[nodiscard]] std::string_view activation_name(const Activation& activation);

struct ModelDescription {
  std::uint64_t width = 0;       ///< of the residual stream; Mixtral 8x7B: 4096
  std::uint64_t vocabulary = 0;  ///< rows of embedding and head; Mixtral: 32000
  Norm norm;
  Activation activation;
  bool tied_embeddings = false;          ///< the head is the embedding: Granite, Gemma-4, LFM2
  double embedding_scale = 1;            ///< Granite: 12, Gemma-4: sqrt(2816)
  double residual_scale = 1;             ///< of what is added to the residual stream; Granite: 0.22
  double logits_scale = 1;               ///< Granite: 1/6, Grok-1: 0.5773502691896257
  std::optional<double> final_soft_cap;  ///< logits are cap x tanh(logit / cap); Gemma-4: 30

  /// The different kinds of layers, in the order in which they first occur; no two are equal.
  std::vector<LayerDescription> layer_kinds;
  /// For each layer its kind, an index into layer_kinds. Mixtral: 32 times 0. gpt-oss-20b: 0, 1, 0, 1, ...
  std::vector<std::uint32_t> layers;

  [[nodiscard]] std::uint64_t layer_count() const { return layers.size(); }
  [[nodiscard]] const LayerDescription& layer(std::uint64_t index) const {
    return layer_kinds[layers[static_cast<std::size_t>(index)]];
  }
  /// Adds `count` layers at the end.
  void add_layers(std::uint64_t count, const LayerDescription& layer);

  bool operator==(const ModelDescription&) const = default;
};

/// Throws Error{malformed} naming `subject`, the place and the field unless all values are in their bounds
/// and go together, and every count of weights or bytes that follows fits into 63 bits.
void validate(const ModelDescription& description, std::string_view subject);

/// JSON with one text for each description: keys in the order of the fields, fields with their neutral value
/// left out. A program that does not know a field yet therefore reads every model that does not use it.
[[nodiscard]] Json to_json(const ModelDescription& description);
/// Error{malformed} for anything that to_json does not write, and for what validate() refuses.
[[nodiscard]] ModelDescription description_from_json(const Json& json, std::string_view subject);

}  // namespace sluice::format
