#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "base/base64.h"
#include "base/bytes.h"
#include "format/json.h"
#include "tests/support/check_error.h"
#include "tests/text/tiny_tokenizer.h"
#include "text/text.h"

using namespace sluice;
using namespace sluice::tests;
using format::Json;
using text::TokenId;

using Ids = std::vector<TokenId>;

namespace {

constexpr std::string_view kTekkenPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Json special(int rank, std::string_view text, bool is_control = true) {
  return Json::object({{"rank", rank}, {"token_str", text}, {"is_control", is_control}});
}

/// A file of 5 special tokens, the bytes, and `words` from id 261 on.
Json tekken(const std::vector<std::string>& words) {
  Json vocabulary = Json::array();
  const auto add = [&](const std::string& bytes) {
    vocabulary.push_back(Json::object({{"rank", vocabulary.as_array("").size()},
                                       {"token_bytes", base::to_base64(base::as_bytes(bytes))},
                                       {"token_str", Json()}}));
  };
  for (int byte = 0; byte < 256; ++byte) add(std::string(1, static_cast<char>(byte)));
  for (const std::string& word : words) add(word);
  return Json::object(
      {{"config", Json::object({{"pattern", kTekkenPattern},
                                {"num_vocab_tokens", 256 + words.size()},
                                {"default_vocab_size", 261 + words.size()},
                                {"default_num_special_tokens", 5},
                                {"version", "v13"}})},
       {"vocab", vocabulary},
       {"special_tokens", Json::array({special(0, "<unk>"), special(1, "<s>"), special(2, "</s>"),
                                       special(3, "[THINK]", false), special(4, "[INST]")})}});
}

std::unique_ptr<text::Tokenizer> make(const Json& file) {
  const std::string text = file.dump();
  return text::make_tokenizer({.kind = text::TokenizerKind::tekken, .model = base::as_bytes(text)},
                              "tekken.json");
}

Json with(Json file, std::string_view key, Json value) {
  return file.set(std::string(key), std::move(value));
}

Json with_config(Json file, std::string_view key, Json value) {
  Json config = *file.find("config");
  return file.set("config", config.set(std::string(key), std::move(value)));
}

}  // namespace

TEST_CASE("tekken: of two neighbours the pair is merged whose bytes have the lowest rank") {
  const auto tokenizer = make(tekken({"bc", "ab", "abc", "d e"}));
  CHECK(tokenizer->size() == 265);
  // "abc" is a token as a whole; within "abcx" it is reached through a + bc.
  CHECK(tokenizer->encode("abc") == Ids{263});
  CHECK(tokenizer->encode("abcx") == Ids{263, 5 + 'x'});
  CHECK(tokenizer->encode("abx") == Ids{262, 5 + 'x'});
  CHECK(tokenizer->encode("12") == Ids{5 + '1', 5 + '2'});
  CHECK(tokenizer->piece_bytes(264) == "d e");
  CHECK(tokenizer->bos() == 1);
  CHECK(tokenizer->eos() == 2);
}

TEST_CASE("tekken: special tokens come out of trusted ranges alone, control tokens have no bytes") {
  const auto tokenizer = make(tekken({}));
  const std::string text = "[INST][THINK]";
  CHECK(tokenizer->encode(text).size() == text.size());
  CHECK(decoded(*tokenizer, tokenizer->encode(text)) == text);
  CHECK(tokenizer->encode(text, std::vector<text::TextRange>{{0, 13}}) == Ids{4, 3});
  CHECK(tokenizer->piece_bytes(4).empty());
  CHECK(tokenizer->control_id("[INST]") == 4);
  CHECK(tokenizer->control_text(4) == "[INST]");
  CHECK(tokenizer->piece_bytes(3) == "[THINK]");
  CHECK(!tokenizer->control_id("[THINK]"));
}

TEST_CASE("tekken: tokens above default_vocab_size do not exist, missing special tokens have names") {
  Json file = with_config(with_config(tekken({"ab", "cd"}), "default_vocab_size", 263),
                          "default_num_special_tokens", 6);
  const auto tokenizer = make(file);
  CHECK(tokenizer->size() == 263);
  CHECK(tokenizer->encode("ab") == Ids{262});
  CHECK(tokenizer->encode("cd").size() == 2);
  CHECK(tokenizer->control_id("<SPECIAL_5>") == 5);
}

