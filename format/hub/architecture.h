#pragma once
// The architecture that a configuration names, compared with those that Sluice reads. It is checked before
// any other key, because every key means something else in another architecture.

#include <filesystem>
#include <string>
#include <string_view>

#include "format/hub/family_config.h"
#include "format/json.h"

namespace sluice::format {

/// "MixtralForCausalLM (model_type mixtral), MistralForCausalLM (model_type mistral), ...": the table of
/// family_config.h.
[[nodiscard]] std::string supported_architectures();

/// The family that "model_type" or "architectures" names; nullptr where a file names none, or names
/// mistral-inference's. Error{malformed} naming `subject` when the two keys name different families.
[[nodiscard]] const HubFamily* find_family(const Json& config, std::string_view subject);

/// Error{malformed} naming `subject`, the architecture of a config.json or params.json and the supported
/// ones. A configuration that names none passes.
void require_supported_architecture(const Json& config, std::string_view subject);

/// The same for the config.json of a release folder, where no params.json takes precedence over it. Does
/// nothing when there is none, or when it cannot be read: its reader says what is wrong.
void require_supported_architecture(const std::filesystem::path& folder);

}  // namespace sluice::format
