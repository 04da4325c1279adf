#pragma once
// Texts of config.json for the families of transformers: those of published models, and small ones of the
// same keys for tests that change one of them.

#include <string>
#include <string_view>
#include <vector>

namespace sluice::tests {

struct PublishedConfig {
  std::string model;
  double billion_weights;  ///< as published, or the sum of the published shapes
  bool by_hand;            ///< families() has its description
  std::string text;
};

[[nodiscard]] std::vector<PublishedConfig> published_configs();

/// "qwen3_moe", "qwen2_moe", "olmoe", "granitemoe", "glm4_moe", "minimax_m2", "qwen3_next",
/// "qwen3_5_moe_text", "gemma4_text", "lfm2_moe", "gpt_oss".
[[nodiscard]] std::vector<const char*> small_families();
/// Those of them that are read from GGUF files, too.
[[nodiscard]] std::vector<const char*> small_gguf_families();

/// Families with latent attention: "deepseek_v2", "deepseek_v3", "glm4_moe_lite".
[[nodiscard]] std::vector<const char*> latent_families();

/// The config.json of a small model of six layers; `family` is its model_type. "mistral": the params.json of
/// a small Mistral Small 4.
[[nodiscard]] std::string small_config(std::string_view family);

/// The config.json of a model that reads images, too, with `text`, which is one of Qwen3.5 or Gemma-4, as its
/// text part.
[[nodiscard]] std::string whole_config(const std::string& text);

/// `text` with one member set to the JSON `value`, or removed when it is empty.
[[nodiscard]] std::string changed_text(const std::string& text, std::string_view key, std::string_view value);
[[nodiscard]] std::string changed_config(std::string_view family, std::string_view key,
                                         std::string_view value);

}  // namespace sluice::tests
