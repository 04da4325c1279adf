#pragma once
// The model families whose config.json Sluice reads, as one table: what each calls itself, and the function
// that makes a ModelDescription of its keys. The list of supported architectures (architecture.h) is this
// table, so a family is added by a line and a function in family_config.cpp.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/hub/config_reader.h"
#include "format/model_description.h"

namespace sluice::format {

/// The content of a configuration, in any dialect.
struct ModelConfig {
  ModelDescription description;
  /// Layers behind the last one of the description, which predict further tokens and take no part in the
  /// computation: the files may have tensors of them.
  std::uint64_t prediction_layers = 0;
  std::vector<std::string> skipped_keys;  ///< not known, and without effect on the result
};

/// A family of transformers.
struct HubFamily {
  std::string_view model_type;
  std::string_view architecture;  ///< the class that transformers makes
  /// Reads the keys of the family; nullptr for Mistral's, which mistral_params.h reads. It neither judges the
  /// keys that it does not know nor validates the description: parse_model_config() does.
  ModelConfig (*read)(ConfigReader& config) = nullptr;
};

[[nodiscard]] std::span<const HubFamily> hub_families();

/// Reads the text of a config.json of any family, or of Mistral's params.json. Error{malformed} naming
/// `subject` and the key for everything that is missing, contradictory, out of bounds, or cannot be
/// described; an architecture that is not supported comes first.
[[nodiscard]] ModelConfig parse_model_config(std::string_view text, std::string_view subject);

}  // namespace sluice::format
