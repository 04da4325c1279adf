// A mark may come in several pieces of text, so an end of the text that a mark could begin with is held back,
// and with it the line ends before a mark.

#include <algorithm>

#include "text/text.h"

namespace sluice::text {
namespace {

constexpr std::string_view kOpen = "<think>";
constexpr std::string_view kClose = "</think>";

/// Length of the longest end of `text` with which `mark` begins.
std::size_t mark_prefix_bytes(std::string_view text, std::string_view mark) {
  for (std::size_t bytes = std::min(text.size(), mark.size() - 1); bytes > 0; --bytes)
    if (mark.starts_with(text.substr(text.size() - bytes))) return bytes;
  return 0;
}

/// Length of `text` without the line ends at its end.
std::size_t without_line_ends(std::string_view text) { return text.find_last_not_of('\n') + 1; }

void append(std::vector<ThinkingSplitter::Part>& parts, std::string_view text, bool thinking) {
  if (!text.empty()) parts.push_back({std::string(text), thinking});
}

}  // namespace

std::vector<ThinkingSplitter::Part> ThinkingSplitter::add(std::string_view text) {
  held_ += text;
  std::vector<Part> parts;
  advance(false, parts);
  return parts;
}

std::vector<ThinkingSplitter::Part> ThinkingSplitter::finish() {
  std::vector<Part> parts;
  advance(true, parts);
  return parts;
}

void ThinkingSplitter::advance(bool at_end, std::vector<Part>& parts) {
  if (state_ == State::start) {
    const std::size_t begin = std::min(held_.find_first_not_of(" \t\r\n"), held_.size());
    const std::string_view text = std::string_view(held_).substr(begin);
    if (text.starts_with(kOpen)) {
      held_.erase(0, begin + kOpen.size());
      state_ = State::thinking;
    } else if (!at_end && kOpen.starts_with(text)) {
      return;
    } else {
      state_ = State::answer;
      skips_line_ends_ = false;
    }
  }
  const auto skip_line_ends = [&] {
    if (!skips_line_ends_) return;
    held_.erase(0, std::min(held_.find_first_not_of('\n'), held_.size()));
    skips_line_ends_ = held_.empty();
  };
  skip_line_ends();
  if (state_ == State::thinking) {
    const std::size_t close = held_.find(kClose);
    if (close != std::string::npos) {
      const std::string_view text = std::string_view(held_).substr(0, close);
      append(parts, text.substr(0, without_line_ends(text)), true);
      held_.erase(0, close + kClose.size());
      state_ = State::answer;
      skips_line_ends_ = true;
      skip_line_ends();
    } else {
      std::size_t certain = held_.size();
      if (!at_end)
        certain = without_line_ends(held_.substr(0, held_.size() - mark_prefix_bytes(held_, kClose)));
      append(parts, std::string_view(held_).substr(0, certain), true);
      held_.erase(0, certain);
      return;
    }
  }
  append(parts, held_, false);
  held_.clear();
}

}  // namespace sluice::text
