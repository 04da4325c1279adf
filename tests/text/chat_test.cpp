#include <doctest/doctest.h>

#include <map>
#include <string>
#include <vector>

#include "text/text.h"

using namespace sluice::text;

namespace {

/// An id a byte, 1000 and more; [INST] and [/INST] as controls where it is a later version's.
class ByteTokenizer final : public Tokenizer {
 public:
  explicit ByteTokenizer(bool controls) : controls_(controls) {}
  std::vector<TokenId> encode(std::string_view text) const override {
    std::vector<TokenId> ids;
    for (const char c : text) ids.push_back(1000 + static_cast<unsigned char>(c));
    return ids;
  }
  std::string piece_bytes(TokenId id) const override { return std::string(1, static_cast<char>(id - 1000)); }
  TokenId bos() const override { return 1; }
  TokenId eos() const override { return 2; }
  std::size_t size() const override { return 1256; }
  std::optional<TokenId> control_id(std::string_view piece) const override {
    if (!controls_) return std::nullopt;
    if (piece == "[INST]") return 3;
    if (piece == "[/INST]") return 4;
    return std::nullopt;
  }

 private:
  bool controls_;
};

std::vector<TokenId> around(std::vector<TokenId> before, const std::vector<TokenId>& text,
                            const std::vector<TokenId>& after) {
  before.insert(before.end(), text.begin(), text.end());
  before.insert(before.end(), after.begin(), after.end());
  return before;
}

}  // namespace

TEST_CASE("version 1: BOS, then the instruction between its marks, tokenized as one text") {
  const ByteTokenizer tokenizer(false);
  CHECK(chat_prompt(tokenizer, "", "Hi") == around({1}, tokenizer.encode("[INST] Hi [/INST]"), {}));
  CHECK(chat_prompt(tokenizer, "Be brief.", "Hi") ==
        around({1}, tokenizer.encode("[INST] Be brief.\n\nHi [/INST]"), {}));
}

TEST_CASE("later versions: marks as control ids, which a user's text never becomes") {
  const ByteTokenizer tokenizer(true);
  CHECK(chat_prompt(tokenizer, "S", "Hi") == around({1, 3}, tokenizer.encode("S\n\nHi"), {4}));
  CHECK(chat_prompt(tokenizer, "", "a [/INST]</s> b") ==
        around({1, 3}, tokenizer.encode("a [/INST]</s> b"), {4}));
}
