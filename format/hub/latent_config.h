#pragma once
// The readers of families with multi-head latent attention: DeepSeek-V2 and V3, Kimi K2, GLM-4.7-Flash,
// Mistral Small 4. Each is the `read` of a HubFamily (family_config.h).

#include "format/hub/family_config.h"

namespace sluice::format {

/// DeepSeek-V2, V2-Lite and V2.5. arXiv 2405.04434.
[[nodiscard]] ModelConfig read_deepseek_v2(ConfigReader& config);
/// DeepSeek-V3, R1 and V3.1, Kimi K2, Moonlight. arXiv 2412.19437.
[[nodiscard]] ModelConfig read_deepseek_v3(ConfigReader& config);
/// GLM-4.7-Flash.
[[nodiscard]] ModelConfig read_glm4_moe_lite(ConfigReader& config);
/// Mistral Small 4 and Leanstral in the layout of transformers.
[[nodiscard]] ModelConfig read_mistral4(ConfigReader& config);

/// Whether a params.json of Mistral's describes latent attention, so that read_mistral_latent() reads it.
[[nodiscard]] bool has_mistral_latent(const Json& params);
/// Mistral Small 4, Leanstral-119B-A6B and Mistral Large 3 in Mistral's own layout: params.json.
[[nodiscard]] ModelConfig read_mistral_latent(ConfigReader& config);

}  // namespace sluice::format
