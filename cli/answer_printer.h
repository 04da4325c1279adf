#pragma once
// Prints an answer as it grows: thinking dimmed, or not at all, and the answer behind it.

#include <utility>
#include <vector>

#include "cli/console.h"
#include "text/text.h"

namespace sluice::cli {

class AnswerPrinter final {
 public:
  AnswerPrinter(Console& console, bool hides_thinking) : console_(console), hides_thinking_(hides_thinking) {}

  void show(const std::vector<text::AnswerSplitter::Part>& parts);
  /// All that was shown, or would have been, as a message of the assistant.
  [[nodiscard]] text::Message take() { return std::move(answer_); }

 private:
  Console& console_;
  bool hides_thinking_;
  text::Message answer_{.role = text::Role::assistant, .content = {}};
};

}  // namespace sluice::cli
