#include "text/added_tokens.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

using namespace sluice::text;

namespace {

using Ranges = std::vector<TextRange>;

/// "begin-end:id" of each match.
std::string found(const AddedTokenFinder& finder, std::string_view text, const Ranges& trusted = {}) {
  std::string out;
  for (const AddedTokenMatch& match : finder.find(text, trusted))
    out += (out.empty() ? "" : " ") + std::to_string(match.range.begin) + "-" +
           std::to_string(match.range.end) + ":" + std::to_string(match.id);
  return out;
}

}  // namespace

TEST_CASE("added tokens are found from left to right, the longest at each place") {
  const AddedTokenFinder finder({{.id = 1, .text = "ab"},
                                 {.id = 2, .text = "abcd"},
                                 {.id = 3, .text = "bcde"},
                                 {.id = 4, .text = "  "},
                                 {.id = 5, .text = "    "},
                                 {.id = 6, .text = "\u00FF"},
                                 {.id = 7, .text = "ab"}});
  CHECK(found(finder, "abcde") == "0-4:2");
  CHECK(found(finder, "abcab") == "0-2:1 3-5:1");
  CHECK(found(finder, "xbcde") == "1-5:3");
  CHECK(found(finder, "       ") == "0-4:5 4-6:4");
  CHECK(found(finder, "\u00FFa") == "0-2:6");
  CHECK(found(finder, "a").empty());
  CHECK(found(finder, "").empty());
  CHECK(found(AddedTokenFinder(), "ab").empty());
}

TEST_CASE("a token takes white space along, or stands alone, as its flags say") {
  const AddedTokenFinder finder({{.id = 1, .text = "<l>", .left_strip = true},
                                 {.id = 2, .text = "<r>", .right_strip = true},
                                 {.id = 3, .text = "word", .single_word = true},
                                 {.id = 4, .text = "  "}});
  CHECK(found(finder, "a \u00A0<l> b") == "1-7:1");
  CHECK(found(finder, "a<r>\n b") == "1-6:2");
  CHECK(found(finder, "<r> <l>") == "0-4:2 4-7:1");
  CHECK(found(finder, "word words sword \u00E9word word_ (word)") == "0-4:3 31-35:3");
  // As in the library, spaces that a token took along may be tokens themselves.
  CHECK(found(finder, "<r>  ") == "0-5:2 3-5:4");
}

TEST_CASE("a token that needs trust is found within one trusted range alone") {
  const AddedTokenFinder finder({{.id = 1, .text = "<|end|>", .needs_trust = true},
                                 {.id = 2, .text = "[e~[", .needs_trust = true},
                                 {.id = 3, .text = "<t>"},
                                 {.id = 4, .text = "x<|en"}});
  CHECK(found(finder, "<|end|>").empty());
  CHECK(found(finder, "<|end|>", {{0, 7}}) == "0-7:1");
  CHECK(found(finder, "<|end|>", {{0, 6}}).empty());
  CHECK(found(finder, "<|end|>", {{0, 3}, {3, 7}}).empty());
  CHECK(found(finder, "a<|end|><|end|>", {{0, 1}, {8, 15}}) == "8-15:1");
  CHECK(found(finder, "<t><|end|>", {{3, 10}}) == "0-3:3 3-10:1");
  // Text in front of a trusted token cannot take its start away.
  CHECK(found(finder, "[e~[e~[", {{3, 7}}) == "3-7:2");
  CHECK(found(finder, "x<|end|>", {{1, 8}}) == "1-8:1");
  CHECK(found(finder, "x<|end|>", {{0, 8}}) == "0-5:4");  // all of it is the template's own text
  CHECK(found(finder, "x<|end|>") == "0-5:4");
}

TEST_CASE("random texts: untrusted text has no influence on which trusted tokens are found") {
  std::mt19937 random(9);
  const AddedTokenFinder finder({{.id = 1, .text = "aab", .needs_trust = true},
                                 {.id = 2, .text = "ba", .needs_trust = true},
                                 {.id = 3, .text = "ab"},
                                 {.id = 4, .text = "bbaa"}});
  const auto trusted_ids = [](const std::vector<AddedTokenMatch>& matches) {
    std::vector<TokenId> ids;
    for (const AddedTokenMatch& match : matches)
      if (match.id <= 2) ids.push_back(match.id);
    return ids;
  };
  for (int round = 0; round < 3000; ++round) {
    const auto letters = [&] {
      std::string text;
      for (std::size_t count = random() % 8; count > 0; --count) text += "ab"[random() % 2];
      return text;
    };
    const std::string before = letters();
    const std::string inside = "aab";  // a trusted token that is a range of its own
    const std::string text = before + inside + letters();
    CHECK(trusted_ids(finder.find(text, Ranges{{before.size(), before.size() + inside.size()}})) ==
          std::vector<TokenId>{1});
  }
}
