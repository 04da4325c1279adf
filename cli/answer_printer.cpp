#include "cli/answer_printer.h"

#include <string>
#include <string_view>

namespace sluice::cli {

void AnswerPrinter::show(const std::vector<text::AnswerSplitter::Part>& parts) {
  for (const auto& part : parts) {
    std::string& whole = part.thinking ? answer_.thinking : answer_.content;
    std::string_view text = part.text;
    // SentencePiece writes a space before the first word. Encoding it again would give a second one.
    if (whole.empty() && text.starts_with(' ')) text.remove_prefix(1);
    if (!part.thinking) {
      if (whole.empty() && !answer_.thinking.empty() && !hides_thinking_) console_.write_generated("\n\n");
      console_.write_generated(text);
    } else if (!hides_thinking_) {
      console_.write_dimmed(text);
    }
    whole += text;
  }
}

}  // namespace sluice::cli
