#pragma once
// Operations on texts that filters and methods share. All keep the marks of their parts.

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/unicode.h"
#include "text/values/machine.h"

namespace sluice::text::jinja {

enum class Side : std::uint8_t { left, right, both };

/// Without the characters of `characters` at the given ends; without white space when there are none given.
[[nodiscard]] MarkedText strip(Machine& machine, const MarkedText& text,
                               std::optional<std::string_view> characters, Side side);
/// The parts between separators, at most `splits_max` + 1 of them when that is not negative; from the right
/// when `side` is right. Without separator the parts between runs of white space.
[[nodiscard]] Values split(Machine& machine, const MarkedText& text,
                           std::optional<std::string_view> separator, std::int64_t splits_max, Side side);
[[nodiscard]] Values split_lines(Machine& machine, const MarkedText& text, bool keep_ends);
/// At most `count` replacements when that is not negative.
[[nodiscard]] MarkedText replace(Machine& machine, const MarkedText& text, std::string_view before,
                                 const MarkedText& after, std::int64_t count);
/// str(item) of all items.
[[nodiscard]] MarkedText join(Machine& machine, const MarkedText& separator, const Values& items);

enum class CaseChange : std::uint8_t {
  upper,
  lower,
  capitalize,  ///< the first character of the text in title case
  title,       ///< str.title(): the first letter of each run of letters
};
[[nodiscard]] MarkedText change_case(Machine& machine, const MarkedText& text, CaseChange change);

/// True when the text has letters of the wanted case and none of another (str.islower, str.isupper).
[[nodiscard]] bool is_all_case(std::string_view text, base::LetterCase wanted);

/// Code points before the byte at `offset`.
[[nodiscard]] std::int64_t character_index(std::string_view text, std::size_t offset);

}  // namespace sluice::text::jinja
