// Byte-level BPE tokenizers of GGUF files as the text of a tokenizer.json.

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "format/gguf/gguf.h"
#include "format/gguf/gguf_writer.h"
#include "format/json.h"
#include "tests/support/check_error.h"
#include "tests/support/temp_dir.h"

namespace sluice::format {
namespace {

using base::ErrorKind;
using tests::TempDir;

struct Keys {
  std::string pre = "qwen2";
  std::vector<std::string> tokens{"a", "b", "ab", "Ġ", "<|end|>", "<think>", "[PAD6]"};
  std::vector<std::int32_t> types{1, 1, 1, 1, 3, 4, 5};
  std::vector<std::string> merges{"a b", "b a"};
};

CheckpointIndex write(const TempDir& folder, const Keys& keys, bool bos = false) {
  GgufHeader header;
  header.set_string("general.architecture", "qwen3moe");
  header.set_string("tokenizer.ggml.model", "gpt2");
  if (!keys.pre.empty()) header.set_string("tokenizer.ggml.pre", keys.pre);
  header.set_strings("tokenizer.ggml.tokens", keys.tokens);
  header.set_i32s("tokenizer.ggml.token_type", keys.types);
  header.set_strings("tokenizer.ggml.merges", keys.merges);
  header.set_u32("tokenizer.ggml.eos_token_id", 4);
  header.set_u32("tokenizer.ggml.eot_token_id", 5);
  if (bos) header.set_u32("tokenizer.ggml.bos_token_id", 5);
  base::write_file(folder / "m.gguf", base::as_bytes(header.encode()));
  return open_gguf(folder / "m.gguf");
}

Json tokenizer(const Keys& keys) {
  const TempDir folder(tests::fast_directory());
  return parse_json(gguf_tokenizer_json(write(folder, keys)), "t");
}

TEST_CASE("tokens by their type, merges whose result is a token") {
  const Json json = tokenizer({});
  const Json& model = json.at("model", "t");
  CHECK(model.at("vocab", "t") == Json::object({{"a", 0}, {"b", 1}, {"ab", 2}, {"Ġ", 3}}));
  CHECK(model.at("merges", "t") == Json::array({"a b"}));
  CHECK(model.at("ignore_merges", "t") == Json(false));
  const auto& added = json.at("added_tokens", "t").as_array("t");
  REQUIRE(added.size() == 2);
  CHECK(added[0].at("content", "t") == Json("<|end|>"));
  CHECK(added[0].at("id", "t") == Json(4));
  CHECK(added[0].at("special", "t") == Json(true));
  CHECK(added[1].at("special", "t") == Json(false));
}

TEST_CASE("the name of the split stands for the parts that released files have") {
  const auto parts = [](const char* pre) {
    Keys keys;
    keys.pre = pre;
    const Json json = tokenizer(keys);
    std::string text = json.at("normalizer", "t").is_null() ? "" : "NFC ";
    for (const Json& part : json.at("pre_tokenizer", "t").at("pretokenizers", "t").as_array("t")) {
      text += part.at("type", "t").as_string("t");
      if (const Json* regex = part.find("use_regex"); regex != nullptr && regex->as_bool("t")) text += "+";
      text += " ";
    }
    return text + (json.at("model", "t").at("ignore_merges", "t").as_bool("t") ? "whole" : "");
  };
  CHECK(parts("qwen2") == "NFC Split ByteLevel ");
  CHECK(parts("qwen35") == "NFC Split ByteLevel ");
  CHECK(parts("llama-bpe") == "Split ByteLevel whole");
  CHECK(parts("glm4") == "Split ByteLevel whole");
  CHECK(parts("minimax-m2") == "Split ByteLevel whole");
  CHECK(parts("gpt-4o") == "Split ByteLevel whole");
  CHECK(parts("olmo") == "NFC ByteLevel+ ");
  CHECK(parts("gpt-2") == "ByteLevel+ ");
  CHECK(parts("refact") == "Digits ByteLevel+ ");
  CHECK(parts("starcoder") == "Digits ByteLevel+ ");
}

TEST_CASE("begin and end of a text") {
  const TempDir folder(tests::fast_directory());
  const auto config = [&](const Keys& keys, bool bos) {
    return gguf_tokenizer_config(write(folder, keys, bos));
  };
  CHECK(config({}, false) == R"({"add_bos_token":false,"eos_token":"<|end|>"})");
  CHECK(config({}, true) == R"({"add_bos_token":false,"bos_token":"<think>","eos_token":"<|end|>"})");
  Keys llama3;
  llama3.pre = "llama-bpe";
  CHECK(config(llama3, true) == R"({"add_bos_token":true,"bos_token":"<think>","eos_token":"<|end|>"})");
  CHECK(gguf_token_facts(write(folder, {})).end_ids == std::vector<std::int32_t>{5});
  CHECK(gguf_tokenizer_kind(write(folder, {})) == TokenizerKind::hugging_face);
}

TEST_CASE("keys that contradict each other are refused") {
  struct Case {
    const char* cause;
    void (*spoil)(Keys&);
  };
  for (const auto& [cause, spoil] : {
           Case{"key 'tokenizer.ggml.pre': is missing", [](Keys& keys) { keys.pre.clear(); }},
           Case{"key 'tokenizer.ggml.pre': is 'default', supported are qwen2, qwen35, llama-bpe, llama3, "
                "lfm2, glm4, "
                "chatglm-bpe, gpt-2, olmo, refact, starcoder, gpt-4o, minimax-m2",
                [](Keys& keys) { keys.pre = "default"; }},
           Case{"key 'tokenizer.ggml.tokens': has 7 tokens and 6 types",
                [](Keys& keys) { keys.types.pop_back(); }},
           Case{"key 'tokenizer.ggml.tokens': token 2 has the text of another one: 'a'",
                [](Keys& keys) { keys.tokens[2] = "a"; }},
           Case{"key 'tokenizer.ggml.tokens': token 1 is no text of UTF-8",
                [](Keys& keys) { keys.tokens[1] = "\xFF"; }},
           Case{"key 'tokenizer.ggml.tokens': token 1 is no text of UTF-8",
                [](Keys& keys) { keys.tokens[1] = ""; }},
           Case{"key 'tokenizer.ggml.token_type': token 3 has the type 7, expected 1 to 6",
                [](Keys& keys) { keys.types[3] = 7; }},
           Case{"key 'tokenizer.ggml.merges': 'ab' is no pair", [](Keys& keys) { keys.merges[1] = "ab"; }},
       }) {
    Keys keys;
    spoil(keys);
    CAPTURE(std::string(cause));
    CHECK_ERROR(tokenizer(keys), ErrorKind::malformed, cause);
  }
  const TempDir folder(tests::fast_directory());
  Keys few;
  few.tokens.resize(4);
  few.types.resize(4);
  CHECK_ERROR(gguf_tokenizer_config(write(folder, few)), ErrorKind::malformed,
              "key 'tokenizer.ggml.eos_token_id': is 4, but there are 4 tokens");
}

}  // namespace
}  // namespace sluice::format
