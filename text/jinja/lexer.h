#pragma once
// Cuts a template into tokens as Jinja 3.1 does with trim_blocks and lstrip_blocks.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::text::jinja {

enum class TokenKind : std::uint8_t {
  data,  ///< text between the tags, after white space control
  variable_begin,
  variable_end,
  block_begin,
  block_end,
  name,
  integer,
  floating,
  string,  ///< with its quotes and escapes
  operation,
  end,
};

struct Token {
  TokenKind kind = TokenKind::end;
  std::uint32_t line = 1;
  std::string_view text;  ///< of the source
};

/// Line ends become \n, and one of them at the end of the template is dropped.
[[nodiscard]] std::string normalize_line_ends(std::string_view source);

/// The tokens of a normalized source, an `end` last. Error{malformed} "SUBJECT: line 3: ...".
[[nodiscard]] std::vector<Token> tokenize(std::string_view source, std::string_view subject);

/// Throws Error{malformed} "SUBJECT: line LINE: MESSAGE".
[[noreturn]] void throw_at_line(std::string_view subject, std::uint32_t line, std::string_view message);

}  // namespace sluice::text::jinja
