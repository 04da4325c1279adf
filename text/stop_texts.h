#pragma once
// Ends a text where one of some strings comes up in it.

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::text {

/// Takes a text in pieces. What could become the start of a stop text is held back, so that nothing of a stop
/// text is ever shown. The text ends before the stop text that is complete first; of two that end together,
/// before the longer one. How the text was cut into pieces does not matter.
class StopTexts {
 public:
  /// None of them empty.
  explicit StopTexts(std::span<const std::string> stops) : stops_(stops.begin(), stops.end()) {}

  /// What may be shown now. Not to be called any more once found().
  [[nodiscard]] std::string add(std::string_view text);
  [[nodiscard]] bool found() const { return found_; }
  /// What is still held back when the text has ended otherwise.
  [[nodiscard]] std::string finish();

 private:
  [[nodiscard]] std::size_t held_back() const;

  std::vector<std::string> stops_;
  std::string pending_;
  bool found_ = false;
};

}  // namespace sluice::text
