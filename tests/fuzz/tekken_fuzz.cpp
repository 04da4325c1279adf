// A tekken.json from strangers: a file that is accepted encodes any text to ids of its vocabulary, the pieces
// of which are the text, and no control piece comes out of text that is not trusted.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"
#include "base/invariant.h"
#include "text/text.h"

using namespace sluice;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const base::Bytes file = std::as_bytes(std::span(data, size));
  try {
    const auto tokenizer = text::make_tokenizer({.kind = text::TokenizerKind::tekken, .model = file}, "fuzz");
    for (const std::string_view text :
         {std::string_view("ab  c\n12 \xFF é 中 <s>[INST]"), base::as_text(file)}) {
      std::string pieces;
      for (const text::TokenId id : tokenizer->encode(text)) {
        INVARIANT(tokenizer->control_text(id).empty());
        pieces += tokenizer->piece_bytes(id);
      }
      INVARIANT(pieces == text);
      for (const text::TokenId id : tokenizer->encode(text, std::vector<text::TextRange>{{0, text.size()}}))
        INVARIANT(id >= 0 && static_cast<std::size_t>(id) < tokenizer->size());
    }
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
  return 0;
}
