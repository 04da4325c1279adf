// Lays out help pages. Widths are counted in columns of the terminal (base::display_columns), and texts are
// wrapped between words only, so that options and paths can be copied as a whole.

#include "cli/help_page.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "base/unicode.h"

namespace sluice::cli {
namespace {

constexpr std::size_t kColumnsUnknown = 80;
constexpr std::size_t kColumnsMin = 40;
constexpr std::size_t kColumnsMax = 100;
constexpr std::size_t kEntryIndent = 2;
constexpr std::string_view kDefault = "(default: ";  // stays on one line with the value

std::string lay_out(const HelpEntry& entry, std::size_t columns, std::size_t text_column) {
  // Long names line up whether or not there is a short one before them.
  const bool long_only = entry.names.starts_with("--");
  const std::string names = std::string(kEntryIndent + (long_only ? 4 : 0), ' ') + entry.names;
  std::string text = wrap(entry.text, columns, text_column);
  // At least two spaces separate names and text; names that leave no room for them get a line of their own.
  if (base::display_columns(names) + 2 > text_column) return names + "\n" + text;
  return names + text.substr(base::display_columns(names));
}

}  // namespace

std::string wrap(std::string_view text, std::size_t columns, std::size_t indent) {
  std::string lines;
  std::string line(indent, ' ');
  // `empty` says that the line has no word yet. Such a line takes a word of any length.
  bool empty = true;
  while (!text.empty()) {
    // "(default: X)" counts as one word, because a value at the start of a line would look like a text of its
    // own.
    const std::size_t start = text.starts_with(kDefault) ? kDefault.size() : 0;
    const std::size_t length = std::min(text.find(' ', start), text.size());
    const std::string_view word = text.substr(0, length);
    text.remove_prefix(std::min(length + 1, text.size()));
    if (word.empty()) continue;
    if (!empty && base::display_columns(line) + 1 + base::display_columns(word) > columns) {
      lines += line + "\n";
      line.assign(indent, ' ');
      empty = true;
    }
    if (!empty) line += ' ';
    line += word;
    empty = false;
  }
  return lines + line + "\n";
}

std::string lay_out(const HelpPage& page, std::size_t columns) {
  std::string text = wrap(page.summary, columns) + "\nUsage: " + page.usage + "\n";
  for (const HelpGroup& group : page.groups) {
    text += "\n" + group.title + ":\n";
    for (const HelpEntry& entry : group.entries) {
      text += lay_out(entry, columns, page.text_column);
    }
  }
  text += page.examples.size() == 1 ? "\nExample:\n" : "\nExamples:\n";
  for (const std::string& example : page.examples) text += std::string(kEntryIndent, ' ') + example + "\n";
  for (const std::string& paragraph : page.closing) text += "\n" + wrap(paragraph, columns);
  return text;
}

std::size_t help_columns() {
  // A pipe or file has no size, and a terminal that does not know its own reports 0.
  struct winsize size {};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kColumnsUnknown;
  return std::clamp<std::size_t>(size.ws_col, kColumnsMin, kColumnsMax);
}

}  // namespace sluice::cli
