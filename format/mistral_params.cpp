// Reads params.json and config.json of Mistral's and Mixtral's releases, and translates between them and a
// ModelDescription (docs/checkpoints.md, "params.json and config.json").
//
// There are two dialects, Mistral's own and that of Hugging Face's transformers, told apart by the key of the
// model's width; a file with keys of both is refused. A key that has no field here is judged by its name and
// value (hub/config_keys.h): ignoring, for example, a new kind of RoPE scaling would give a model that runs
// and answers nonsense. Every default in this file is the one that the original program
// applied to the releases of that dialect. Everything runs on the caller's thread.

#include "format/mistral_params.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/text.h"
#include "format/hub/architecture.h"
#include "format/hub/config_keys.h"
#include "format/hub/config_reader.h"
#include "format/hub/quantization_config.h"
#include "format/model_limits.h"

namespace sluice::format {
namespace {

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
// The dialect of config.json, and of the params.json of the early upload of Mixtral in eight shards;
// transformers' convert_mixtral_weights_to_hf.py reads it.
constexpr Dialect kHub{"hidden_size",         "num_hidden_layers",   "head_dim",    "intermediate_size",
                       "num_attention_heads", "num_key_value_heads", "rms_norm_eps"};

/// Whether a "rope_scaling", in either spelling of its type, says that nothing is scaled.
bool scales_nothing(const Json& value) {
  if (value.is_null()) return true;
  const Json* type = value.find("rope_type");
  if (type == nullptr) type = value.find("type");
  if (type == nullptr) return value == Json::object();
  if (*type == Json("default")) return true;
  const Json* factor = value.find("factor");
  const bool by_one = factor != nullptr && (*factor == Json(1) || *factor == Json(1.0));
  return by_one && (*type == Json("linear") || *type == Json("dynamic"));
}

/// A number, null, or, as in one release, the number as a string.
std::optional<std::uint64_t> read_sliding_window(const Json& json, std::string_view subject) {
  const Json* value = json.find("sliding_window");
  if (value == nullptr || value->is_null()) return std::nullopt;
  const std::string where = place_of(subject, "sliding_window");
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

/// What becomes of a key that the parameters have no field for.
enum class OtherKeys : std::uint8_t {
  refused,    ///< in texts that Sluice has written
  by_meaning  ///< in files of other programs (config_keys.h)
};

/// Refuses 0, which would stand for a dense model.
std::uint64_t number_of_experts(std::uint64_t number, std::string_view key, std::string_view subject) {
  require_range(number, kExpertsMax, key, subject);
  return number;
}

class ParamsReader final {
 public:
  /// `skipped` takes the keys that are not known and were skipped; it may be null.
  ParamsReader(const Json& json, std::string_view subject, OtherKeys other_keys,
               std::vector<std::string>* skipped)
      : json_(json), subject_(subject), other_keys_(other_keys), skipped_(skipped) {}

  [[nodiscard]] MistralParams read() const {
    const bool hub = json_.find(kHub.dim) != nullptr;
    if (hub && json_.find(kNative.dim) != nullptr) {
      base::throw_malformed(subject_, "has both 'dim' and 'hidden_size': two dialects in one file");
    }
    const Dialect& dialect = hub ? kHub : kNative;
    MistralParams params;
    params.dim = number(dialect.dim);
    params.n_layers = number(dialect.n_layers);
    params.hidden_dim = number(dialect.hidden_dim);
    params.n_heads = number(dialect.n_heads);
    params.vocab_size = number("vocab_size");
    params.norm_eps = json_.at(dialect.norm_eps, subject_).as_double(place_of(subject_, dialect.norm_eps));
    // Files of the hub's dialect may leave these two out; in Mistral's own both are required.
    params.n_kv_heads = hub && !has(dialect.n_kv_heads) ? params.n_heads : number(dialect.n_kv_heads);
    params.head_dim = hub && !has_value("head_dim") ? divided_head_dim(params) : number("head_dim");
    params.sliding_window = read_sliding_window(json_, subject_);
    check_window_keys(params);
    // mistral-inference chose like this on the day of Mixtral's release; its later default of 1e6 is wrong
    // for Mistral-7B-v0.1, whose params.json has a window and no rope_theta.
    params.rope_theta = read_rope_theta().value_or(params.sliding_window ? 1e4 : 1e6);
    read_experts(params, hub);
    if (has_value("quantization"))
      check_mistral_quantization(*json_.find("quantization"), place_of(subject_, "quantization"));
    if (has_value("quantization_config"))
      check_quantization_config(*json_.find("quantization_config"),
                                place_of(subject_, "quantization_config"));
    // This check comes last, so that a missing or wrong known key is reported before an unknown one.
    refuse_unknown_keys(dialect, hub);
    validate(params, subject_);
    return params;
  }

 private:
  [[nodiscard]] bool has(const char* key) const { return json_.find(key) != nullptr; }

  [[nodiscard]] bool has_value(const char* key) const { return has(key) && !json_.find(key)->is_null(); }

  /// Reads the key itself and the form of transformers 5: {"rope_parameters": {"rope_theta": 1e6,
  /// "rope_type": "default"}}. When a file has both, they must agree.
  [[nodiscard]] std::optional<double> read_rope_theta() const {
    const std::string where = place_of(subject_, "rope_parameters");
    std::optional<double> theta;
    if (has_value("rope_parameters")) {
      const Json& rope = *json_.find("rope_parameters");
      require_known_keys(rope, {"rope_theta", "rope_type", "type", "partial_rotary_factor"}, where);
      // A whole head is turned.
      if (const Json* part = rope.find("partial_rotary_factor");
          part != nullptr && *part != Json(1.0) && *part != Json(1))
        refuse_value(where, "partial_rotary_factor", *part, "1.0");
      for (const char* key : {"rope_type", "type"}) {
        const Json* type = rope.find(key);
        if (type != nullptr && *type != Json("default"))
          base::throw_malformed(where, "'" + std::string(key) + "' " + type->dump() +
                                           " is not supported, expected \"default\"");
      }
      theta = rope.at("rope_theta", where).as_double(where + ": 'rope_theta'");
    }
    if (!has_value("rope_theta")) return theta;
    const double plain = json_.find("rope_theta")->as_double(place_of(subject_, "rope_theta"));
    if (theta && *theta != plain)
      base::throw_malformed(where, "says another 'rope_theta' than the key of that name");
    return plain;
  }

  [[nodiscard]] std::uint64_t number(const char* key) const {
    return json_.at(key, subject_).as_uint(place_of(subject_, key));
  }

  [[nodiscard]] std::uint64_t divided_head_dim(const MistralParams& params) const {
    if (params.n_heads == 0 || params.dim % params.n_heads != 0) {
      base::throw_malformed(subject_, "has no 'head_dim', and 'hidden_size' " + std::to_string(params.dim) +
                                          " does not divide by " + std::to_string(params.n_heads) + " heads");
    }
    return params.dim / params.n_heads;
  }

  void read_experts(MistralParams& params, bool hub) const {
    if (hub) {
      if (!has("num_local_experts")) return;
      params.num_experts = number_of_experts(number("num_local_experts"), "num_local_experts", subject_);
      // 2 is what transformers' MixtralConfig takes when the key is missing.
      params.num_experts_per_tok = has("num_experts_per_tok") ? number("num_experts_per_tok") : 2;
      return;
    }
    const Json* moe = json_.find("moe");
    if (moe == nullptr || moe->is_null()) return;
    const std::string where = place_of(subject_, "moe");
    require_known_keys(*moe, {"num_experts", "num_experts_per_tok"}, where);
    params.num_experts = number_of_experts(moe->at("num_experts", where).as_uint(where + ": 'num_experts'"),
                                           "num_experts", subject_);
    params.num_experts_per_tok =
        moe->at("num_experts_per_tok", where).as_uint(where + ": 'num_experts_per_tok'");
  }

  /// Keys of transformers that could take the window away again, or from some layers.
  void check_window_keys(const MistralParams& params) const {
    if (const Json* used = json_.find("use_sliding_window"); used != nullptr && !used->is_null()) {
      const bool uses = used->as_bool(place_of(subject_, "use_sliding_window"));
      if (uses != params.sliding_window.has_value()) {
        // Without a window there is nothing to use, whatever the key says.
        if (uses) return;
        refuse_value(subject_, "use_sliding_window", *used, "true, or no 'sliding_window'");
      }
    }
    const Json* types = json_.find("layer_types");
    if (types == nullptr || types->is_null()) return;
    const Json expected(params.sliding_window ? "sliding_attention" : "full_attention");
    for (const Json& type : types->as_array(place_of(subject_, "layer_types")))
      if (type != expected) refuse_value(subject_, "layer_types", type, expected.dump() + " for every layer");
  }

  /// Knows the keys of one dialect only: "moe" in a config.json is as suspicious as a misspelt key.
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
    for (const Json::Member& member : json_.as_object(subject_))
      if (std::ranges::find(known, member.first) == known.end()) check_other_key(member);
  }

  void check_other_key(const Json::Member& member) const {
    const auto& [key, value] = member;
    if (other_keys_ == OtherKeys::by_meaning) {
      if (key == "rope_scaling" && scales_nothing(value)) return;
      // check_window_keys() has compared them with the window.
      if (key == "use_sliding_window" || key == "layer_types") return;
      const KeyMeaning meaning = meaning_of(member);
      if (meaning == KeyMeaning::unknown && skipped_ != nullptr) skipped_->push_back(key);
      if (meaning != KeyMeaning::changes_result) return;
    }
    base::throw_malformed(subject_, "key " + Json(key).dump() + " with value " +
                                        base::to_printable(value.dump().substr(0, 60)) +
                                        " is not known, and may change the result");
  }

  const Json& json_;
  std::string_view subject_;
  OtherKeys other_keys_;
  std::vector<std::string>* skipped_;
};

}  // namespace

MistralParams parse_params(std::string_view text, std::string_view subject,
                           std::vector<std::string>* skipped_keys) {
  const Json json = parse_json(text, subject);
  static_cast<void>(json.as_object(subject));
  // In another architecture every other key means something else, so this comes first.
  require_supported_architecture(json, subject);
  if (const HubFamily* family = find_family(json, subject); family != nullptr && family->read != nullptr)
    refuse_value(subject, "model_type", Json(family->model_type), "\"mixtral\" or \"mistral\"");
  return ParamsReader(json, subject, OtherKeys::by_meaning, skipped_keys).read();
}

Json to_json(const MistralParams& params) {
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
  if (params.num_experts > 0) {
    json.set("moe", Json::object({{"num_experts_per_tok", params.num_experts_per_tok},
                                  {"num_experts", params.num_experts}}));
  }
  return json;
}

MistralParams params_from_json(const Json& json, std::string_view subject) {
  static_cast<void>(json.as_object(subject));
  return ParamsReader(json, subject, OtherKeys::refused, nullptr).read();
}

void validate(const MistralParams& params, std::string_view subject) {
  require_range(params.dim, kWidthMax, "dim", subject);
  require_range(params.n_layers, kLayersMax, "n_layers", subject);
  require_range(params.hidden_dim, kWidthMax, "hidden_dim", subject);
  require_range(params.n_heads, kWidthMax, "n_heads", subject);
  require_range(params.n_kv_heads, kWidthMax, "n_kv_heads", subject);
  require_range(params.head_dim, kWidthMax, "head_dim", subject);
  // Both factors are at most kWidthMax here, so the product does not overflow.
  require_range(params.n_heads * params.head_dim, kWidthMax, "n_heads x head_dim", subject);
  require_range(params.vocab_size, kVocabularyMax, "vocab_size", subject);
  if (params.sliding_window) require_range(*params.sliding_window, kTokensMax, "sliding_window", subject);
  require_between(params.norm_eps, kEpsilonMin, kEpsilonMax, "norm_eps", subject);
  require_between(params.rope_theta, kRopeBaseMin, kRopeBaseMax, "rope_theta", subject);
  if (params.head_dim % 2 != 0) {
    base::throw_malformed(place_of(subject, "head_dim"),
                          "is odd (" + std::to_string(params.head_dim) + "), but RoPE turns pairs");
  }
  if (params.n_heads % params.n_kv_heads != 0) {
    base::throw_malformed(subject, "'n_heads' " + std::to_string(params.n_heads) +
                                       " does not divide by 'n_kv_heads' " +
                                       std::to_string(params.n_kv_heads));
  }
  if (params.num_experts == 0 && params.num_experts_per_tok == 0) return;  // dense
  require_range(params.num_experts, kExpertsMax, "num_experts", subject);
  require_range(params.num_experts_per_tok, params.num_experts, "num_experts_per_tok", subject);
  // The limit of one layer and the limit of all layers are separate, because the directory lists every
  // expert.
  require_range(params.n_layers * params.num_experts, kExpertsTotalMax, "n_layers x num_experts", subject);
}

ModelDescription describe(const MistralParams& params) {
  GroupedQueryAttention attention;
  attention.heads = params.n_heads;
  attention.key_heads = params.n_kv_heads;
  attention.head_dim = params.head_dim;
  attention.window_tokens = params.sliding_window;
  // Rows of files in transformers' order are brought into Mistral's when they are read (tensor_names.h).
  attention.rope.emplace();
  attention.rope->style = RopeStyle::interleaved;
  attention.rope->rotary_dims = params.head_dim;
  attention.rope->base = params.rope_theta;

  LayerDescription layer;
  layer.mixer = attention;
  if (params.num_experts == 0) {
    layer.feed_forward.dense.emplace().width = params.hidden_dim;
  } else {
    Mixture& mixture = layer.feed_forward.mixture.emplace();
    mixture.experts = params.num_experts;
    mixture.experts_per_token = params.num_experts_per_tok;
    mixture.width = params.hidden_dim;
    // Mixtral takes the softmax over the chosen experts only (arXiv 2401.04088, section 2.1), which equals a
    // softmax over all of them that is then divided by its sum over the chosen ones.
    mixture.router.renormalise = true;
  }
  ModelDescription description;
  description.width = params.dim;
  description.vocabulary = params.vocab_size;
  description.norm.epsilon = params.norm_eps;
  description.add_layers(params.n_layers, layer);
  return description;
}

// Takes the parameters from the first kind of layer, and then compares what they describe with the whole
// description. The comparison covers every field, present and future ones, so this function does not list
// what MistralParams cannot express.
std::optional<MistralParams> mistral_params(const ModelDescription& description) {
  if (description.layer_kinds.size() != 1) return std::nullopt;
  const LayerDescription& layer = description.layer_kinds.front();
  const auto* attention = std::get_if<GroupedQueryAttention>(&layer.mixer);
  if (attention == nullptr || !attention->rope) return std::nullopt;
  MistralParams params;
  params.dim = description.width;
  params.n_layers = description.layer_count();
  params.head_dim = attention->head_dim;
  params.n_heads = attention->heads;
  params.n_kv_heads = attention->key_heads;
  params.vocab_size = description.vocabulary;
  params.norm_eps = description.norm.epsilon;
  params.rope_theta = attention->rope->base;
  params.sliding_window = attention->window_tokens;
  if (const auto& mixture = layer.feed_forward.mixture) {
    params.hidden_dim = mixture->width;
    params.num_experts = mixture->experts;
    params.num_experts_per_tok = mixture->experts_per_token;
  } else if (layer.feed_forward.dense) {
    params.hidden_dim = layer.feed_forward.dense->width;
  }
  if (describe(params) != description) return std::nullopt;
  return params;
}

}  // namespace sluice::format
