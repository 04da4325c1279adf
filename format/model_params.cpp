#include "format/model_params.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/text.h"
#include "format/quantization_config.h"

namespace sluice::format {
namespace {

// So wide that no model comes near, and so narrow that no count of weights or bytes overflows 63 bits:
// 3 x 2^20 x 2^20 weights an expert, 2^10 experts, 2^10 layers, 2 bytes each.
constexpr std::uint64_t kWidthMax = 1u << 20;
constexpr std::uint64_t kVocabMax = 1u << 24;
constexpr std::uint64_t kLayersMax = 1u << 10;
constexpr std::uint64_t kExpertsMax = 1u << 10;
// Bounds the list of tensors, which is made before any of them is looked for.
constexpr std::uint64_t kLayersTimesExpertsMax = 1u << 16;

/// How one dialect spells the keys; nullptr: it has none.
struct Dialect {
  const char* dim;
  const char* n_layers;
  const char* head_dim;
  const char* hidden_dim;
  const char* n_heads;
  const char* n_kv_heads;
  const char* norm_eps;
};

constexpr Dialect kNative{"dim", "n_layers", "head_dim", "hidden_dim", "n_heads", "n_kv_heads", "norm_eps"};
// Beside the early upload in eight shards; transformers' convert_mixtral_weights_to_hf.py reads it.
constexpr Dialect kHub{"hidden_size",         "num_hidden_layers",   "head_dim",    "intermediate_size",
                       "num_attention_heads", "num_key_value_heads", "rms_norm_eps"};

// Keys that say nothing about the result, whatever their value.
constexpr std::array<std::string_view, 15> kHarmless{
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "dtype",
    "initializer_range",
    "max_batch_size",
    "max_position_embeddings",
    "max_seq_len",
    "output_router_logits",
    "pad_token_id",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "torch_dtype",
    "transformers_version",
    "use_cache",
};

/// Keys that change the result unless they have this value.
bool is_neutral(const Json::Member& member) {
  const auto& [key, value] = member;
  if (key == "use_biases" || key == "attention_bias" || key == "mlp_bias") return value == Json(false);
  if (key == "tie_word_embeddings" || key == "tied_embeddings") return value == Json(false);
  if (key == "rope_scaling") return value.is_null();
  if (key == "hidden_act") return value == Json("silu");
  if (key == "model_type")
    return value == Json("mixtral") || value == Json("mistral") || value == Json("transformer");
  if (key == "bos_token_id") return value == Json(1);
  if (key == "eos_token_id") return value == Json(2);
  return false;
}

std::string place(std::string_view subject, std::string_view key) {
  return std::string(subject) + ": key '" + std::string(key) + "'";
}

void require_range(std::uint64_t value, std::uint64_t max, std::string_view key, std::string_view subject) {
  if (value >= 1 && value <= max) return;
  base::throw_malformed(place(subject, key), "expected a whole number from 1 to " + std::to_string(max) +
                                                 ", found " + std::to_string(value));
}

void require_between(double value, double low, double high, std::string_view key, std::string_view subject) {
  if (value >= low && value <= high) return;
  base::throw_malformed(place(subject, key), "expected a number from " + Json(low).dump() + " to " +
                                                 Json(high).dump() + ", found " + Json(value).dump());
}

/// A number, null, or, as in one release, the number as a string.
std::optional<std::uint64_t> read_sliding_window(const Json& json, std::string_view subject) {
  const Json* value = json.find("sliding_window");
  if (value == nullptr || value->is_null()) return std::nullopt;
  const std::string where = place(subject, "sliding_window");
  if (!value->is_string()) return value->as_uint(where);
  const std::string& text = value->as_string(where);
  if (text == "None" || text == "null") return std::nullopt;
  std::uint64_t number = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), number);
  if (result.ec != std::errc{} || result.ptr != text.data() + text.size()) {
    base::throw_malformed(where, "expected a whole number, found the string " + Json(text).dump());
  }
  return number;
}

class ParamsReader final {
 public:
  ParamsReader(const Json& json, std::string_view subject) : json_(json), subject_(subject) {}

