#pragma once
// The tokenizer of a release folder: a SentencePiece model, under one of the names by which it is published.

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace sluice::format {

/// tokenizer.model, else the only one of tokenizer.model.v1, tokenizer.model.v3, tokenizer.model.v7 ... that
/// is there (mistral-common's names). Error{malformed} naming what is there instead, or several.
[[nodiscard]] std::filesystem::path find_tokenizer(const std::filesystem::path& folder);

/// Error{malformed} naming `subject`, what was expected and what was found, for bytes that people have in the
/// place of a tokenizer: nothing, zeros of an unfinished download, a web page, a Git LFS pointer, JSON.
void refuse_other_files(base::Bytes bytes, std::string_view subject);

}  // namespace sluice::format
