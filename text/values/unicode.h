#pragma once
// Python's notions of white space and line ends in UTF-8 text.

#include <cstddef>
#include <string>
#include <string_view>

namespace sluice::text::jinja {

/// Length in bytes of the white space character (str.isspace) at the start of `text`; 0 when it is another.
[[nodiscard]] std::size_t space_length(std::string_view text);
/// Length in bytes of the white space character at the end of `text`.
[[nodiscard]] std::size_t last_space_length(std::string_view text);
/// Length in bytes of the line end (str.splitlines) at the start of `text`.
[[nodiscard]] std::size_t line_end_length(std::string_view text);

void append_utf8(std::string& text, char32_t code_point);

}  // namespace sluice::text::jinja
