#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "base/bytes.h"
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

/// As Gemma's: characters with ▁ for a space, bytes as <0xNN> with the ids 0 to 255.
Json character_tokenizer() {
  Json vocabulary = Json::object();
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  for (unsigned byte = 0; byte < 256; ++byte)
    vocabulary.set({'<', '0', 'x', kDigits[byte / 16], kDigits[byte % 16], '>'}, byte);
  int next = 256;
  for (const char* piece :
       {"<eos>", "\u2581", "a", "b", "\n", "ab", "\u2581ab", "<", "0", "x", "4", "1", ">"})
    vocabulary.set(piece, next++);
  const auto replace = [](const char* from, const char* to) {
    return Json::object(
        {{"type", "Replace"}, {"pattern", Json::object({{"String", from}})}, {"content", to}});
  };
  const Json split_at_spaces = Json::object({{"type", "Split"},
                                             {"pattern", Json::object({{"String", " "}})},
                                             {"behavior", "MergedWithPrevious"},
                                             {"invert", false}});
  const Json model = Json::object({{"type", "BPE"},
                                   {"unk_token", "<eos>"},
                                   {"fuse_unk", true},
                                   {"byte_fallback", true},
                                   {"vocab", vocabulary},
                                   {"merges", Json::array({"a b", "\u2581 ab"})}});
  return Json::object(
      {{"version", "1.0"},
       {"added_tokens", Json::array({added_token(256, "<eos>", true)})},
       {"normalizer", replace(" ", "\u2581")},
       {"pre_tokenizer", split_at_spaces},
       {"post_processor", Json()},
       {"decoder", sequence("decoders", {replace("\u2581", " "), Json::object({{"type", "ByteFallback"}}),
                                         Json::object({{"type", "Fuse"}})})},
       {"model", model}});
}

/// A TemplateProcessing that puts a token in front of a text.
Json template_processing(std::string_view token, int id) {
  return Json::object(
      {{"type", "TemplateProcessing"},
       {"single",
        Json::array({Json::object({{"SpecialToken", Json::object({{"id", token}, {"type_id", 0}})}}),
                     Json::object({{"Sequence", Json::object({{"id", "A"}, {"type_id", 0}})}})})},
       {"pair", Json::array()},
       {"special_tokens",
        Json::object({{std::string(token), Json::object({{"id", token}, {"ids", Json::array({id})}})}})}});
}

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

TEST_CASE("a special token in the vocabulary is out of reach of merges and of whole pieces") {
  Json file = byte_level_tokenizer({{"a", "b"}, {"ab", "c"}}, {added_token(256, "ab", true)});
  CHECK(make_tokenizer(file)->encode("abc") == Ids{'a', 'b', 'c'});
  Json model = *file.find("model");
  file.set("model", model.set("ignore_merges", true));
  CHECK(make_tokenizer(file)->encode("ab") == Ids{'a', 'b'});
  CHECK(make_tokenizer(file)->encode("ab", std::vector<text::TextRange>{{0, 2}}) == Ids{256});
}

TEST_CASE("added tokens that are searched in normalized text are normalized, too") {
  Json file = byte_level_tokenizer(
      {}, {added_token(300, "e\u0301", false, true), added_token(301, "o\u0301", false)});
  file.set("normalizer", sequence("normalizers", {Json::object({{"type", "NFC"}})}));
  const auto tokenizer = make_tokenizer(file);
  CHECK(tokenizer->encode("e\u0301\u00E9") == Ids{300, 300});
  CHECK(tokenizer->encode("o\u0301\u00F3") == Ids{301, 0xC3, 0xB3});
  CHECK(tokenizer->piece_bytes(300) == "e\u0301");
}

TEST_CASE("trusted ranges reach tokens that are searched in normalized text") {
  Json file = byte_level_tokenizer({}, {added_token(300, "<end>", true, true)});
  file.set("normalizer", Json::object({{"type", "NFC"}}));
  const auto tokenizer = make_tokenizer(file);
  const std::string text = "<end>e\u0301<end>e\u0301<end>";
  CHECK(tokenizer->encode(text, std::vector<text::TextRange>{{8, 13}}) ==
        Ids{'<', 'e', 'n', 'd', '>', 0xC3, 0xA9, 300, 0xC3, 0xA9, '<', 'e', 'n', 'd', '>'});
}

