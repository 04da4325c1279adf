#include "text/pre_tokenizer.h"

#include <doctest/doctest.h>
#include <utf8proc.h>

#include <random>
#include <string>
#include <vector>

#include "base/text.h"
#include "format/gguf/gguf_splits.h"
#include "tests/text/random_text.h"
#include "tests/text/slow_regex.h"
#include "tests/text/tiny_tokenizer.h"
#include "text/characters.h"
#include "text/spelled_sets.h"

using namespace sluice;
using namespace sluice::tests;
using namespace sluice::text;

using Pieces = std::vector<std::string>;

namespace {

Pieces cut(const PreTokenizer& tokenizer, std::string_view text) {
  Pieces pieces;
  tokenizer.cut(text, [&](std::string_view piece) { pieces.emplace_back(piece); });
  return pieces;
}

Pieces cut(std::string_view expression, std::string_view text) {
  PreTokenizer tokenizer;
  tokenizer.add_split(find_split(expression));
  return cut(tokenizer, text);
}

}  // namespace

TEST_CASE("every known expression cuts random text as a backtracking engine does") {
  std::mt19937 random(1);
  REQUIRE(known_splits().size() >= 20);
  for (const std::string_view expression : known_splits()) {
    for (int round = 0; round < 400; ++round) {
      const std::string text = random_text(random, 24);
      const Pieces expected = slow_split(expression, text);
      CHECK_MESSAGE(cut(expression, text) == expected, expression << " cuts wrongly: " << text);
    }
  }
}

TEST_CASE("DeepSeek-V2's splits, one after the other") {
  PreTokenizer tokenizer;
  for (const std::string_view expression :
       {std::string_view(R"([\r\n])"), format::kSpelledLettersExpression, format::kSpelledSignsExpression,
        std::string_view(R"(\s+$)"), std::string_view("[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+")}) {
    const SplitFinder finder = find_split(expression);
    REQUIRE(static_cast<bool>(finder));
    tokenizer.add_split(finder);
  }
  tokenizer.add_split(digits_split(true));
  const auto joined = [&](std::string_view text) {
    std::string all;
    for (const std::string& piece : cut(tokenizer, text)) all += piece + "|";
    return all;
  };
  // The signs from ':' to '~' have the ASCII letters, too, so words with others are cut once more.
  CHECK(joined("Hello  w\u00F6rld, \u4F60\u597D 12!  ") ==
        "Hello| | w|\u00F6|rld|,| |\u4F60\u597D| |1|2|!|  |");
  CHECK(joined("a \n\u3000\u3002 \u05D0") == "a| |\n|\u3000\u3002| \u05D0|");
}

TEST_CASE("Kimi K2 cuts runs of Han from the words around them") {
  std::string_view kimi;
  for (const std::string_view expression : known_splits())
    if (expression.starts_with(R"([\p{Han}]+)")) kimi = expression;
  CHECK(cut(kimi, "\u4E2D\u6587English\u6DF7\u5408") == Pieces{"\u4E2D\u6587", "English", "\u6DF7\u5408"});
  CHECK(cut(kimi, "\u5317\u4EAC\u5E02 Pascal") == Pieces{"\u5317\u4EAC\u5E02", " Pascal"});
  CHECK(cut(kimi, "Don't 1234\u3007\u3005 a/\n") ==
        Pieces{"Don't", " ", "123", "4\u3007", "\u3005", " a", "/\n"});
}

TEST_CASE("an expression that is said to be a partition leaves nothing between its matches") {
  std::mt19937 random(14);
  std::size_t partitions = 0;
  for (const std::string_view expression : known_splits()) {
    if (!is_partition(expression)) continue;
    ++partitions;
    for (int round = 0; round < 500; ++round) {
      const std::string text = random_text(random, 24);
      for (std::size_t at = 0; at < text.size();) {
        const TextRange match = find_split(expression)(text, at);
        if (match.begin != at) FAIL("a gap in: " << text);
        at = match.end;
      }
    }
  }
  CHECK(partitions == 7);
}

TEST_CASE("words, contractions, digits and white space are cut as the released tokenizers cut them") {
  CHECK(cut(kLlama3Pattern, "I'LL pay $1234.5 for it  \n\n  now") ==
        Pieces{"I", "'LL", " pay", " $", "123", "4", ".", "5", " for", " it", "  \n\n", " ", " now"});
  CHECK(cut(kQwen2Pattern, "12\t(a)") == Pieces{"1", "2", "\t", "(a", ")"});
  CHECK(cut(kLlama3Pattern, "x   ") == Pieces{"x", "   "});
  CHECK(cut(kLlama3Pattern, "it'ſ") == Pieces{"it", "'ſ"});
}

