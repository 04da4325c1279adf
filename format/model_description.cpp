// Bounds and contradictions of a ModelDescription.
//
// validate() checks in three passes. BoundsCheck compares every field with the bounds in model_fields.h, one
// field at a time; this pass comes first, so that the products in the second pass cannot overflow and no
// divisor is 0. The checks of kinds, mixers and mixtures then compare fields with each other. The last pass
// bounds sums over all layers. Descriptions come from files of strangers, and everything that allocates
// memory for a model (tensor lists, caches, activations) relies on these bounds. Pure functions; any number
// of threads may call them.

#include "format/model_description.h"

#include <algorithm>

#include "base/error.h"
#include "format/model_fields.h"

namespace sluice::format {
namespace {

/// The archive (model_fields.h) that compares every field with its bounds. Flags and enumerators have none:
/// each of their values is valid.
class BoundsCheck final {
 public:
  template <typename T>
  using Ref = const T&;

  explicit BoundsCheck(std::string subject) : subject_(std::move(subject)) {}

  void count(const char* key, std::uint64_t value, std::uint64_t max) const {
    require_range(value, max, key, subject_);
  }
  void count(const char* key, const std::optional<std::uint64_t>& value, std::uint64_t max) const {
    if (value) require_range(*value, max, key, subject_);
  }
  void flag(const char*, bool) const {}
  void flag_or(const char*, bool, bool) const {}
  void number(const char* key, double value, double low, double high) const {
    require_between(value, low, high, key, subject_);
  }
  void number(const char* key, const std::optional<double>& value, double low, double high) const {
    if (value) require_between(*value, low, high, key, subject_);
  }
  void number_or(const char* key, double value, double, double low, double high) const {
    require_between(value, low, high, key, subject_);
  }
  template <typename Enum, std::size_t N>
  void choice(const char*, Enum, const std::array<std::string_view, N>&) const {}
  template <typename Enum, std::size_t N>
  void written_choice(const char*, Enum, const std::array<std::string_view, N>&) const {}
  template <typename T>
  void object(const char* key, const T& value) const {
    BoundsCheck inner(place_of(subject_, key));
    fields(inner, value);
  }
  template <typename T>
  void object(const char* key, const std::optional<T>& value) const {
    if (value) object(key, *value);
  }
  template <typename... Ts, std::size_t N>
  void one_of(const char* key, const std::variant<Ts...>& value, const std::array<std::string_view, N>&,
              FirstIs) const {
    BoundsCheck inner(place_of(subject_, key));
    std::visit([&](const auto& alternative) { fields(inner, alternative); }, value);
  }
  void kinds(const char* key, const std::vector<LayerDescription>& values) const {
    for (std::size_t i = 0; i < values.size(); ++i)
      object((std::string(key) + "[" + std::to_string(i) + "]").c_str(), values[i]);
  }
  void indices(const char* key, const std::vector<std::uint32_t>& values) const {
    if (!values.empty() && values.size() <= kLayersMax) return;
    base::throw_malformed(
        place_of(subject_, key),
        "has " + std::to_string(values.size()) + " layers, expected 1 to " + std::to_string(kLayersMax));
  }

