// Mistral's instruction format, as its own tokenizers make it (mistral-common): the user's text between
// [INST] and [/INST], a system text before it with an empty line between them.

#include <algorithm>
#include <string>

#include "text/text.h"

namespace sluice::text {

std::vector<TokenId> chat_prompt(const Tokenizer& tokenizer, std::string_view system, std::string_view user) {
  std::string text = system.empty() ? std::string() : std::string(system) + "\n\n";
  text += user;
  std::vector<TokenId> ids{tokenizer.bos()};
  const auto add = [&](const std::vector<TokenId>& more) { ids.insert(ids.end(), more.begin(), more.end()); };

  const auto begin = tokenizer.control_id("[INST]");
  const auto end = tokenizer.control_id("[/INST]");
  if (begin && end) {  // tokenizers from version 2 on: pieces of their own around the text
    ids.push_back(*begin);
    add(tokenizer.encode(text));
    ids.push_back(*end);
  } else {  // version 1, that of Mixtral 8x7B: all of it is text, tokenized as one
    add(tokenizer.encode("[INST] " + text + " [/INST]"));
  }
  return ids;
}

}  // namespace sluice::text
