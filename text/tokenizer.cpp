#include <algorithm>

#include "base/invariant.h"
#include "format/hub/sections.h"
#include "text/hugging_face.h"
#include "text/sentencepiece.h"
#include "text/tekken.h"
#include "text/text.h"

namespace sluice::text {

bool Tokenizer::is_end(TokenId id) const { return std::ranges::find(end_ids(), id) != end_ids().end(); }

std::vector<TokenId> Tokenizer::encode_prompt(std::string_view text) const {
  std::vector<TokenId> ids = encode(text);
  if (const auto first = bos()) ids.insert(ids.begin(), *first);
  return ids;
}

std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerBundle& bundle, std::string_view subject) {
  switch (bundle.kind) {
    case TokenizerKind::sentencepiece: return make_sentencepiece_tokenizer(bundle, subject);
    case TokenizerKind::hugging_face: return make_hugging_face_tokenizer(bundle, subject);
    case TokenizerKind::tekken: return make_tekken_tokenizer(bundle, subject);
  }
  INVARIANT(!"a TokenizerKind without a tokenizer");
}

std::unique_ptr<Tokenizer> open_tokenizer(const format::TokenizerParts& parts, std::string_view subject) {
  TokenizerBundle bundle{
      .kind = parts.kind, .model = parts.model, .config = parts.config, .end_ids = parts.facts.end_ids};
  for (const auto& token : parts.facts.added) bundle.added.push_back({token.id, token.text, token.control});
  return make_tokenizer(bundle, subject);
}

}  // namespace sluice::text
