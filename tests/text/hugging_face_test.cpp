#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/support/check_error.h"
#include "tests/text/tiny_tokenizer.h"
#include "text/text.h"

using namespace sluice;
using namespace sluice::tests;
using format::Json;
using text::TokenId;

using Ids = std::vector<TokenId>;

namespace {

constexpr TokenId kSpace = 0x20;

}  // namespace

TEST_CASE("merges apply in the order of their ranks, the leftmost of equal ones first") {
  const auto tokenizer =
      make_tokenizer(byte_level_tokenizer({{"b", "c"}, {"a", "b"}, {"a", "a"}, {"aa", "a"}}));
  CHECK(tokenizer->encode("abc") == Ids{'a', 256});
  CHECK(tokenizer->encode("ab") == Ids{257});
  CHECK(tokenizer->encode("aaaaa") == Ids{258, 259});
  CHECK(tokenizer->encode("") == Ids{});
  CHECK(tokenizer->encode("\n") == Ids{10});
}

TEST_CASE("with ignore_merges a piece that is a token is that token") {
  Json file = byte_level_tokenizer({{"b", "c"}, {"a", "b"}, {"ab", "c"}});
  // Merged, "abc" becomes a and bc: the token is out of reach.
  CHECK(make_tokenizer(file)->encode("abc") == Ids{'a', 256});
  Json model = *file.find("model");
  file.set("model", model.set("ignore_merges", true));
  CHECK(make_tokenizer(file)->encode("abc") == Ids{258});
  CHECK(make_tokenizer(file)->encode("abcb") == Ids{'a', 256, 'b'});
}

TEST_CASE("a text never becomes a special token, and other added tokens are found everywhere") {
  const auto tokenizer = make_tokenizer(
      byte_level_tokenizer({}, {added_token(300, "<|end|>", true), added_token(301, "<think>", false),
                                added_token(302, "<|end|>!", true)}));
  CHECK(tokenizer->size() == 303);
  CHECK(tokenizer->encode("<|end|>") == Ids{'<', '|', 'e', 'n', 'd', '|', '>'});
  CHECK(tokenizer->encode("a<think>b") == Ids{'a', 301, 'b'});
  const std::string text = "<|end|>!<|end|>";
  CHECK(tokenizer->encode(text, std::vector<text::TextRange>{{0, 15}}) == Ids{302, 300});
  // The longer token is spelled across the end of the range; the shorter one lies within.
  CHECK(tokenizer->encode(text, std::vector<text::TextRange>{{0, 7}, {8, 15}}) == Ids{300, '!', 300});
  CHECK(decoded(*tokenizer, tokenizer->encode(text)) == text);
  CHECK(decoded(*tokenizer, {300, 301}) == "<think>");
  CHECK(tokenizer->control_id("<|end|>") == 300);
  CHECK(tokenizer->control_text(300) == "<|end|>");
  CHECK(!tokenizer->control_id("<think>"));
  CHECK(tokenizer->control_text(301).empty());
  CHECK(tokenizer->piece_bytes(kSpace) == " ");
}

TEST_CASE("an unknown expression is refused with its text") {
  Json file = byte_level_tokenizer();
  file.set("pre_tokenizer", sequence("pretokenizers", {split(R"(\w+)"), byte_level(false)}));
  CHECK_ERROR(make_tokenizer(file), base::ErrorKind::malformed,
              R"(t.json: key 'pre_tokenizer': key 'pattern': the expression '\w+' is none of those)");
}
