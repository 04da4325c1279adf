#include "text/stop_texts.h"

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

using sluice::text::StopTexts;

namespace {

/// All that is shown of a text that comes in these pieces.
std::string shown(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopTexts filter(stops);
  std::string text;
  for (const std::string& piece : pieces) {
    text += filter.add(piece);
    if (filter.found()) return text;
  }
  return text + filter.finish();
}

/// The definition: the shortest beginning of the text that ends with a stop text, without that.
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

TEST_CASE("what could become a stop text is held back, and shown when it does not") {
  const std::vector<std::string> stops = {"\n\nUser:"};
  StopTexts filter(stops);
  CHECK(filter.add("Hello") == "Hello");
  CHECK(filter.add(" there\n") == " there");
  CHECK(filter.add("\nUs") == "");
  CHECK(filter.add("ual") == "\n\nUsual");
  CHECK(filter.add("\n\n\nUser") == "\n");
  CHECK(!filter.found());
  CHECK(filter.add(": not shown") == "");
  CHECK(filter.found());
}

TEST_CASE("a text that ends within a stop text is shown whole") {
  CHECK(shown({"stop"}, {"a st", "o"}) == "a sto");
  CHECK(shown({}, {"a", "b"}) == "ab");
  CHECK(shown({"abcd", "bc"}, {"abcd"}) == "a");  // "bc" is complete first
  CHECK(shown({"c", "bc"}, {"abc"}) == "a");
}

TEST_CASE("the result is that of the definition, however the text is cut into pieces") {
  std::mt19937_64 random(11);
  const auto word = [&](std::size_t length_max) {
    std::string text(1 + random() % length_max, 'a');
    for (char& c : text) c = static_cast<char>('a' + random() % 2);
    return text;
  };
  int found = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops;
    for (std::uint64_t i = random() % 4; i > 0; --i) stops.push_back(word(6));
    std::string text;
    std::vector<std::string> pieces;
    for (int i = 0; i < 6; ++i) text += pieces.emplace_back(word(4));
    const std::string expected = cut_plainly(stops, text);
    REQUIRE(shown(stops, pieces) == expected);
    found += expected != text;
  }
  CHECK(found > 1000);
}
