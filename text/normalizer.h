#pragma once
// A tokenizer changes a text before it is cut: normal form C, and replacements of fixed strings. Ranges
// of the text are carried along.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/text.h"

namespace sluice::text {

/// A text and ranges in it, which ascend and do not overlap.
struct RangedText {
  std::string text;
  std::vector<TextRange> ranges;
};

/// Normal form C (Unicode UAX #15). Bytes that are no UTF-8 stay, and nothing composes across them. Where the
/// end of a range lies within a sequence of characters that becomes another one, the range shrinks.
[[nodiscard]] RangedText normalize_nfc(RangedText source);

/// A sequence of steps. Thread-safe after construction.
class Normalizer {
 public:
  void add_nfc() { steps_.push_back({Kind::nfc, {}, {}}); }
  /// Every `from`, which is not empty, becomes `to`.
  void add_replace(std::string from, std::string to) {
    steps_.push_back({Kind::replace, std::move(from), std::move(to)});
  }
  /// A text that is not empty gets `text` in front.
  void add_prepend(std::string text) { steps_.push_back({Kind::prepend, {}, std::move(text)}); }

  [[nodiscard]] bool empty() const { return steps_.empty(); }
  [[nodiscard]] RangedText apply(RangedText source) const;

 private:
  enum class Kind : std::uint8_t { nfc, replace, prepend };
  struct Step {
    Kind kind;
    std::string from;
    std::string to;
  };
  std::vector<Step> steps_;
};

}  // namespace sluice::text
