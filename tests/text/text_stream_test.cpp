#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "base/text.h"
#include "text/text.h"

using namespace sluice::text;

namespace {

/// A vocabulary of the given pieces; it cannot encode.
class PieceTokenizer final : public Tokenizer {
 public:
  explicit PieceTokenizer(std::vector<std::string> pieces) : pieces_(std::move(pieces)) {}
  std::vector<TokenId> encode(std::string_view) const override { return {}; }
  std::vector<TokenId> encode(std::string_view, std::span<const TextRange>) const override { return {}; }
  std::string piece_bytes(TokenId id) const override { return pieces_[static_cast<std::size_t>(id)]; }
  std::size_t size() const override { return pieces_.size(); }
  std::optional<TokenId> bos() const override { return std::nullopt; }
  TokenId eos() const override { return -1; }
  std::span<const TokenId> end_ids() const override { return {}; }
  std::optional<TokenId> control_id(std::string_view) const override { return std::nullopt; }
  std::string control_text(TokenId) const override { return {}; }

 private:
  std::vector<std::string> pieces_;
};

/// All text that is shown for these pieces, each a token. Every part of it is valid UTF-8.
std::string shown(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  const PieceTokenizer tokenizer(pieces);
  TextStream stream(tokenizer, stops);
  std::string text;
  const auto show = [&](const std::string& part) {
    CHECK(sluice::base::is_utf8(part));
    text += part;
  };
  for (std::size_t i = 0; i < pieces.size(); ++i) show(stream.add(static_cast<TokenId>(i)));
  show(stream.finish());
  return text;
}

std::vector<std::string> cut_into_bytes(const std::string& text) {
  std::vector<std::string> bytes;
  for (const char c : text) bytes.emplace_back(1, c);
  return bytes;
}

/// The definition: the shortest beginning of the text that ends with a stop text, without that stop text.
std::string cut_plainly(const std::vector<std::string>& stops, const std::string& text) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::size_t longest = 0;
    for (const std::string& stop : stops)
      if (std::string_view(text).substr(0, end).ends_with(stop)) longest = std::max(longest, stop.size());
    if (longest > 0) return text.substr(0, end - longest);
  }
  return text;
}

}  // namespace

TEST_CASE("a character is shown with the token that completes it") {
  const PieceTokenizer tokenizer({"a\xF0", "\x9F", "\x98", "\x80 b\xC3", "\xA9"});  // a😀 bé
  TextStream stream(tokenizer);
  CHECK(stream.add(0) == "a");
  CHECK(stream.add(1) == "");
  CHECK(stream.add(2) == "");
  CHECK(stream.add(3) == "😀 b");
  CHECK(stream.add(4) == "é");
  CHECK(stream.finish() == "");
}

TEST_CASE("characters that are cut at any two bytes come out whole") {
  const std::string text = "é–中😀ß";
  for (std::size_t first = 0; first <= text.size(); ++first) {
    for (std::size_t second = first; second <= text.size(); ++second)
      CHECK(shown({}, {text.substr(0, first), text.substr(first, second - first), text.substr(second)}) ==
            text);
  }
  CHECK(shown({}, cut_into_bytes(text)) == text);
}

TEST_CASE(
    "bytes that can never become a character are replaced, as many at once as a character may begin with") {
  CHECK(shown({}, {"a\xFF", "b"}) == "a\uFFFDb");
  CHECK(shown({}, {"\x80\x80"}) == "\uFFFD\uFFFD");
  CHECK(shown({}, {"\xC3", "a"}) == "\uFFFDa");                // a character that is broken off
  CHECK(shown({}, {"\xED\xA0\x80"}) == "\uFFFD\uFFFD\uFFFD");  // a surrogate
  CHECK(shown({}, {"\xC0\xAF"}) == "\uFFFD\uFFFD");            // a '/' that is too long
  CHECK(shown({}, {"a", "\xF0\x9F\x98"}) == "a\uFFFD");        // the text ends within a character
  CHECK(shown({}, {"\xEF", "\x99", " b"}) == "\uFFFD b");      // two bytes of a character of three
}

TEST_CASE("text that could become a stop text is held back, and shown when it does not") {
  const std::vector<std::string> stops = {"\n\nUser:"};
  const PieceTokenizer tokenizer(
      {"Hello", " there\n", "\nUs", "ual", "\n\n\nUser", ": not shown", "nor this"});
  TextStream stream(tokenizer, stops);
  CHECK(stream.add(0) == "Hello");
  CHECK(stream.add(1) == " there");
  CHECK(stream.add(2) == "");
  CHECK(stream.add(3) == "\n\nUsual");
  CHECK(stream.add(4) == "\n");
  CHECK(!stream.stopped());
  CHECK(stream.add(5) == "");
  CHECK(stream.stopped());
  CHECK(stream.add(6) == "");
  CHECK(stream.finish() == "");
}

TEST_CASE("a text that ends within a stop text is shown whole") {
  CHECK(shown({"stop"}, {"a st", "o"}) == "a sto");
  CHECK(shown({}, {"a", "b"}) == "ab");
}

TEST_CASE("of overlapping stop texts the one that is complete first ends the text") {
  CHECK(shown({"abcd", "bc"}, {"abcd"}) == "a");
  CHECK(shown({"c", "bc"}, {"abc"}) == "a");
  CHECK(shown({"aab"}, {"a", "a", "a", "b"}) == "a");
  CHECK(shown({"abab", "b!"}, {"xab", "ab"}) == "x");
}

TEST_CASE("a stop text may begin and end in the middle of a token's bytes") {
  const std::vector<std::string> stops = {"中😀"};
  CHECK(shown(stops, cut_into_bytes("a中😀b")) == "a");
  CHECK(shown(stops, cut_into_bytes("a中😁b")) == "a中😁b");  // differs in the last byte
  CHECK(shown(stops, {"a\xE4\xB8", "\xAD\xF0\x9F\x98", "\x80z"}) == "a");
  CHECK(shown({"\uFFFD"}, {"ab", "\xF0\x9F"}) == "ab");  // completed by the end of the text
}

TEST_CASE("the result is that of the definition, however the text is cut into tokens") {
  std::mt19937_64 random(11);
  const auto word = [&](std::size_t length_max) {
    std::string text;
    for (std::size_t left = 1 + random() % length_max; left > 0; --left)
      text += random() % 2 == 0 ? "a" : "é";
    return text;
  };
  int found = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops;
    for (std::uint64_t i = random() % 4; i > 0; --i) stops.push_back(word(6));
    const std::string text = word(24);
    std::vector<std::string> pieces;
    for (std::size_t at = 0; at < text.size(); at += pieces.back().size())
      pieces.push_back(text.substr(at, 1 + random() % 5));
    const std::string expected = cut_plainly(stops, text);
    REQUIRE(shown(stops, pieces) == expected);
    found += expected != text;
  }
  CHECK(found > 1000);
}
