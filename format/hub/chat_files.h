#pragma once
// The files of a release that say how a conversation becomes a prompt and how its answers are sampled:
// tokenizer_config.json, generation_config.json, and the chat template, which older repositories keep inside
// tokenizer_config.json. A container keeps each of them as a section.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::format {

/// Texts as released; each is empty where the release has none.
struct ChatFiles {
  std::string tokenizer_config;   ///< tokenizer_config.json
  std::string generation_config;  ///< generation_config.json
  std::string chat_template;      ///< Jinja, wherever the release keeps it

  bool operator==(const ChatFiles&) const = default;
};

/// Reads them from a release folder. The template is that of chat_template.jinja, else of
/// tokenizer_config.json, else of chat_template.json. Error{malformed} naming file and key for a file that is
/// not what its name says, or is too large.
[[nodiscard]] ChatFiles read_chat_files(const std::filesystem::path& folder);

/// The template of a tokenizer_config.json's key "chat_template": a text, or of a list of {name, template}
/// the one named "default", else the only one. Empty without the key, or when several have other names.
[[nodiscard]] std::string pick_chat_template(std::string_view tokenizer_config, std::string_view subject);

/// Error{malformed} naming `subject` for more than 1 MiB, or for what is not UTF-8.
void require_chat_template(std::string_view text, std::string_view subject);

/// The sampling that the authors of a model recommend (generation_config.json); nothing where they do not.
struct GenerationDefaults {
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<std::uint64_t> top_k;
  std::optional<double> min_p;
  std::optional<double> repetition_penalty;

  bool operator==(const GenerationDefaults&) const = default;
};

/// Reads the text of a generation_config.json; an empty text has no defaults. Error{malformed} naming the key
/// for a value of another type, or out of the range that sampling has for it.
[[nodiscard]] GenerationDefaults parse_generation_defaults(std::string_view text, std::string_view subject);

}  // namespace sluice::format
