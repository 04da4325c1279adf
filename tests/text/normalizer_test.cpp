#include "text/normalizer.h"

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

#include "base/unicode.h"
#include "tests/text/random_text.h"

using namespace sluice;
using namespace sluice::tests;
using namespace sluice::text;

using Ranges = std::vector<TextRange>;

namespace {

std::string nfc(const std::string& text) { return normalize_nfc({text, {}}).text; }

/// The parts of a text that its ranges cover.
std::vector<std::string> covered(const RangedText& text) {
  std::vector<std::string> parts;
  for (const TextRange& range : text.ranges)
    parts.push_back(text.text.substr(range.begin, range.end - range.begin));
  return parts;
}

}  // namespace

TEST_CASE("normal form C of random text is that of the whole text, whatever its parts") {
  std::mt19937 random(3);
  for (int round = 0; round < 4000; ++round) {
    const std::string text = random_text(random, 20);
    CHECK(nfc(text) == base::to_nfc(text));
  }
}

TEST_CASE("normal form C is right around every character") {
  // Those that compose with the character before them, or have a mark behind them, among all others.
  std::size_t wrong = 0;
  for (std::uint32_t code_point = 1; code_point < 0x30000; ++code_point) {
    if (code_point >= 0xD800 && code_point < 0xE000) continue;
    const std::string character = utf8_of(code_point);
    for (const std::string& text :
         {"a" + character + "\u0301", "\uAC00" + character, "\u304B" + character + "a"})
      wrong += nfc(text) != base::to_nfc(text) ? 1 : 0;
  }
  CHECK(wrong == 0);
}

TEST_CASE("marks are sorted in less than quadratic time") {
  std::string text = "e";
  for (int i = 0; i < 20000; ++i) text += "\u0301\u0323";
  std::string expected = "\u1EB9";  // e with dot below
  for (int i = 0; i < 19999; ++i) expected += "\u0323";
  for (int i = 0; i < 20000; ++i) expected += "\u0301";
  CHECK(nfc(text) == expected);
}

TEST_CASE("bytes that are no UTF-8 stay, and nothing composes across them") {
  CHECK(nfc("e\u0301\xFF\u0301") == "\u00E9\xFF\u0301");
  CHECK(nfc("\xC3\u0301") == "\xC3\u0301");
  CHECK(nfc("e\xCC") == "e\xCC");
}

TEST_CASE("ranges keep their text where it stays, and shrink where it composes across their ends") {
  CHECK(normalize_nfc({"ab<x>e\u0301<y>", {{2, 5}, {8, 11}}}).ranges == Ranges{{2, 5}, {7, 10}});
  CHECK(covered(normalize_nfc({"e\u0301e\u0301e\u0301", {{3, 6}}})) == std::vector<std::string>{"\u00E9"});
  // The range begins with a mark that becomes a part of the letter before it.
  CHECK(covered(normalize_nfc({"e\u0301<y>", {{1, 6}}})) == std::vector<std::string>{"<y>"});
  CHECK(covered(normalize_nfc({"<y>e\u0301", {{0, 4}}})) == std::vector<std::string>{"<y>"});
  CHECK(normalize_nfc({"e\u0301", {{1, 3}}}).ranges.empty());
  // Within one sequence of characters that do not stand alone, an end between two that stay has its place.
  CHECK(covered(normalize_nfc({"e\u0301\u0958<y>\u0958", {{6, 12}}})) ==
        std::vector<std::string>{"<y>\u0915\u093C"});
  CHECK(covered(normalize_nfc({"e\u0301\u1F70\u1F70", {{3, 6}}})) == std::vector<std::string>{"\u1F70"});
}

TEST_CASE("random ranges cover the normal form of their texts, or less of it") {
  std::mt19937 random(4);
  for (int round = 0; round < 2000; ++round) {
    RangedText source;
    std::vector<std::string> parts;
    for (int part = 0; part < 4; ++part) {
      // A part that ends and begins with ASCII letters is normalized for itself.
      const std::string text = "a" + random_text(random, 6) + "a";
      if (part % 2 == 1) {
        source.ranges.push_back({source.text.size(), source.text.size() + text.size()});
        parts.push_back(nfc(text));
      }
      source.text += text;
    }
    CHECK(covered(normalize_nfc(source)) == parts);
  }
}

TEST_CASE("a normalizer's steps follow each other") {
  Normalizer normalizer;
  CHECK(normalizer.empty());
  normalizer.add_prepend(" ");
  normalizer.add_replace(" ", "\u2581");
  CHECK(normalizer.apply({"a b", {}}).text == "\u2581a\u2581b");
  CHECK(normalizer.apply({"", {}}).text.empty());
  CHECK(covered(normalizer.apply({"a b c", {{1, 4}}})) == std::vector<std::string>{"\u2581b\u2581"});
  Normalizer growing;
  growing.add_replace("ab", "abab");
  CHECK(growing.apply({"abab", {}}).text == "abababab");
  CHECK(growing.apply({"abab", {{1, 4}}}).ranges == Ranges{{4, 8}});
}