TEST_CASE("BOS is what tokenizer_config.json adds or the post-processor puts in front") {
  const Json file = byte_level_tokenizer({}, {added_token(300, "<s>", true), added_token(301, "</s>", true)});
  CHECK(!make_tokenizer(file)->bos());
  CHECK(!make_tokenizer(file, R"({"bos_token": "<s>", "add_bos_token": false})")->bos());
  CHECK(make_tokenizer(file, R"({"bos_token": "<s>", "add_bos_token": true})")->bos() == 300);
  CHECK(make_tokenizer(file, R"({"bos_token": {"content": "<s>"}, "add_bos_token": true})")->bos() == 300);
  Json templated = file;
  templated.set("post_processor",
                sequence("processors", {byte_level(true), template_processing("<s>", 300)}));
  CHECK(make_tokenizer(templated)->bos() == 300);
  CHECK(make_tokenizer(templated)->encode_prompt("a") == Ids{300, 'a'});
  CHECK(make_tokenizer(templated, R"({"bos_token": "<s>", "add_bos_token": true})")->bos() == 300);
}

TEST_CASE("EOS is the first end id of the release, or tokenizer_config.json's") {
  const std::string file =
      byte_level_tokenizer({}, {added_token(300, "</s>", true), added_token(301, "<e>", false)}).dump();
  const auto make = [&](std::string_view config, std::vector<TokenId> end_ids) {
    return text::make_tokenizer({.kind = text::TokenizerKind::hugging_face,
                                 .model = base::as_bytes(file),
                                 .config = config,
                                 .end_ids = std::move(end_ids)},
                                "t.json");
  };
  const auto both = make(R"({"eos_token": "</s>"})", {301});
  CHECK(both->eos() == 301);
  CHECK(both->is_end(300));
  CHECK(both->end_ids().size() == 2);
  CHECK(make(R"({"eos_token": "</s>"})", {300})->end_ids().size() == 1);
  // A token that the configuration names is a control piece, whatever added_tokens says.
  const auto own = make(R"({"eos_token": "<e>"})", {});
  CHECK(own->eos() == 301);
  CHECK(own->encode("<e>") == Ids{'<', 'e', '>'});
  CHECK(own->control_id("<e>") == 301);
  CHECK_ERROR(make("", {}), base::ErrorKind::malformed,
              "t.json: names neither an EOS nor another id that ends a text");
  CHECK_ERROR(make("", {-1}), base::ErrorKind::malformed, "t.json: has a negative end id");
  CHECK_ERROR(make(R"({"eos_token": "<x>"})", {}), base::ErrorKind::malformed,
              "t.json: tokenizer_config.json: key 'eos_token': the token '<x>' is in neither the vocabulary "
              "nor added_tokens");
  CHECK_ERROR(make(R"({"add_bos_token": true})", {}), base::ErrorKind::malformed,
              "key 'add_bos_token': is true, but there is no bos_token");
  CHECK_ERROR(make("{", {}), base::ErrorKind::malformed, "t.json: tokenizer_config.json: is not valid JSON");
}

TEST_CASE("a space goes in front of a text where file or configuration say so") {
  Json file = byte_level_tokenizer({{"Ġ", "a"}});
  CHECK(make_tokenizer(file)->encode("a") == Ids{'a'});
  CHECK(make_tokenizer(file, R"({"add_prefix_space": true})")->encode("a") == Ids{256});
  file.set("pre_tokenizer", byte_level(true, true));
  CHECK(make_tokenizer(file)->encode("a") == Ids{256});
  CHECK(make_tokenizer(file, R"({"add_prefix_space": false})")->encode("a") == Ids{'a'});
}

TEST_CASE("a tokenizer without byte letters has its spaces replaced, and bytes for unknown characters") {
  const auto tokenizer = make_tokenizer(character_tokenizer(), R"({"eos_token": "<eos>"})");
  // ▁ab is merged across the word's start; the bytes of é are tokens.
  CHECK(tokenizer->encode(" ab") == Ids{262});
  CHECK(tokenizer->encode("é") == Ids{0xC3, 0xA9});
  CHECK(decoded(*tokenizer, tokenizer->encode(" ab é\n")) == " ab é\n");
  CHECK(tokenizer->encode("<0x41>").size() == 6);
  CHECK(tokenizer->piece_bytes(0x41) == "A");
}

TEST_CASE("tokens beside the file are decoded, and never made of a text") {
  const std::string file = byte_level_tokenizer({}, {added_token(300, "<t>", false)}).dump();
  const auto make = [&](std::vector<text::AddedToken> added) {
    return text::make_tokenizer({.kind = text::TokenizerKind::hugging_face,
                                 .model = base::as_bytes(file),
                                 .end_ids = {0},
                                 .added = std::move(added)},
                                "t.json");
  };
  const auto tokenizer = make({{300, "<t>", true}, {301, "<c>", true}, {302, "<p>", false}});
  CHECK(tokenizer->size() == 303);
  CHECK(tokenizer->encode("<t><c>") == Ids{300, '<', 'c', '>'});
  CHECK(tokenizer->control_id("<c>") == 301);
  CHECK(tokenizer->piece_bytes(301).empty());
  CHECK(tokenizer->piece_bytes(302) == "<p>");
  CHECK_ERROR(make({{-1, "<c>", true}}), base::ErrorKind::malformed,
              "t.json: has an added token of the id -1");
}

