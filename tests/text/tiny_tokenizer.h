#pragma once
// Small tokenizers in the released file formats.

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "format/json.h"
#include "text/text.h"

namespace sluice::tests {

constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// {"type": "Split", ..} with the behavior Isolated.
[[nodiscard]] format::Json split(std::string_view expression);
/// {"type": "ByteLevel", ..}
[[nodiscard]] format::Json byte_level(bool use_regex, bool add_prefix_space = false);
[[nodiscard]] format::Json sequence(std::string_view list_key, format::Json::Array parts);
[[nodiscard]] format::Json added_token(int id, std::string_view text, bool special, bool normalized = false);

/// A byte-level tokenizer.json: the ids 0 to 255 are the bytes, from 256 on the products of `merges`, pairs
/// of letters as the file spells them; then the added tokens. The pre-tokenizer is ByteLevel with its
/// expression.
[[nodiscard]] format::Json byte_level_tokenizer(
    const std::vector<std::pair<std::string, std::string>>& merges = {}, format::Json::Array added = {});

/// The tokenizer of such a file, whose texts end with id 0.
[[nodiscard]] std::unique_ptr<text::Tokenizer> make_tokenizer(const format::Json& file,
                                                              std::string_view config = {});

/// The bytes of the ids, control pieces left out.
[[nodiscard]] std::string decoded(const text::Tokenizer& tokenizer, const std::vector<text::TokenId>& ids);

}  // namespace sluice::tests
