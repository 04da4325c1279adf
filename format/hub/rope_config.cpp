// Rope parameters as transformers reads them (modeling_rope_utils.py). A file may have both forms, because
// programs convert one into the other; what both say must then be the same. Every object is read through a
// ConfigReader of its own, so that a key which belongs to another scaling is refused by name.

#include "format/hub/rope_config.h"

#include <cmath>
#include <optional>
#include <string>

#include "base/error.h"
#include "format/model_limits.h"

namespace sluice::format {
namespace {

/// "rope_parameters" or "rope_scaling", and what they contain beside the scaling itself.
struct RopeObject {
  std::optional<double> base;
  std::optional<double> rotary_part;
  RopeScaling scaling;
};

/// "rope_type", or "type" in older files; "default" where neither is given.
std::string scaling_type(ConfigReader& rope) {
  const Json* type = rope.find("rope_type");
  const Json* old_type = rope.find("type");
  if (type != nullptr && old_type != nullptr && *type != *old_type)
    base::throw_malformed(rope.place("type"),
                          "is " + old_type->dump() + ", but 'rope_type' is " + type->dump());
  if (type == nullptr) type = old_type;
  return type == nullptr ? "default" : type->as_string(rope.place("rope_type"));
}

double read_factor(ConfigReader& rope, double low) {
  const auto factor = rope.find_number("factor", low, kFactorMax);
  if (!factor) base::throw_malformed(rope.subject(), "key 'factor' is missing");
  return *factor;
}

/// `context` is "max_position_embeddings", which counts where the object does not name the first context.
YarnScaling read_yarn(ConfigReader& rope, std::uint64_t context) {
  YarnScaling yarn;
  yarn.original_context_tokens = rope.count_or("original_max_position_embeddings", context, kTokensMax);
  if (yarn.original_context_tokens == 0)
    base::throw_malformed(rope.subject(), "key 'original_max_position_embeddings' is missing");
  yarn.factor = read_factor(rope, 1);
  yarn.beta_fast = rope.number_or("beta_fast", yarn.beta_fast, kFactorMin, kFactorMax);
  yarn.beta_slow = rope.number_or("beta_slow", yarn.beta_slow, kFactorMin, kFactorMax);
  yarn.round_ramp = rope.flag("truncate", true);
  const auto given = rope.find_number("attention_factor", kFactorMin, kFactorMax);
  const double mscale = rope.number_or("mscale", 0, 0, kFactorMax);
  const double mscale_all_dim = rope.number_or("mscale_all_dim", 0, 0, kFactorMax);
  if (given) {
    yarn.cos_sin_factor = *given;
  } else if (mscale != 0 && mscale_all_dim != 0) {
    yarn.cos_sin_factor = yarn_magnitude(yarn.factor, mscale) / yarn_magnitude(yarn.factor, mscale_all_dim);
  } else {
    yarn.cos_sin_factor = yarn_magnitude(yarn.factor, 1);
  }
  return yarn;
}

Llama3Scaling read_llama3(ConfigReader& rope) {
  Llama3Scaling llama3;
  llama3.factor = read_factor(rope, 1);
  llama3.original_context_tokens = rope.count("original_max_position_embeddings", kTokensMax);
  const auto low = rope.find_number("low_freq_factor", kFactorMin, kFactorMax);
  const auto high = rope.find_number("high_freq_factor", kFactorMin, kFactorMax);
  if (!low || !high) {
    base::throw_malformed(
        rope.subject(),
        std::string("key '") + (low ? "high_freq_factor" : "low_freq_factor") + "' is missing");
  }
  llama3.low_frequency_factor = *low;
  llama3.high_frequency_factor = *high;
  return llama3;
}

RopeScaling read_scaling(ConfigReader& rope, std::uint64_t context) {
  const std::string type = scaling_type(rope);
  if (type == "default") return NoRopeScaling{};
  if (type == "linear") {
    const LinearScaling linear{read_factor(rope, kFactorMin)};
    return linear.factor == 1 ? RopeScaling{NoRopeScaling{}} : RopeScaling{linear};
  }
  if (type == "yarn") return read_yarn(rope, context);
  if (type == "llama3") return read_llama3(rope);
  if (type == "proportional") {
    rope.require("factor", {Json(1), Json(1.0)});
    return ProportionalScaling{};  // make_rope() knows how wide a head is
  }
  // A context that is not stretched is not scaled, whatever the rule would do to a longer one.
  if (type == "dynamic" && read_factor(rope, 1) == 1) return NoRopeScaling{};
  refuse_value(rope.subject(), "rope_type", Json(type), "default, linear, llama3, proportional or yarn");
}

/// Nothing where the file does not have the object.
std::optional<RopeObject> read_object(ConfigReader& config, std::string_view key, std::uint64_t context,
                                      const RopeDefaults& defaults) {
  const Json* json = config.find(key);
  if (json == nullptr) return std::nullopt;
  ConfigReader rope(*json, config.place(key));
  RopeObject object;
  if (defaults.image_sections) rope.ignore({"mrope_section", "mrope_interleaved"});
  if (defaults.query_temperature) rope.ignore({"llama_4_scaling_beta", "max_position_embeddings"});
  object.base = rope.find_number("rope_theta", kRopeBaseMin, kRopeBaseMax);
  object.rotary_part = rope.find_number("partial_rotary_factor", kFactorMin, 1);
  object.scaling = read_scaling(rope, context);
  rope.refuse_all_others();
  return object;
}

/// The one value that several keys give; `otherwise` where none does.
double agreed(std::initializer_list<std::optional<double>> values, double otherwise, std::string_view key,
              const ConfigReader& config) {
  std::optional<double> agreed;
  for (const auto& value : values) {
    if (value && agreed && *value != *agreed)
      base::throw_malformed(config.place("rope_parameters"),
                            "says another '" + std::string(key) + "' than the key of that name");
    if (value) agreed = value;
  }
  return agreed.value_or(otherwise);
}

/// The rope of heads of `head_dim` values, of which `part` rotates.
Rope make_rope(double base, double part, RopeScaling scaling, std::uint64_t head_dim) {
  // transformers rounds down.
  const auto dims = static_cast<std::uint64_t>(static_cast<double>(head_dim) * part);
  const auto turned_pairs = static_cast<std::uint64_t>(static_cast<double>(head_dim) * part / 2);
  if (auto* proportional = std::get_if<ProportionalScaling>(&scaling))
    proportional->turned_dims = 2 * turned_pairs;
  const bool whole = std::holds_alternative<ProportionalScaling>(scaling);
  return {.style = RopeStyle::half_split,
          .rotary_dims = whole ? head_dim : dims,
          .base = base,
          .scaling = scaling};
}

std::uint64_t read_context(ConfigReader& config) {
  return config.count_or("max_position_embeddings", 0, kTokensMax);
}

}  // namespace

double yarn_magnitude(double factor, double k) { return factor <= 1 ? 1 : 0.1 * k * std::log(factor) + 1; }

Rope read_rope(ConfigReader& config, std::uint64_t head_dim, const RopeDefaults& defaults) {
  const std::uint64_t context = read_context(config);
  const auto parameters = read_object(config, "rope_parameters", context, defaults);
  const auto scaling = read_object(config, "rope_scaling", context, defaults);
  const RopeObject none;
  const RopeObject& one = parameters ? *parameters : none;
  const RopeObject& other = scaling ? *scaling : none;
  if (parameters && scaling && one.scaling != other.scaling)
    base::throw_malformed(config.place("rope_scaling"), "says another scaling than 'rope_parameters'");
  const double base =
      agreed({one.base, other.base, config.find_number("rope_theta", kRopeBaseMin, kRopeBaseMax)},
             defaults.base, "rope_theta", config);
  const double part =
      agreed({one.rotary_part, other.rotary_part, config.find_number("partial_rotary_factor", kFactorMin, 1)},
             defaults.rotary_part, "partial_rotary_factor", config);
  return make_rope(base, part, parameters ? one.scaling : other.scaling, head_dim);
}

Rope read_rope_of(std::string_view layer_type, ConfigReader& config, std::uint64_t head_dim,
                  const RopeDefaults& defaults) {
  const Json* all = config.find("rope_parameters");
  if (all == nullptr) {
    const RopeScaling scaling =
        defaults.proportional ? RopeScaling{ProportionalScaling{}} : RopeScaling{NoRopeScaling{}};
    return make_rope(defaults.base, defaults.rotary_part, scaling, head_dim);
  }
  ConfigReader types(*all, config.place("rope_parameters"));
  const auto object = read_object(types, layer_type, read_context(config), defaults);
  if (!object) base::throw_malformed(types.subject(), "key '" + std::string(layer_type) + "' is missing");
  // The default part is that of files without any parameters.
  return make_rope(object->base.value_or(defaults.base), object->rotary_part.value_or(1), object->scaling,
                   head_dim);
}

}  // namespace sluice::format
