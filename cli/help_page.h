#pragma once
// Lays out the text of --help: options in groups, lines wrapped between words.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::cli {

struct HelpEntry {
  std::string names;  ///< "-o, --output FILE"
  std::string text;
};

struct HelpGroup {
  std::string title;
  std::vector<HelpEntry> entries;
};

struct HelpPage {
  std::string summary;
  std::string usage;  ///< "sluice run MODEL [OPTIONS]"
  std::vector<HelpGroup> groups;
  std::vector<std::string> examples;  ///< never wrapped, so that they can be copied
  std::vector<std::string> closing;   ///< paragraphs after the examples
  std::size_t text_column = 30;  ///< where the texts of entries begin; longer names have a line of their own
};

/// `text` in lines of at most `columns` characters, each after `indent` spaces and with a line end. A word
/// that is longer than a line has a line of its own.
[[nodiscard]] std::string wrap(std::string_view text, std::size_t columns, std::size_t indent = 0);

[[nodiscard]] std::string lay_out(const HelpPage& page, std::size_t columns);

/// Columns for help on stdout: the terminal's, at most 100 because longer lines are hard to read; 80 when
/// stdout is not a terminal.
[[nodiscard]] std::size_t help_columns();

}  // namespace sluice::cli