TEST_CASE("tekken: a file of version 7 or before needs no list of special tokens") {
  Json file =
      with_config(with_config(tekken({}), "default_num_special_tokens", 1000), "default_vocab_size", 1256);
  file = with_config(with(file, "special_tokens", Json()), "version", "v3");
  const auto tokenizer = make(file);
  CHECK(tokenizer->encode("a") == Ids{1000 + 'a'});
  CHECK(tokenizer->bos() == 1);
  CHECK(tokenizer->control_id("[INST]") == 3);
  CHECK(tokenizer->control_id("[TOOL_CONTENT]") == 19);
  CHECK(tokenizer->control_id("<SPECIAL_999>") == 999);
  CHECK_ERROR(make(with_config(file, "version", "v11")), base::ErrorKind::malformed,
              "tekken.json: key 'special_tokens': is missing, which versions above v7 must have");
}

/// A file whose special tokens have the marks of conversations, and `words` from id 266 on.
Json chat_tekken(const char* version, const Json& settings) {
  Json specials = Json::array();
  for (const char* text : {"<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]",
                           "[MODEL_SETTINGS]", "[/MODEL_SETTINGS]", "<pad>"})
    specials.push_back(special(static_cast<int>(specials.as_array("").size()), text));
  Json file = with(tekken({R"({"reasoning_effort": )", "none", "high"}), "special_tokens", specials);
  file = with_config(with_config(file, "default_num_special_tokens", 10), "default_vocab_size", 269);
  if (settings.is_object()) file = with(file, "model_settings_builder", settings);
  return with_config(file, "version", version);
}