TEST_CASE(
    "a split that removes what lies between its matches is one that isolates them, where nothing does") {
  Json file = byte_level_tokenizer();
  Json part = split(kLlama3Pattern);
  part.set("behavior", "Removed").set("invert", true);
  file.set("pre_tokenizer", sequence("pretokenizers", {part, byte_level(false)}));
  CHECK(make_tokenizer(file)->encode("a 1") == Ids{'a', kSpace, '1'});
}

TEST_CASE("a file cut anywhere is refused") {
  const std::string whole = R"({"version":"1.0","added_tokens":[],"pre_tokenizer":)" +
                            byte_level(true).dump() + R"(,"decoder":)" + byte_level(true).dump() +
                            R"(,"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})";
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::string cut = whole.substr(0, size);
    CHECK_ERROR(text::make_tokenizer(
                    {.kind = text::TokenizerKind::hugging_face, .model = base::as_bytes(cut), .end_ids = {0}},
                    "t.json"),
                base::ErrorKind::malformed, "t.json: is not valid JSON: ");
  }
}

TEST_CASE("what is not supported, and what is wrong, is refused by name") {
  const Json good = byte_level_tokenizer({{"a", "b"}}, {added_token(300, "<t>", false)});
  const auto with = [&](std::string_view key, Json value) {
    return Json(good).set(std::string(key), std::move(value));
  };
  const auto model_with = [&](std::string_view key, Json value) {
    Json model = *good.find("model");
    return with("model", model.set(std::string(key), std::move(value)));
  };
  const auto vocabulary_with = [&](std::string_view key, Json value) {
    Json vocabulary = *good.find("model")->find("vocab");
    return model_with("vocab", vocabulary.set(std::string(key), std::move(value)));
  };
  const auto type = [](std::string_view name) { return Json::object({{"type", name}}); };
  const auto splits = [&](Json part) {
    return with("pre_tokenizer", sequence("pretokenizers", {std::move(part), byte_level(false)}));
  };
  const auto split_with = [&](std::string_view key, Json value) {
    return splits(split(kLlama3Pattern).set(std::string(key), std::move(value)));
  };
  const auto fixed = [](std::string_view text) { return Json::object({{"String", text}}); };
  const auto added = [&](Json token) { return with("added_tokens", Json::array({std::move(token)})); };
  const auto templated = [&](Json::Array single) {
    Json part = template_processing("<t>", 300);
    return with("post_processor", part.set("single", Json(std::move(single))));
  };
  const Json text_part = Json::object({{"Sequence", Json::object({{"id", "A"}})}});
  const Json token_part = Json::object({{"SpecialToken", Json::object({{"id", "<t>"}})}});
  const std::vector<std::pair<Json, std::string>> cases = {
      {Json::array(), "t.json: expected an object, found an array"},
      {Json::object(), "t.json: key 'model' is missing"},
      {with("version", "2.0"), "t.json: key 'version': expected '1.0', found \"2.0\""},
      {with("extra", 1), "t.json: unknown key 'extra'"},
      {with("normalizer", type("Lowercase")),
       "t.json: key 'normalizer': the type 'Lowercase' is not supported"},
      {with("normalizer", sequence("normalizers", {type("NFC"), type("Strip")})),
       "the type 'Strip' is not supported"},
      {with(
           "normalizer",
           Json::object({{"type", "Replace"}, {"pattern", Json::object({{"Regex", "x"}})}, {"content", ""}})),
       "key 'pattern': unknown key 'Regex'"},
      {with("normalizer", Json::object({{"type", "Replace"}, {"pattern", fixed("")}, {"content", ""}})),
       "key 'normalizer': key 'pattern': is empty"},
      {with("normalizer", "NFC"), "key 'normalizer': expected an object, found the string 'NFC'"},
      {with("pre_tokenizer", type("Whitespace")),
       "key 'pre_tokenizer': the type 'Whitespace' is not supported"},
      {with("pre_tokenizer", sequence("pretokenizers", {byte_level(false), split(kLlama3Pattern)})),
       "key 'pre_tokenizer': 'Split' after 'ByteLevel' is not supported"},
      {splits(split(R"(\w+)")),
       R"(t.json: key 'pre_tokenizer': key 'pattern': the expression '\w+' is none of those that are supported)"},
      {splits(split("a\nb")), R"(the expression 'a\nb' is none)"},
      {split_with("behavior", "Removed"), "key 'behavior': expected 'Isolated', found 'Removed'"},
      {split_with("invert", true), "key 'behavior': expected 'Isolated', found 'Isolated', inverted"},
      {splits(split(R"(\p{N}+)").set("behavior", "Removed").set("invert", true)),
       "found 'Removed', inverted"},
      {split_with("pattern", fixed(" ")), "a split at the fixed text ' ' is not supported"},
      {with("post_processor", type("RobertaProcessing")),
       "key 'post_processor': the type 'RobertaProcessing' is not supported"},
      {templated({token_part, text_part, token_part}),
       "key 'single': expected a text with at most one token, in front of it"},
      {templated({text_part, token_part}), "expected a text with at most one token, in front of it"},
      {templated({}), "expected a text with at most one token, in front of it"},
      {with("post_processor", template_processing("<t>", 301)),
       "key 'post_processor': the id of '<t>' is 300, not 301"},
      {with("post_processor", template_processing("<u>", 301)),
       "the token '<u>' is in neither the vocabulary nor added_tokens"},
      {with("post_processor",
            sequence("processors", {template_processing("<t>", 300), template_processing("<t>", 300)})),
       "is the second template"},
      {with("decoder", type("WordPiece")), "key 'decoder': expected the type ByteLevel, found 'WordPiece'"},
      {with("decoder", Json()), "key 'decoder': expected the type ByteLevel, found ''"},
      {model_with("type", "Unigram"), "key 'model': key 'type': expected 'BPE', found \"Unigram\""},
      {model_with("dropout", 0.5), "key 'dropout': the value '0.5' is not supported"},
      {model_with("end_of_word_suffix", "</w>"),
       "key 'end_of_word_suffix': the value '\"</w>\"' is not supported"},
      {model_with("continuing_subword_prefix", "##"), "key 'continuing_subword_prefix': the value"},
      {model_with("extra", 1), "key 'model': unknown key 'extra'"},
      {model_with("vocab", Json::array()), "key 'vocab': expected an object, found an array"},
      {vocabulary_with("new", 4194304), "key 'vocab': the id 4194304 is above 4194303"},
      {vocabulary_with("new", -1), "key 'vocab': expected a whole number from 0"},
      {vocabulary_with("new", 5), "key 'vocab': the id 5 is given twice"},
      {with("model", Json::object({{"vocab", Json::object({{"a", 0}})}, {"merges", Json::array()}})),
       "key 'vocab': no token that is not special stands for the byte 0"},
      {vocabulary_with("new", 300), "the token 'new' with the id 300 contradicts added_tokens"},
      {vocabulary_with("<t>", 301), "the token '<t>' with the id 301 contradicts added_tokens"},
      {model_with("merges", Json::array({"a b c"})), "key 'merges': merge 0 is no pair: 'a b c'"},
      {model_with("merges", Json::array({"#version: 0.2", "ab"})), "key 'merges': merge 0 is no pair: 'ab'"},
      {model_with("merges", Json::array({Json::array({"a"})})), "key 'merges': merge 0 is no pair"},
      {model_with("merges", Json::array({"a b", "b c"})),
       "key 'merges': merge 1 of 'b' and 'c': one of them or both together are not in the vocabulary"},
      {model_with("merges", Json::array({1})), "key 'merges': expected an array, found 1"},
      {added(added_token(300, "", false)),
       "key 'added_tokens': the token 300 has 0 bytes, expected 1 to 1024"},
      {added(added_token(300, std::string(1025, 'x'), false)), "the token 300 has 1025 bytes"},
      {added(added_token(4194304, "x", false)), "the id 4194304 is above 4194303"},
      {with("added_tokens", Json::array({added_token(300, "x", false), added_token(301, "x", false)})),
       "the token 'x' occurs twice"},
      {with("added_tokens", Json::array({added_token(300, "x", false), added_token(300, "y", false)})),
       "the id 300 occurs twice"},
      {added(added_token(97, "a", true)), "no token that is not special stands for the byte 97"},
  };
  for (const auto& wrong : cases)
    CHECK_ERROR(make_tokenizer(wrong.first), base::ErrorKind::malformed, wrong.second);
  CHECK_ERROR(
      make_tokenizer(character_tokenizer().set("decoder", byte_level(true)), R"({"eos_token": "<eos>"})"),
      base::ErrorKind::malformed,
      "key 'decoder': expected the type Replace, ByteFallback, Fuse, found 'ByteLevel'");
  Json file = character_tokenizer();
  Json model = *file.find("model");
  CHECK_ERROR(make_tokenizer(file.set("model", model.set("byte_fallback", false))),
              base::ErrorKind::malformed,
              "key 'byte_fallback': expected true for a tokenizer without ByteLevel");
}
