#include "text/values/marked.h"

#include <algorithm>

namespace sluice::text::jinja {
namespace {

// The first range that ends behind `offset`.
auto first_range(const MarkedText& text, std::size_t offset) {
  return std::ranges::upper_bound(text.trusted, offset, {}, &TextRange::end);
}

}  // namespace

void MarkedBuilder::mark(std::size_t begin, std::size_t end) {
  if (begin == end) return;
  auto& ranges = text_.trusted;
  if (!ranges.empty() && ranges.back().end == begin) {
    ranges.back().end = end;
    return;
  }
  budget_.make(sizeof(TextRange));
  ranges.push_back({begin, end});
}

void MarkedBuilder::append(std::string_view text, bool trusted) {
  if (text.size() > kTextBytesMax - text_.text.size())
    fail("a text is longer than " + std::to_string(kTextBytesMax) + " bytes");
  budget_.make(text.size());
  const std::size_t begin = text_.text.size();
  text_.text += text;
  if (trusted) mark(begin, text_.text.size());
}

void MarkedBuilder::append(const MarkedText& text, std::size_t begin, std::size_t end) {
  const std::size_t base = text_.text.size();
  append(std::string_view(text.text).substr(begin, end - begin), false);
  for (auto range = first_range(text, begin); range != text.trusted.end() && range->begin < end; ++range)
    mark(base + std::max(range->begin, begin) - begin, base + std::min(range->end, end) - begin);
}

MarkedText slice(Budget& budget, const MarkedText& text, std::size_t begin, std::size_t end) {
  MarkedBuilder builder(budget);
  builder.append(text, begin, end);
  return builder.take();
}

bool is_trusted(const MarkedText& text, std::size_t offset) {
  const auto range = first_range(text, offset);
  return range != text.trusted.end() && range->begin <= offset;
}

MarkedText marked(std::string text, bool trusted) {
  MarkedText result{.text = std::move(text), .trusted = {}};
  if (trusted && !result.text.empty()) result.trusted.push_back({0, result.text.size()});
  return result;
}

}  // namespace sluice::text::jinja