  [[nodiscard]] ModelParams read() const {
    const bool hub = json_.find(kHub.dim) != nullptr;
    if (hub && json_.find(kNative.dim) != nullptr) {
      base::throw_malformed(subject_, "has both 'dim' and 'hidden_size': two dialects in one file");
    }
    const Dialect& dialect = hub ? kHub : kNative;
    ModelParams params;
    params.dim = number(dialect.dim);
    params.n_layers = number(dialect.n_layers);
    params.hidden_dim = number(dialect.hidden_dim);
    params.n_heads = number(dialect.n_heads);
    params.vocab_size = number("vocab_size");
    params.norm_eps = json_.at(dialect.norm_eps, subject_).as_double(place(subject_, dialect.norm_eps));
    params.n_kv_heads = hub && !has(dialect.n_kv_heads) ? params.n_heads : number(dialect.n_kv_heads);
    params.head_dim = hub && !has_value("head_dim") ? divided_head_dim(params) : number("head_dim");
    params.sliding_window = read_sliding_window(json_, subject_);
    params.rope_theta = read_rope_theta().value_or(params.sliding_window ? 1e4 : 1e6);
    read_experts(params, hub);
    if (has_value("quantization"))
      check_mistral_quantization(*json_.find("quantization"), place(subject_, "quantization"));
    if (has_value("quantization_config"))
      check_quantization_config(*json_.find("quantization_config"), place(subject_, "quantization_config"));
    refuse_unknown_keys(dialect, hub);
    validate(params, subject_);
    return params;
  }

 private:
  [[nodiscard]] bool has(const char* key) const { return json_.find(key) != nullptr; }

  [[nodiscard]] bool has_value(const char* key) const { return has(key) && !json_.find(key)->is_null(); }

  /// Also as transformers 5 writes it: {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}.
  [[nodiscard]] std::optional<double> read_rope_theta() const {
    const std::string where = place(subject_, "rope_parameters");
    std::optional<double> theta;
    if (has_value("rope_parameters")) {
      const Json& rope = *json_.find("rope_parameters");
      require_known_keys(rope, {"rope_theta", "rope_type"}, where);
      if (const Json* type = rope.find("rope_type"); type != nullptr && *type != Json("default"))
        base::throw_malformed(where,
                              "'rope_type' " + type->dump() + " is not supported, expected \"default\"");
      theta = rope.at("rope_theta", where).as_double(where + ": 'rope_theta'");
    }
    if (!has_value("rope_theta")) return theta;
    const double plain = json_.find("rope_theta")->as_double(place(subject_, "rope_theta"));
    if (theta && *theta != plain)
      base::throw_malformed(where, "says another 'rope_theta' than the key of that name");
    return plain;
  }

  [[nodiscard]] std::uint64_t number(const char* key) const {
    return json_.at(key, subject_).as_uint(place(subject_, key));
  }

  [[nodiscard]] std::uint64_t divided_head_dim(const ModelParams& params) const {
    if (params.n_heads == 0 || params.dim % params.n_heads != 0) {
      base::throw_malformed(subject_, "has no 'head_dim', and 'hidden_size' " + std::to_string(params.dim) +
                                          " does not divide by " + std::to_string(params.n_heads) + " heads");
    }
    return params.dim / params.n_heads;
  }

  void read_experts(ModelParams& params, bool hub) const {
    if (hub) {
      params.dense = !has("num_local_experts");
      if (params.dense) return;
      params.num_experts = number("num_local_experts");
      // 2 is what transformers' MixtralConfig takes when the key is missing.
      params.num_experts_per_tok = has("num_experts_per_tok") ? number("num_experts_per_tok") : 2;
      return;
    }
    const Json* moe = json_.find("moe");
    params.dense = moe == nullptr || moe->is_null();
    if (params.dense) return;
    const std::string where = place(subject_, "moe");
    require_known_keys(*moe, {"num_experts", "num_experts_per_tok"}, where);
    params.num_experts = moe->at("num_experts", where).as_uint(where + ": 'num_experts'");
    params.num_experts_per_tok =
        moe->at("num_experts_per_tok", where).as_uint(where + ": 'num_experts_per_tok'");
  }

