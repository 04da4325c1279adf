#pragma once
// Texts that know which of their bytes the template wrote. Every operation on texts is built from appending
// whole texts and slices, so that the marks follow the bytes.

#include <cstddef>
#include <string_view>

#include "text/text.h"
#include "text/values/budget.h"

namespace sluice::text::jinja {

/// Appends texts to one of at most kTextBytesMax bytes. Neighbouring trusted ranges become one.
class MarkedBuilder {
 public:
  explicit MarkedBuilder(Budget& budget) : budget_(budget) {}

  void append(std::string_view text, bool trusted);
  void append(const MarkedText& text) { append(text, 0, text.text.size()); }
  /// The bytes from `begin` up to `end` of `text`.
  void append(const MarkedText& text, std::size_t begin, std::size_t end);

  [[nodiscard]] const MarkedText& text() const { return text_; }
  [[nodiscard]] MarkedText take() { return std::move(text_); }

 private:
  void mark(std::size_t begin, std::size_t end);

  Budget& budget_;
  MarkedText text_;
};

[[nodiscard]] MarkedText slice(Budget& budget, const MarkedText& text, std::size_t begin, std::size_t end);

/// True when the template wrote the byte at `offset`.
[[nodiscard]] bool is_trusted(const MarkedText& text, std::size_t offset);

/// All of `text` written by the template, or nothing of it.
[[nodiscard]] MarkedText marked(std::string text, bool trusted);

}  // namespace sluice::text::jinja
