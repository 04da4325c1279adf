// A tokenizer.json from strangers, and behind a NUL byte a tokenizer_config.json: a file that is accepted
// encodes any text to ids of its vocabulary, and no control piece comes out of text that is not trusted.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"
#include "base/invariant.h"
#include "text/text.h"

using namespace sluice;

namespace {

void check_ids(const text::Tokenizer& tokenizer, const std::vector<text::TokenId>& ids, bool is_trusted) {
  text::TextStream stream(tokenizer);
  std::string shown;
  for (const text::TokenId id : ids) {
    INVARIANT(id >= 0 && static_cast<std::size_t>(id) < tokenizer.size());
    INVARIANT(is_trusted || tokenizer.control_text(id).empty());
    shown += stream.add(id);
  }
  shown += stream.finish();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::string_view file = input.substr(0, input.find('\0'));
  const std::string_view config = input.substr(std::min(size, file.size() + 1));
  try {
    const auto tokenizer = text::make_tokenizer({.kind = text::TokenizerKind::hugging_face,
                                                 .model = base::as_bytes(file),
                                                 .config = config,
                                                 .end_ids = {0}},
                                                "fuzz");
    for (const std::string_view text : {std::string_view("ab  c\n12 \xFF é e\u0301 中 <s></s>"), input}) {
      check_ids(*tokenizer, tokenizer->encode(text), false);
      check_ids(*tokenizer, tokenizer->encode(text, std::vector<text::TextRange>{{0, text.size() / 2}}),
                true);
      check_ids(*tokenizer, tokenizer->encode_prompt(text.substr(text.size() / 2)), true);
    }
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
  return 0;
}
