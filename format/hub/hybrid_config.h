#pragma once
// The readers of families whose layers differ in how tokens read one another: gated delta nets or short
// convolutions between layers of attention (Qwen3-Next, Qwen3.5, LFM2), and heads of two widths (Gemma-4).
// Each is the `read` of a HubFamily (family_config.h).

#include "format/hub/family_config.h"

namespace sluice::format {

/// Qwen3-Next-80B-A3B, Qwen3-Coder-Next.
[[nodiscard]] ModelConfig read_qwen3_next(ConfigReader& config);
/// Qwen3.5 and Qwen3.6: 35B-A3B, 122B-A10B, 397B-A17B.
[[nodiscard]] ModelConfig read_qwen3_5_moe(ConfigReader& config);
/// Gemma-4-26B-A4B, and the dense models of the family that have neither embeddings for each layer nor layers
/// that share keys.
[[nodiscard]] ModelConfig read_gemma4(ConfigReader& config);
/// LFM2-8B-A1B.
[[nodiscard]] ModelConfig read_lfm2_moe(ConfigReader& config);

}  // namespace sluice::format
