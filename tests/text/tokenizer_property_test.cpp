// Tests what holds for every tokenizer.json, over random texts, random bytes and random vocabularies.

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/unicode.h"
#include "tests/text/random_text.h"
#include "tests/text/tiny_tokenizer.h"
#include "text/byte_letters.h"
#include "text/text.h"

using namespace sluice;
using namespace sluice::tests;
using format::Json;
using text::TextRange;
using text::TokenId;

namespace {

constexpr int kFirstAdded = 2000;

/// Random merges, three added tokens; every other one with normal form C and with ignore_merges.
Json random_tokenizer(std::mt19937& random) {
  std::vector<std::string> known;
  for (unsigned byte = 0; byte < 256; ++byte)
    known.push_back(text::letter_of_byte(static_cast<std::uint8_t>(byte)));
  std::set<std::string> products;
  std::vector<std::pair<std::string, std::string>> merges;
  for (int i = 0; i < 300; ++i) {
    // Common letters, so that random texts have them.
    const auto any = [&] {
      return random() % 2 == 0 ? known[random() % known.size()] : std::string(1, "abehlst"[random() % 7]);
    };
    const std::string left = any();
    const std::string right = any();
    if (!products.insert(left + right).second) continue;
    merges.emplace_back(left, right);
    known.push_back(left + right);
  }
  Json file = byte_level_tokenizer(
      merges, {added_token(kFirstAdded, "<|end|>", true), added_token(kFirstAdded + 1, "</s>", false, true),
               added_token(kFirstAdded + 2, "  ", false)});
  const auto& patterns = {kLlama3Pattern, kQwen2Pattern};
  if (random() % 2 == 0)
    file.set("pre_tokenizer",
             sequence("pretokenizers", {split(std::data(patterns)[random() % 2]), byte_level(false)}));
  if (random() % 2 == 0) file.set("normalizer", Json::object({{"type", "NFC"}}));
  Json model = *file.find("model");
  file.set("model", model.set("ignore_merges", random() % 2 == 0));
  return file;
}

bool is_normalized(const Json& file) { return !file.find("normalizer")->is_null(); }

}  // namespace

TEST_CASE("the pieces of a text's ids are the text, or its normal form C") {
  std::mt19937 random(10);
  for (int round = 0; round < 12; ++round) {
    const Json file = random_tokenizer(random);
    const auto tokenizer = make_tokenizer(file);
    for (int i = 0; i < 300; ++i) {
      const std::string text =
          random_text(random, 30) + (i % 3 == 0 ? "<|end|>" + random_text(random, 5) : "");
      const std::string expected = is_normalized(file) ? base::to_nfc(text).value() : text;
      CHECK(decoded(*tokenizer, tokenizer->encode(text)) == expected);
    }
  }
}

TEST_CASE("random bytes are encoded and come back") {
  std::mt19937 random(11);
  for (int round = 0; round < 12; ++round) {
    Json file = random_tokenizer(random);
    file.set("normalizer", Json());
    const auto tokenizer = make_tokenizer(file);
    for (int i = 0; i < 200; ++i) {
      std::string text = random_text(random, 20);
      for (char& byte : text)
        if (random() % 5 == 0) byte = static_cast<char>(random());
      CHECK(decoded(*tokenizer, tokenizer->encode(text)) == text);
    }
    // With normal form C, the stray bytes stay as well.
    file.set("normalizer", Json::object({{"type", "NFC"}}));
    CHECK(decoded(*make_tokenizer(file), make_tokenizer(file)->encode("e\u0301\xFF\xC3")) ==
          "\u00E9\xFF\xC3");
  }
}

TEST_CASE("untrusted text never has the id of a special token, trusted text around it does") {
  std::mt19937 random(12);
  for (int round = 0; round < 12; ++round) {
    const auto tokenizer = make_tokenizer(random_tokenizer(random));
    for (int i = 0; i < 200; ++i) {
      std::string user = random_text(random, 8);
      for (const char* part : {"<|end|>", "<|en", "d|>", "<|end|>"})
        if (random() % 2 == 0) user += part + random_text(random, 2);
      const std::string text = "<|end|>" + user + "<|end|>";
      const std::vector<TextRange> trusted = {{0, 7}, {7 + user.size(), text.size()}};
      const auto ids = tokenizer->encode(text, trusted);
      CHECK(ids.front() == kFirstAdded);
      CHECK(ids.back() == kFirstAdded);
      CHECK(std::ranges::count(ids, kFirstAdded) == 2);
      CHECK(std::ranges::count(tokenizer->encode(text), kFirstAdded) == 0);
      // The text between two special tokens is encoded as a text of its own.
      auto expected = tokenizer->encode(user);
      expected.insert(expected.begin(), kFirstAdded);
      expected.push_back(kFirstAdded);
      CHECK(ids == expected);
    }
  }
}

TEST_CASE("several threads encode with one tokenizer at the same time") {
  std::mt19937 random(13);
  const Json file = random_tokenizer(random);
  const auto tokenizer = make_tokenizer(file);
  std::vector<std::string> texts;
  std::vector<std::vector<TokenId>> expected;
  const auto other = make_tokenizer(file);
  for (int i = 0; i < 100; ++i) {
    texts.push_back(random_text(random, 50));
    expected.push_back(other->encode(texts.back()));
  }
  std::vector<int> wrong(4);
  {
    std::vector<std::jthread> threads;
    for (int& count : wrong)
      threads.emplace_back([&] {
        for (std::size_t i = 0; i < texts.size(); ++i)
          count += tokenizer->encode(texts[i]) == expected[i] ? 0 : 1;
      });
  }
  CHECK(wrong == std::vector<int>(4));
}
