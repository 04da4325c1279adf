#pragma once
// The tokenizer of a release folder: which file it is, under the names by which tokenizers are published.

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace sluice::format {

enum class TokenizerKind : std::uint8_t {
  sentencepiece,  ///< tokenizer.model
  hugging_face,   ///< tokenizer.json
  tekken,         ///< tekken.json
};

inline constexpr std::array kTokenizerKinds = {TokenizerKind::sentencepiece, TokenizerKind::hugging_face,
                                               TokenizerKind::tekken};

/// "tokenizer.model", "tokenizer.json" or "tekken.json": the file in which releases publish it.
[[nodiscard]] std::string_view file_name(TokenizerKind kind);

struct TokenizerFile {
  TokenizerKind kind = TokenizerKind::sentencepiece;
  std::filesystem::path path;
};

/// The tokenizer of a release that has one, or the one of several that the model's authors made first:
/// tokenizer.model before tokenizer.json, which is a translation of it, and in a release with Mistral's
/// `native` names tekken.json before both. tokenizer.model may also be the only one of tokenizer.model.v1,
/// tokenizer.model.v3, tokenizer.model.v7 ... that is there (mistral-common's names). Error{malformed} naming
/// what is missing, or several versions.
[[nodiscard]] TokenizerFile find_tokenizer(const std::filesystem::path& folder, bool native);

/// The content of the file; Error{malformed} when it is larger than 64 MiB, or refuse_other_files() refuses
/// it.
[[nodiscard]] std::vector<std::byte> read_tokenizer_file(const TokenizerFile& file);

/// Error{malformed} naming `subject`, what was expected and what was found, for bytes that people have in the
/// place of a tokenizer: nothing, zeros of an unfinished download, a web page, a Git LFS pointer, JSON where
/// a SentencePiece model is expected, and the reverse.
void refuse_other_files(base::Bytes bytes, TokenizerKind kind, std::string_view subject);

}  // namespace sluice::format