  void refuse_unknown_keys(const Dialect& dialect, bool hub) const {
    std::vector<std::string_view> known{dialect.dim,        dialect.n_layers,     dialect.head_dim,
                                        dialect.hidden_dim, dialect.n_heads,      dialect.n_kv_heads,
                                        dialect.norm_eps,   "vocab_size",         "rope_theta",
                                        "sliding_window",   "quantization_config"};
    if (hub) {
      known.insert(known.end(), {"num_local_experts", "num_experts_per_tok", "rope_parameters"});
    } else {
      known.insert(known.end(), {"moe", "quantization"});
    }
    for (const Json::Member& member : json_.as_object(subject_)) {
      const std::string& key = member.first;
      if (std::ranges::find(known, key) != known.end() || is_neutral(member)) continue;
      if (std::ranges::find(kHarmless, key) != kHarmless.end()) continue;
      base::throw_malformed(subject_, "key " + Json(key).dump() + " with value " +
                                          base::to_printable(member.second.dump().substr(0, 60)) +
                                          " is not known, and may change the result");
    }
  }

  const Json& json_;
  std::string_view subject_;
};

}  // namespace

ModelParams parse_params(std::string_view text, std::string_view subject) {
  return params_from_json(parse_json(text, subject), subject);
}

Json to_json(const ModelParams& params) {
  Json json = Json::object({{"dim", params.dim},
                            {"n_layers", params.n_layers},
                            {"head_dim", params.head_dim},
                            {"hidden_dim", params.hidden_dim},
                            {"n_heads", params.n_heads},
                            {"n_kv_heads", params.n_kv_heads},
                            {"norm_eps", params.norm_eps},
                            {"rope_theta", params.rope_theta},
                            {"vocab_size", params.vocab_size}});
  if (params.sliding_window) json.set("sliding_window", *params.sliding_window);
  if (!params.dense) {
    json.set("moe", Json::object({{"num_experts_per_tok", params.num_experts_per_tok},
                                  {"num_experts", params.num_experts}}));
  }
  return json;
}

ModelParams params_from_json(const Json& json, std::string_view subject) {
  static_cast<void>(json.as_object(subject));
  return ParamsReader(json, subject).read();
}

void validate(const ModelParams& params, std::string_view subject) {
  require_range(params.dim, kWidthMax, "dim", subject);
  require_range(params.n_layers, kLayersMax, "n_layers", subject);
  require_range(params.hidden_dim, kWidthMax, "hidden_dim", subject);
  require_range(params.n_heads, kWidthMax, "n_heads", subject);
  require_range(params.n_kv_heads, kWidthMax, "n_kv_heads", subject);
  require_range(params.head_dim, kWidthMax, "head_dim", subject);
  require_range(params.n_heads * params.head_dim, kWidthMax, "n_heads x head_dim", subject);
  require_range(params.vocab_size, kVocabMax, "vocab_size", subject);
  require_range(params.num_experts, kExpertsMax, "num_experts", subject);
  require_range(params.num_experts_per_tok, params.num_experts, "num_experts_per_tok", subject);
  if (params.sliding_window) require_range(*params.sliding_window, 1u << 30, "sliding_window", subject);
  require_range(params.n_layers * params.num_experts, kLayersTimesExpertsMax, "n_layers x num_experts",
                subject);
  require_between(params.norm_eps, 1e-12, 1, "norm_eps", subject);
  require_between(params.rope_theta, 1, 1e12, "rope_theta", subject);
  if (params.head_dim % 2 != 0) {
    base::throw_malformed(place(subject, "head_dim"),
                          "is odd (" + std::to_string(params.head_dim) + "), but RoPE turns pairs");
  }
  if (params.n_heads % params.n_kv_heads != 0) {
    base::throw_malformed(subject, "'n_heads' " + std::to_string(params.n_heads) +
                                       " does not divide by 'n_kv_heads' " +
                                       std::to_string(params.n_kv_heads));
  }
  if (params.dense && (params.num_experts != 1 || params.num_experts_per_tok != 1)) {
    base::throw_malformed(subject, "a dense model has exactly one expert");
  }
}

}  // namespace sluice::format