TEST_CASE("splits in sequence cut the pieces of the splits before them") {
  PreTokenizer tokenizer;
  tokenizer.add_split(digits_split(true));
  tokenizer.add_split(byte_level_split());
  CHECK(cut(tokenizer, "ab 12  cd") == Pieces{"ab", " ", "1", "2", " ", " cd"});
  tokenizer = {};
  tokenizer.add_split(digits_split(false));
  CHECK(cut(tokenizer, "ab12cd") == Pieces{"ab", "12", "cd"});
  tokenizer = {};
  tokenizer.add_prefix_space();
  tokenizer.add_split(byte_level_split());
  CHECK(cut(tokenizer, "ab cd") == Pieces{" ab", " cd"});
  CHECK(cut(tokenizer, " ab") == Pieces{" ab"});
  CHECK(cut(tokenizer, "") == Pieces{});
  CHECK(cut(PreTokenizer(), "a b") == Pieces{"a b"});
}

TEST_CASE("an expression is known by its exact text, with line ends as escapes or as they are") {
  const bool is_found = find_split("[\r\n]") != nullptr;
  CHECK(is_found);
  const bool is_same = find_split("[\r\n]") == find_split(R"([\r\n])");
  CHECK(is_same);
  const bool is_unknown =
      find_split(std::string(kLlama3Pattern) + " ") == nullptr && find_split("") == nullptr;
  CHECK(is_unknown);
  CHECK(spelled_in_one_line("a\r\nb") == R"(a\r\nb)");
}

TEST_CASE("every byte of text that is no UTF-8 is in one piece, and stray bytes are signs") {
  CHECK(cut(kLlama3Pattern, "ab\xFF\xC3 c\xE4\xB8") == Pieces{"ab", "\xFF\xC3", " c", "\xE4\xB8"});
  std::mt19937 random(2);
  for (const std::string_view expression : known_splits()) {
    for (int round = 0; round < 100; ++round) {
      std::string text = random_text(random, 12);
      for (char& byte : text)
        if (random() % 6 == 0) byte = static_cast<char>(random());
      std::string joined;
      for (const std::string& piece : cut(expression, text)) {
        CHECK(!piece.empty());
        joined += piece;
      }
      CHECK(joined == text);
    }
  }
}

TEST_CASE("a long text of one character is cut in linear time") {
  for (const std::string_view expression : known_splits())
    for (const std::string_view unit :
         {"a", "A", " ", "\n", "!", "1", "\u0301", "中", " \u00A0", "Aʰ", "\xFF"}) {
      std::string text;
      while (text.size() < 50000) text += unit;
      std::size_t bytes = 0;
      for (const std::string& piece : cut(expression, text + "x")) bytes += piece.size();
      CHECK(bytes == text.size() + 1);
    }
}

TEST_CASE("classes are Unicode's categories and White_Space") {
  std::size_t spaces = 0;
  for (char32_t c = 0; c < 0x110000; ++c) {
    const std::string category = utf8proc_category_string(static_cast<utf8proc_int32_t>(c));
    const CharacterClass found = class_of(c);
    if (found == CharacterClass::space || found == CharacterClass::newline) {
      ++spaces;
      continue;
    }
    CharacterClass expected = CharacterClass::other;
    if (category == "Lu" || category == "Lt") expected = CharacterClass::upper;
    if (category == "Ll") expected = CharacterClass::lower;
    if (category == "Lm" || category == "Lo") expected = CharacterClass::letter;
    if (category[0] == 'M') expected = CharacterClass::mark;
    if (category[0] == 'N') expected = CharacterClass::number;
    if (category[0] == 'P') expected = CharacterClass::punctuation;
    if (category[0] == 'S') expected = CharacterClass::symbol;
    if (found != expected) FAIL_CHECK("U+" << static_cast<unsigned>(c) << " is " << category);
  }
  CHECK(spaces == 25);  // Unicode 15, PropList.txt
  CHECK(is_word_character('_'));
  CHECK(is_word_character(0x24B6));
  CHECK(is_word_character(0x0301));
  CHECK(!is_word_character('-'));
  CHECK(!is_word_character(0x00B2));  // a number, but no digit
}
