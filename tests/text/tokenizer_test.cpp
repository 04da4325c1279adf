#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "tests/support/check_error.h"
#include "tests/text/mistral_tokenizer.h"
#include "text/text.h"

using namespace sluice;
using namespace sluice::text;
using base::ErrorKind;

namespace {

const std::string kDemoModel = std::string(SLUICE_DEMO_RELEASE) + "/tokenizer.model";

std::unique_ptr<Tokenizer> demo_tokenizer(std::vector<TokenId> end_ids = {}) {
  const auto bytes = base::read_file(kDemoModel);
  return make_tokenizer({.model = bytes, .end_ids = std::move(end_ids)}, kDemoModel);
}

std::string joined(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  std::string text;
  for (const TokenId id : ids) text += tokenizer.piece_bytes(id);
  return text;
}

}  // namespace

TEST_CASE("the bytes of a text's pieces are the text, after the space that the tokenizer puts in front") {
  const auto tokenizer = demo_tokenizer();
  for (const std::string text :
       {"Once upon a time", "  two  spaces ", "é – 中文 😀", "line\nline\t", "<s> [INST]"})
    CHECK(joined(*tokenizer, tokenizer->encode(text)) == " " + text);
  CHECK(tokenizer->encode("").empty());
}

TEST_CASE("control pieces have ids by name, end a text, and have no bytes") {
  const auto tokenizer = demo_tokenizer();
  CHECK(tokenizer->size() == 2048);
  CHECK(tokenizer->bos() == 1);
  CHECK(tokenizer->eos() == 2);
  CHECK(tokenizer->control_id("</s>") == 2);
  CHECK(!tokenizer->control_id("[INST]"));
  CHECK(!tokenizer->control_id("<unk>"));
  CHECK(!tokenizer->control_id("▁the"));
  CHECK(tokenizer->is_end(2));
  CHECK(!tokenizer->is_end(1));
  CHECK(tokenizer->piece_bytes(1).empty());
  CHECK(tokenizer->piece_bytes(-1).empty());
  CHECK(tokenizer->piece_bytes(2048).empty());
  CHECK(make_mistral_tokenizer(tests::MistralVersion::v3)->control_id("[/INST]") == 4);
}

TEST_CASE("a prompt begins with BOS") {
  const auto tokenizer = demo_tokenizer();
  std::vector<TokenId> expected = tokenizer->encode("a prompt");
  expected.insert(expected.begin(), 1);
  CHECK(tokenizer->encode_prompt("a prompt") == expected);
  CHECK(tokenizer->encode_prompt("") == std::vector<TokenId>{1});
}

TEST_CASE("a release can name further ids that end a text") {
  const auto tokenizer = demo_tokenizer({2047, 2, 300});
  CHECK(tokenizer->eos() == 2047);  // the first closes an answer
  CHECK(std::ranges::equal(tokenizer->end_ids(), std::vector<TokenId>{2047, 2, 300}));
  CHECK(std::ranges::equal(demo_tokenizer({300})->end_ids(), std::vector<TokenId>{300, 2}));
  CHECK(tokenizer->is_end(300));
  CHECK(!tokenizer->is_end(301));
  // A row of the embedding may end a text without being a piece.
  CHECK(demo_tokenizer({2048})->is_end(2048));
  CHECK_ERROR(demo_tokenizer({-1}), ErrorKind::malformed, "has a negative end id");
}

TEST_CASE("tokens that a fine-tune has added are decoded and found, and never made of a user's text") {
  const auto bytes = base::read_file(std::string(SLUICE_DEMO_RELEASE) + "/tokenizer.model");
  const auto tokenizer = make_tokenizer(
      {.model = bytes, .end_ids = {2049}, .added = {{2048, "<tool>", false}, {2049, "<|im_end|>", true}}},
      "t");
  CHECK(tokenizer->size() == 2050);
  CHECK(tokenizer->eos() == 2049);
  CHECK(tokenizer->piece_bytes(2048) == "<tool>");
  CHECK(tokenizer->piece_bytes(2049).empty());
  CHECK(tokenizer->control_id("<|im_end|>") == 2049);
  CHECK(!tokenizer->control_id("<tool>"));
  for (const TokenId id : tokenizer->encode("<tool><|im_end|>")) CHECK(id < 2048);
}

TEST_CASE("bytes that are no SentencePiece model are refused, naming the file") {
  for (const std::string_view text : {"", "{}", "\x0A\xFF\xFF\xFF\xFF\x0F"}) {
    CHECK_ERROR(make_tokenizer({.model = base::as_bytes(text)}, "some file"), ErrorKind::malformed,
                "some file: is no SentencePiece model");
  }
}
