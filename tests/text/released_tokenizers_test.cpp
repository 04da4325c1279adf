// Golden ids of released tokenizers (tests/data/tokenizers).

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "format/json.h"
#include "text/text.h"

using namespace sluice;
using format::Json;
using text::TokenId;

namespace {

std::vector<TokenId> ids_of(const Json& list) {
  std::vector<TokenId> ids;
  for (const Json& id : list.as_array("ids")) ids.push_back(static_cast<TokenId>(id.as_int("id")));
  return ids;
}

/// As a library that shows special tokens decodes.
std::string shown(const text::Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  std::string out;
  for (const TokenId id : ids) out += tokenizer.piece_bytes(id) + tokenizer.control_text(id);
  return out;
}

}  // namespace

TEST_CASE("released tokenizers give the golden ids, with special tokens recognised and as text") {
  for (const std::string name : {"qwen3", "gptoss", "deepseek_v3"}) {
    CAPTURE(name);
    const std::string folder = std::string(SLUICE_TEST_DATA) + "/tokenizers/" + name;
    const auto bytes = base::read_file(folder + "/tokenizer.json");
    const auto tokenizer = text::make_tokenizer(
        {.kind = text::TokenizerKind::hugging_face, .model = bytes, .end_ids = {0}}, folder);
    const auto cases_bytes = base::read_file(folder + "/cases.json");
    const Json cases = format::parse_json(base::as_text(cases_bytes), "cases");
    CHECK(cases.as_array("cases").size() == 360);
    for (const Json& item : cases.as_array("cases")) {
      const std::string& text = item.at("text", "case").as_string("text");
      CAPTURE(text);
      const auto ids = ids_of(item.at("ids", "case"));
      const Json* plain = item.find("plain_ids");
      const Json* decoded = item.find("decoded");
      CHECK(tokenizer->encode(text, std::vector<text::TextRange>{{0, text.size()}}) == ids);
      const auto plain_ids = tokenizer->encode(text);
      CHECK(plain_ids == (plain == nullptr ? ids : ids_of(*plain)));
      const std::string expected = decoded == nullptr ? text : decoded->as_string("decoded");
      CHECK(shown(*tokenizer, ids) == expected);
      CHECK(shown(*tokenizer, plain_ids) == expected);
    }
  }
}
