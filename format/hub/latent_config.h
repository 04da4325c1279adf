#pragma once
// The readers of families with multi-head latent attention: DeepSeek-V2 and V3, Kimi K2, GLM-4.7-Flash. Each
// is the `read` of a HubFamily (family_config.h).

#include "format/hub/family_config.h"

namespace sluice::format {

/// DeepSeek-V2, V2-Lite and V2.5. arXiv 2405.04434.
[[nodiscard]] ModelConfig read_deepseek_v2(ConfigReader& config);
/// DeepSeek-V3, R1 and V3.1, Kimi K2, Moonlight. arXiv 2412.19437.
[[nodiscard]] ModelConfig read_deepseek_v3(ConfigReader& config);
/// GLM-4.7-Flash.
[[nodiscard]] ModelConfig read_glm4_moe_lite(ConfigReader& config);

}  // namespace sluice::format