Ids joined(std::initializer_list<Ids> parts) {
  Ids all;
  for (const Ids& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

Json efforts(Json::Array values, Json otherwise) {
  return Json::object({{"reasoning_effort", Json::object({{"type", "enum"},
                                                          {"accepts_none", true},
                                                          {"values", Json(std::move(values))},
                                                          {"default", std::move(otherwise)}})}});
}

TEST_CASE("tekken: conversations of versions 7 to 15") {
  const std::vector<text::Message> turns = {{text::Role::system, "S"},
                                            {text::Role::user, "U"},
                                            {text::Role::assistant, "A  "},
                                            {text::Role::user, "V"}};
  const Ids tail = {3, 10 + 'U', 4, 10 + 'A', 2, 3, 10 + 'V', 4};
  const auto ids = [&](const Json& file, const Json& variables = Json::object()) {
    const auto tokenizer = make(file);
    const text::ChatFormat format(*tokenizer, {.tokenizer_kind = text::TokenizerKind::tekken});
    return format.prompt(turns, {.variables = variables}).ids;
  };
  const auto settings = [&](const Json& file, std::string_view effort) {
    const auto tokenizer = make(file);
    return joined({{7}, tokenizer->encode("{\"reasoning_effort\": \"" + std::string(effort) + "\"}"), {8}});
  };
  const Ids head = {1, 5, 10 + 'S', 6};
  for (const char* version : {"v7", "v11", "v13"})
    CHECK(ids(chat_tekken(version, Json())) == joined({head, tail}));
  const Json asked = Json::object({{"reasoning_effort", "high"}});
  const Json plain = chat_tekken("v15", Json());
  CHECK(ids(plain) == joined({head, settings(plain, "none"), tail}));
  CHECK(ids(plain, asked) == joined({head, settings(plain, "high"), tail}));
  const Json high = chat_tekken("v15", efforts({"none", "high"}, "high"));
  CHECK(ids(high) == joined({head, settings(high, "high"), tail}));
  const Json open = chat_tekken("v15", efforts({"none", "high"}, Json()));
  CHECK(ids(open) == joined({head, tail}));
  CHECK(ids(open, asked) == joined({head, settings(open, "high"), tail}));
  const Json none = chat_tekken("v15", Json::object({{"reasoning_effort", Json()}}));
  CHECK(ids(none) == joined({head, tail}));
  CHECK_ERROR(ids(none, asked), base::ErrorKind::usage,
              "conversation: the model has no reasoning_effort 'high'");
  CHECK_ERROR(ids(plain, Json::object({{"reasoning_effort", "low"}})), base::ErrorKind::usage,
              "conversation: the model has no reasoning_effort 'low', it knows none, high");
  CHECK_ERROR(ids(plain, Json::object({{"tools", Json::array()}})), base::ErrorKind::usage,
              "conversation: Mistral's chat formats have no variable 'tools' but reasoning_effort");
  CHECK_ERROR(ids(chat_tekken("v13", Json()), asked), base::ErrorKind::usage,
              "conversation: Mistral's chat formats have no variable 'reasoning_effort'");
  CHECK_ERROR(ids(chat_tekken("v14", Json())), base::ErrorKind::usage,
              "version 14 of Mistral's chat formats is not supported");
  const std::vector<std::pair<Json, std::string>> cases = {
      {Json::array(), "key 'model_settings_builder': expected an object"},
      {Json::object({{"reasoning_effort", Json::object()}}), "key 'values' is missing"},
      {efforts({"none"}, "high"), "key 'default': is 'high', which is none of 'values'"},
      {efforts({""}, Json()), "key 'values': has a name of 0 bytes"},
      {efforts(Json::Array(17, Json("x")), Json()), "key 'values': has 17 efforts, expected at most 16"},
      {efforts({7}, Json()), "expected a string"},
  };
  for (const auto& [builder, cause] : cases) {
    CAPTURE(cause);
    CHECK_ERROR(make(with(plain, "model_settings_builder", builder)), base::ErrorKind::malformed, cause);
  }
}

TEST_CASE("tekken: what is wrong with a file is named") {
  const Json good = tekken({"ab"});
  const auto vocabulary_with = [&](std::size_t rank, std::string_view key, Json value) {
    Json::Array items = good.find("vocab")->as_array("");
    items[rank].set(std::string(key), std::move(value));
    return with(good, "vocab", Json(std::move(items)));
  };
  const auto specials = [&](Json::Array items) {
    return with(good, "special_tokens", Json(std::move(items)));
  };
  const std::vector<std::pair<Json, std::string>> cases = {
      {with_config(good, "pattern", ".+"),
       "key 'config': key 'pattern': the expression '.+' is none of those"},
      {with_config(good, "version", "13"), "key 'version': expected a version such as 'v3', found '13'"},
      {with_config(good, "extra", 1), "key 'config': unknown key 'extra'"},
      {with_config(good, "default_vocab_size", 4194305), "from 1 to 4194304, found 4194305"},
      {with_config(good, "default_num_special_tokens", 263), "from 1 to 262, found 263"},
      {with_config(good, "default_vocab_size", 263),
       "has 257 tokens, fewer than the 258 of the sizes in config"},
      {with_config(good, "default_vocab_size", 260), "has no token for some bytes"},
      {with_config(good, "default_num_special_tokens", 4), "has 5 tokens, more than the 4"},
      {vocabulary_with(256, "rank", 1), "token 256 has another rank"},
      {vocabulary_with(256, "token_bytes", "YQ=="), "token 256 has the bytes of another one"},
      {vocabulary_with(256, "token_bytes", "YQ"), "token 256 is not 1 to 512 bytes in base64"},
      {vocabulary_with(256, "token_bytes", ""), "token 256 is not 1 to 512 bytes in base64"},
      {vocabulary_with(7, "token_bytes", "YWI="), "token 7 is not the byte of its rank"},
      {specials({special(5, "<s>")}), "the rank 5 is not below the number of tokens"},
      {specials({special(0, "<s>"), special(0, "</s>")}), "the rank 0 occurs twice"},
      {specials({special(0, "<s>"), special(1, "<s>")}), "the token '<s>' occurs twice"},
      {specials({special(0, "")}), "the token 0 has 0 bytes, expected 1 to 1024"},
      {specials({special(0, "<s>")}), "key 'special_tokens': has no control token '</s>'"},
      {specials({special(0, "<s>", false), special(1, "</s>")}), "has no control token '<s>'"},
      {Json::array(), "expected an object"},
      {Json::object(), "key 'config' is missing"},
  };
  for (const auto& wrong : cases) CHECK_ERROR(make(wrong.first), base::ErrorKind::malformed, wrong.second);
}
