#pragma once
// A release says more about its tokens than the tokenizer's own file: tokens that a fine-tune has added
// behind the pieces of a tokenizer.model (added_tokens.json, tokenizer_config.json), and the ids that end a
// text (config.json, generation_config.json, tokenizer_config.json; a GGUF's keys). A container keeps it as a
// section of JSON, and only if it says something that the tokenizer does not.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "format/json.h"
#include "format/sentencepiece_model.h"

namespace sluice::format {

/// The section of a container.
constexpr std::string_view kTokenFactsSection = "tokens.json";

struct AddedToken {
  std::int32_t id = 0;
  std::string text;
  bool control = true;  ///< never shown, and never made of a user's text

  bool operator==(const AddedToken&) const = default;
};

struct TokenFacts {
  std::vector<AddedToken> added;      ///< by id
  std::vector<std::int32_t> end_ids;  ///< the first closes an answer in a chat; empty: the tokenizer's EOS

  [[nodiscard]] bool empty() const { return added.empty() && end_ids.empty(); }
  bool operator==(const TokenFacts&) const = default;
};

/// Reads the files of a release folder next to its tokenizer.model. Ids are below `vocabulary`.
/// Error{malformed} naming the file and the key for ids that are none, or texts that two ids have.
[[nodiscard]] TokenFacts read_token_facts(const std::filesystem::path& folder,
                                          const SentencePieceModel& tokenizer, std::uint64_t vocabulary);

/// Reads the facts for a tokenizer.json or tekken.json, which lists its added tokens itself: the end ids of
/// generation_config.json and config.json. The tokenizer knows its own EOS (text::TokenizerBundle::config).
[[nodiscard]] TokenFacts read_end_ids(const std::filesystem::path& folder, std::uint64_t vocabulary);

/// Canonical text, and back. Error{malformed} for anything that to_text() does not write, or for ids that are
/// not below `vocabulary`.
[[nodiscard]] std::string to_text(const TokenFacts& facts);
[[nodiscard]] TokenFacts parse_token_facts(std::string_view text, std::uint64_t vocabulary,
                                           std::string_view subject);

}  // namespace sluice::format
