// Tokenizers from strangers, as the runtime uses them: a model that is accepted encodes any text to ids of its
// vocabulary, every id has bytes, and the ids make a text.

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "base/invariant.h"
#include "text/text.h"

using namespace sluice;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto tokenizer = text::make_tokenizer({.model = std::as_bytes(std::span(data, size))}, "fuzz");
    const text::ChatFormat format(*tokenizer);
    const std::vector<text::Message> conversation = {{text::Role::user, "ab \n\xFF é 中"},
                                                     {text::Role::assistant, "<s>"}};
    text::TextStream stream(*tokenizer);
    std::string text;
    for (const text::TokenId id : format.encode(conversation)) {
      INVARIANT(id >= 0 && static_cast<std::size_t>(id) < tokenizer->size());
      text += stream.add(id);
    }
    for (std::size_t id = 0; id < tokenizer->size(); ++id) text += stream.add(static_cast<text::TokenId>(id));
    text += stream.finish();
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
  return 0;
}
