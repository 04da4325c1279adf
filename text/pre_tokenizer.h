#pragma once
// Pre-tokenizers: they cut a text into the pieces within which a tokenizer merges. Released tokenizers say
// how in regular expressions. There is no engine for those here: each known expression has a matcher written
// by hand, and is recognised by its exact text.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "text/text.h"

namespace sluice::text {

/// Finds the first match of an expression in `piece` at or after `from`; {size, size} where there is none. A
/// match is never empty.
using SplitFinder = TextRange (*)(std::string_view piece, std::size_t from);

/// The matcher of an expression as tokenizer.json and tekken.json spell it; nullptr for unknown ones.
[[nodiscard]] SplitFinder find_split(std::string_view expression);
/// True for a known expression that leaves nothing between its matches, whatever the text.
[[nodiscard]] bool is_partition(std::string_view expression);
/// All known expressions.
[[nodiscard]] std::vector<std::string_view> known_splits();
/// An expression with CR and LF as escapes, as messages show it.
[[nodiscard]] std::string spelled_in_one_line(std::string_view expression);
/// The splits of tokenizer.json that need no expression.
[[nodiscard]] SplitFinder byte_level_split();                    ///< ByteLevel with use_regex
[[nodiscard]] SplitFinder digits_split(bool individual_digits);  ///< Digits

/// A sequence of splits. Each one cuts every piece of the one before into its matches and what lies between
/// them ("Isolated"). Thread-safe after construction.
class PreTokenizer {
 public:
  void add_split(SplitFinder finder) { stages_.push_back({finder}); }
  /// From here on, a piece that does not begin with a space gets one.
  void add_prefix_space() { stages_.push_back({nullptr}); }

  /// Calls sink(piece) for the pieces of `text` in order. None is empty; together they are the text, but for
  /// the spaces of add_prefix_space().
  template <typename Sink>
  void cut(std::string_view text, const Sink& sink) const {
    if (!text.empty()) cut_from(0, text, sink);
  }

 private:
  struct Stage {
    SplitFinder finder;  ///< nullptr: the prefix space
  };

  template <typename Sink>
  void cut_from(std::size_t stage, std::string_view text, const Sink& sink) const {
    if (stage == stages_.size()) {
      sink(text);
      return;
    }
    const SplitFinder finder = stages_[stage].finder;
    if (finder == nullptr) {
      if (text.front() == ' ') return cut_from(stage + 1, text, sink);
      return cut_from(stage + 1, " " + std::string(text), sink);
    }
    for (std::size_t at = 0; at < text.size();) {
      const TextRange match = finder(text, at);
      if (match.begin > at) cut_from(stage + 1, text.substr(at, match.begin - at), sink);
      if (match.end > match.begin)
        cut_from(stage + 1, text.substr(match.begin, match.end - match.begin), sink);
      at = match.end;
    }
  }

  std::vector<Stage> stages_;
};

}  // namespace sluice::text