 private:
  std::string subject_;
};

void require_multiple(std::uint64_t value, std::string_view key, std::uint64_t of, std::string_view of_key,
                      std::string_view subject) {
  if (value % of == 0) return;
  base::throw_malformed(subject, "'" + std::string(key) + "' " + std::to_string(value) +
                                     " is not a multiple of '" + std::string(of_key) + "' " +
                                     std::to_string(of));
}

/// `dims` is the width of the head, or the part of it, that is turned.
void check_rope(const Rope& rope, std::uint64_t dims, std::string_view subject) {
  if (rope.rotary_dims % 2 != 0) {
    base::throw_malformed(place_of(subject, "rotary_dims"),
                          "is odd (" + std::to_string(rope.rotary_dims) + "), but RoPE turns pairs");
  }
  require_range(rope.rotary_dims, dims, "rotary_dims", subject);
  // Both ramps are divided by what lies between their ends.
  if (std::holds_alternative<YarnScaling>(rope.scaling) && rope.base == 1)
    base::throw_malformed(place_of(subject, "base"), "is 1, so all pairs rotate alike and YaRN has no ramp");
  if (const auto* scaling = std::get_if<Llama3Scaling>(&rope.scaling);
      scaling != nullptr && scaling->high_frequency_factor <= scaling->low_frequency_factor) {
    base::throw_malformed(place_of(subject, "scaling"),
                          "'high_frequency_factor' is not greater than 'low_frequency_factor'");
  }
  if (const auto* scaling = std::get_if<ProportionalScaling>(&rope.scaling)) {
    require_multiple(scaling->turned_dims, "turned_dims", 2, "pair", subject);
    require_range(scaling->turned_dims, rope.rotary_dims, "turned_dims", subject);
  }
}

void check_mixer(const GroupedQueryAttention& mixer, std::string_view subject) {
  require_multiple(mixer.heads, "heads", mixer.key_heads, "key_heads", subject);
  require_range(mixer.heads * mixer.head_dim, kWidthMax, "heads x head_dim", subject);
  if (mixer.rope) check_rope(*mixer.rope, mixer.head_dim, place_of(subject, "rope"));
}

// Latent attention has a rotary part of its own width next to the plain dims, so only the general bound
// applies.
void check_mixer(const LatentAttention& mixer, std::string_view subject) {
  check_rope(mixer.rope, kWidthMax, place_of(subject, "rope"));
  require_range(mixer.heads * (mixer.plain_dims + mixer.rope.rotary_dims), kWidthMax,
                "heads x (plain_dims + rotary_dims)", subject);
  require_range(mixer.heads * (mixer.plain_dims + mixer.value_dims), kWidthMax,
                "heads x (plain_dims + value_dims)", subject);
  // Queries are computed in the space of the latents.
  require_range(mixer.heads * (mixer.latent_rank + mixer.rope.rotary_dims), kWidthMax,
                "heads x (latent_rank + rotary_dims)", subject);
}

void check_mixer(const GatedDeltaNet& mixer, std::string_view subject) {
  require_multiple(mixer.value_heads, "value_heads", mixer.key_heads, "key_heads", subject);
  require_range(mixer.key_heads * mixer.key_dim, kWidthMax, "key_heads x key_dim", subject);
  require_range(mixer.value_heads * mixer.value_dim, kWidthMax, "value_heads x value_dim", subject);
}

void check_mixer(const ShortConvolution&, std::string_view) {}

void check_mixture(const Mixture& mixture, std::string_view subject) {
  require_range(mixture.experts_per_token, mixture.experts, "experts_per_token", subject);
  const auto& groups = mixture.router.groups;
  if (!groups) return;
  require_multiple(mixture.experts, "experts", groups->groups, "groups", subject);
  require_range(groups->kept, groups->groups, "kept", place_of(subject, "groups"));
  // Experts are chosen inside of the kept groups only, so these must have enough of them.
  require_range(mixture.experts_per_token, mixture.experts / groups->groups * groups->kept,
                "experts_per_token", subject);
  if (groups->score == GroupScore::best_two && mixture.experts / groups->groups < 2)
    base::throw_malformed(place_of(subject, "groups"), "have one expert each, but the score is of two");
}

void check_layer(const LayerDescription& layer, std::string_view subject) {
  std::visit([&](const auto& mixer) { check_mixer(mixer, place_of(subject, "mixer")); }, layer.mixer);
  const std::string place = place_of(subject, "feed_forward");
  if (!layer.feed_forward.dense && !layer.feed_forward.mixture)
    base::throw_malformed(place, "is neither 'dense' nor a 'mixture'");
  if (layer.feed_forward.mixture) check_mixture(*layer.feed_forward.mixture, place_of(place, "mixture"));
}

/// Kinds stand in the order in which they first occur, all occur, and no two are equal. A model then has one
/// description only, and descriptions can be compared as text.
void check_kinds(const ModelDescription& description, std::string_view subject) {
  std::uint32_t seen = 0;
  for (std::size_t layer = 0; layer < description.layers.size(); ++layer) {
    const std::uint32_t kind = description.layers[layer];
    if (kind > seen || kind >= description.layer_kinds.size()) {
      base::throw_malformed(
          place_of(subject, "layers"),
          "layer " + std::to_string(layer) + " has kind " + std::to_string(kind) +
              ", expected one of the first " +
              std::to_string(std::min<std::size_t>(seen + 1, description.layer_kinds.size())) +
              " of 'layer_kinds'");
    }
    if (kind == seen) ++seen;
  }
  if (seen < description.layer_kinds.size())
    base::throw_malformed(place_of(subject, "layer_kinds"), "no layer is of kind " + std::to_string(seen));
  for (auto kind = description.layer_kinds.begin(); kind != description.layer_kinds.end(); ++kind)
    if (std::find(description.layer_kinds.begin(), kind, *kind) != kind)
      base::throw_malformed(place_of(subject, "layer_kinds"), "two kinds are equal");
}

}  // namespace

std::string_view mixer_name(const Mixer& mixer) { return kMixerNames[mixer.index()]; }
std::string_view activation_name(const Activation& activation) {
  return kActivationNames[activation.index()];
}

// Looks for an equal kind first, which keeps the rules of check_kinds() without any effort of the caller.
void ModelDescription::add_layers(std::uint64_t count, const LayerDescription& layer) {
  const auto found = std::ranges::find(layer_kinds, layer);
  const auto kind = static_cast<std::uint32_t>(found - layer_kinds.begin());
  if (found == layer_kinds.end()) layer_kinds.push_back(layer);
  layers.insert(layers.end(), static_cast<std::size_t>(count), kind);
}

void validate(const ModelDescription& description, std::string_view subject) {
  BoundsCheck bounds{std::string(subject)};
  fields(bounds, description);
  check_kinds(description, subject);
  for (std::size_t i = 0; i < description.layer_kinds.size(); ++i)
    check_layer(description.layer_kinds[i], place_of(subject, "layer_kinds[" + std::to_string(i) + "]"));
  // The lists of tensors and experts grow with this sum, so it has a bound of its own.
  std::uint64_t experts = 0;
  for (std::uint64_t layer = 0; layer < description.layer_count(); ++layer)
    if (const auto& mixture = description.layer(layer).feed_forward.mixture) experts += mixture->experts;
  if (experts > kExpertsTotalMax) {
    base::throw_malformed(subject, "has " + std::to_string(experts) +
                                       " experts in all layers, expected at most " +
                                       std::to_string(kExpertsTotalMax));
  }
}

}  // namespace sluice::format
