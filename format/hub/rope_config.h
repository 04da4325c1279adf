#pragma once
// Reads what a config.json says about rotary positions, in both forms: "rope_theta" and "rope_scaling", and
// transformers 5's "rope_parameters", which has everything in one object.

#include <cstdint>
#include <string_view>

#include "format/hub/config_reader.h"
#include "format/model_description.h"

namespace sluice::format {

/// Values that hold for a family when its config.json does not give them.
struct RopeDefaults {
  double base = 1e4;
  double rotary_part = 1;  ///< of the head; GLM-4.5: 0.5
  /// Where the file says nothing of a scaling, ProportionalScaling with this part: Gemma-4's full layers.
  bool proportional = false;
  /// The file may divide the pairs among positions in time, height and width of images ("mrope_section"),
  /// which are all equal for text: Qwen3.5.
  bool image_sections = false;
  /// The object may have the temperature of queries, which belongs to attention, and repeat the length of the
  /// context: Mistral Small 4.
  bool query_temperature = false;
};

/// The rope of heads of `head_dim` values, half-split as in all files of transformers. Error{malformed}
/// naming the key for scalings that a description cannot say (dynamic, longrope), for keys that belong to no
/// scaling, and where two keys contradict each other.
[[nodiscard]] Rope read_rope(ConfigReader& config, std::uint64_t head_dim, const RopeDefaults& defaults);
/// Does the same for layers of one type, where "rope_parameters" has an object for each type of layer:
/// Gemma-4. It does not judge the other types.
[[nodiscard]] Rope read_rope_of(std::string_view layer_type, ConfigReader& config, std::uint64_t head_dim,
                                const RopeDefaults& defaults);

/// m(s, k) of YaRN: 0.1 k ln s + 1, but 1 for s <= 1 (arXiv 2309.00071, section 3.4).
[[nodiscard]] double yarn_magnitude(double factor, double k);

}  // namespace sluice::format
