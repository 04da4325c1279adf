#pragma once
// The tokenizer that the readers of tokenizer.json and tekken.json fill in.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/text.h"

namespace sluice::text {

/// The parts of a tokenizer. The bytes of each id are those of `model.pieces`, and none for controls.
struct BpeTokenizerParts {
  BpeModel model;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::pair<std::string, std::string>
      shown_as;  ///< piece_bytes() shows .first, unless it is empty, as .second
  std::vector<AddedTokenRule> added;
  std::map<std::string, TokenId, std::less<>> controls;  ///< by spelling
  std::optional<TokenId> bos;
  std::vector<TokenId> end_ids;  ///< the first closes an answer; not empty, none of them negative
  std::optional<MistralChat> mistral_chat = {};
};

[[nodiscard]] std::unique_ptr<Tokenizer> make_bpe_tokenizer(BpeTokenizerParts parts);

/// Adds the tokens whose ids `parts` does not know yet; encode() never gives them. Error{malformed} naming
/// `subject` for ids out of range.
void add_fine_tuned_tokens(BpeTokenizerParts& parts, const std::vector<AddedToken>& added,
                           std::string_view subject);

/// `first` and then what it lacks of the others; Error{malformed} naming `subject` for negative ids and where
/// there is none at all.
[[nodiscard]] std::vector<TokenId> joined_end_ids(std::vector<TokenId> first, std::optional<TokenId> other,
                                                  std::string_view subject);

}  // namespace sluice::text
