#include "text/values/text_operations.h"

#include <algorithm>

#include "base/text.h"
#include "base/unicode.h"
#include "text/values/unicode.h"

namespace sluice::text::jinja {
namespace {

std::size_t first_length(std::string_view text) { return static_cast<std::size_t>(base::utf8_length(text)); }

std::size_t last_begin(std::string_view text) {
  std::size_t begin = text.size() - 1;
  while (begin > 0 && (text[begin] & 0xC0) == 0x80) --begin;
  return begin;
}

// UTF-8 of one character is never a part of another's.
bool is_one_of(std::string_view character, std::string_view characters) {
  return characters.find(character) != std::string_view::npos;
}

Value part(Machine& machine, const MarkedText& text, std::size_t begin, std::size_t end) {
  return machine.text(slice(machine.budget, text, begin, end));
}

Values split_at_spaces(Machine& machine, const MarkedText& text, std::int64_t splits_max) {
  Values parts;
  const std::string_view whole = text.text;
  std::size_t at = 0;
  const auto skip = [&] {
    while (const std::size_t bytes = space_length(whole.substr(at))) at += bytes;
  };
  for (skip(); at < whole.size(); skip()) {
    if (splits_max >= 0 && static_cast<std::int64_t>(parts.size()) == splits_max) {
      parts.push_back(part(machine, text, at, whole.size()));
      break;
    }
    const std::size_t begin = at;
    while (at < whole.size() && space_length(whole.substr(at)) == 0) at += first_length(whole.substr(at));
    parts.push_back(part(machine, text, begin, at));
  }
  return parts;
}

Values split_at_spaces_from_right(Machine& machine, const MarkedText& text, std::int64_t splits_max) {
  Values parts;
  std::string_view rest = text.text;
  const auto skip = [&] {
    while (const std::size_t bytes = last_space_length(rest)) rest.remove_suffix(bytes);
  };
  for (skip(); !rest.empty(); skip()) {
    if (splits_max >= 0 && static_cast<std::int64_t>(parts.size()) == splits_max) {
      parts.push_back(part(machine, text, 0, rest.size()));
      break;
    }
    const std::size_t end = rest.size();
    while (!rest.empty() && last_space_length(rest) == 0) rest = rest.substr(0, last_begin(rest));
    parts.push_back(part(machine, text, rest.size(), end));
  }
  std::ranges::reverse(parts);
  return parts;
}

Values split_at(Machine& machine, const MarkedText& text, std::string_view separator,
                std::int64_t splits_max) {
  Values parts;
  std::size_t begin = 0;
  while (splits_max < 0 || static_cast<std::int64_t>(parts.size()) < splits_max) {
    const std::size_t found = text.text.find(separator, begin);
    if (found == std::string::npos) break;
    parts.push_back(part(machine, text, begin, found));
    begin = found + separator.size();
  }
  parts.push_back(part(machine, text, begin, text.text.size()));
  return parts;
}

Values split_at_from_right(Machine& machine, const MarkedText& text, std::string_view separator,
                           std::int64_t splits_max) {
  Values parts;
  std::size_t end = text.text.size();
  while (splits_max < 0 || static_cast<std::int64_t>(parts.size()) < splits_max) {
    if (end < separator.size()) break;
    const std::size_t found = text.text.rfind(separator, end - separator.size());
    if (found == std::string::npos) break;
    parts.push_back(part(machine, text, found + separator.size(), end));
    end = found;
  }
  parts.push_back(part(machine, text, 0, end));
  std::ranges::reverse(parts);
  return parts;
}

// True for characters that Unicode's rule for the Greek letter sigma passes over.
bool is_case_ignorable(char32_t character) {
  constexpr std::u32string_view kPunctuation =
      U"'.:^`\u00A8\u00AD\u00AF\u00B4\u00B7\u00B8\u2018\u2019\u2024\u2027";
  return kPunctuation.find(character) != std::u32string_view::npos ||
         base::character_class(character) == base::CharacterClass::ignorable_for_case;
}

bool is_cased(char32_t character) { return base::letter_case(character) != base::LetterCase::none; }

// Unicode 15, table 3-17, Final_Sigma, for the sigma between `before` and `after`.
bool is_final_sigma(std::string_view before, std::string_view after) {
  char32_t neighbour = 0;
  while (!before.empty()) {
    const std::size_t begin = last_begin(before);
    neighbour = base::decode_utf8(before.substr(begin));
    before = before.substr(0, begin);
    if (!is_case_ignorable(neighbour)) break;
    neighbour = 0;
  }
  if (neighbour == 0 || !is_cased(neighbour)) return false;
  while (!after.empty()) {
    const std::size_t bytes = first_length(after);
    const char32_t next = base::decode_utf8(after.substr(0, bytes));
    if (!is_case_ignorable(next)) return !is_cased(next);
    after.remove_prefix(bytes);
  }
  return true;
}

}  // namespace

MarkedText strip(Machine& machine, const MarkedText& text, std::optional<std::string_view> characters,
                 Side side) {
  std::string_view rest = text.text;
  const auto passes = [&](std::string_view character) {
    machine.budget.step(characters ? characters->size() / 64 : 0);
    return characters ? is_one_of(character, *characters) : space_length(character) != 0;
  };
  if (side != Side::left)
    while (!rest.empty() && passes(rest.substr(last_begin(rest)))) rest = rest.substr(0, last_begin(rest));
  const std::size_t end = rest.size();
  if (side != Side::right)
    while (!rest.empty() && passes(rest.substr(0, first_length(rest))))
      rest.remove_prefix(first_length(rest));
  return slice(machine.budget, text, end - rest.size(), end);
}

Values split(Machine& machine, const MarkedText& text, std::optional<std::string_view> separator,
             std::int64_t splits_max, Side side) {
  machine.budget.step(text.text.size() / 64);
  if (!separator)
    return side == Side::right ? split_at_spaces_from_right(machine, text, splits_max)
                               : split_at_spaces(machine, text, splits_max);
  if (separator->empty()) fail("empty separator");
  return side == Side::right ? split_at_from_right(machine, text, *separator, splits_max)
                             : split_at(machine, text, *separator, splits_max);
}

Values split_lines(Machine& machine, const MarkedText& text, bool keep_ends) {
  Values lines;
  const std::string_view whole = text.text;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < whole.size();) {
    const std::size_t bytes = line_end_length(whole.substr(at));
    if (bytes == 0) {
      at += first_length(whole.substr(at));
      continue;
    }
    lines.push_back(part(machine, text, begin, keep_ends ? at + bytes : at));
    at += bytes;
    begin = at;
  }
  if (begin < whole.size()) lines.push_back(part(machine, text, begin, whole.size()));
  return lines;
}

MarkedText replace(Machine& machine, const MarkedText& text, std::string_view before, const MarkedText& after,
                   std::int64_t count) {
  machine.budget.step(text.text.size() / 64);
  MarkedBuilder builder(machine.budget);
  std::size_t done = 0;
  if (before.empty()) {
    // Python puts the replacement between all characters.
    for (std::size_t at = 0; count != 0; --count) {
      machine.budget.step();
      builder.append(after);
      if (at >= text.text.size()) break;
      at += first_length(std::string_view(text.text).substr(at));
      builder.append(text, done, at);
      done = at;
    }
  } else {
    for (; count != 0; --count) {
      const std::size_t found = text.text.find(before, done);
      if (found == std::string::npos) break;
      machine.budget.step();
      builder.append(text, done, found);
      builder.append(after);
      done = found + before.size();
    }
  }
  builder.append(text, done, text.text.size());
  return builder.take();
}

MarkedText join(Machine& machine, const MarkedText& separator, const Values& items) {
  MarkedBuilder builder(machine.budget);
  bool first = true;
  for (const Value& item : items) {
    machine.budget.step();
    if (!first) builder.append(separator);
    first = false;
    builder.append(to_text(machine, item));
  }
  return builder.take();
}

MarkedText change_case(Machine& machine, const MarkedText& text, CaseChange change) {
  MarkedBuilder builder(machine.budget);
  const std::string_view whole = text.text;
  machine.budget.step(whole.size() / 4);
  bool begins = true;
  for (std::size_t at = 0; at < whole.size();) {
    const std::size_t bytes = first_length(whole.substr(at));
    const char32_t character = base::decode_utf8(whole.substr(at, bytes));
    std::string changed;
    if (change == CaseChange::upper) {
      changed = base::upper_case(character);
    } else if (begins && change != CaseChange::lower) {
      changed = base::title_case(character);
    } else if (character == U'\u03A3') {
      changed = is_final_sigma(whole.substr(0, at), whole.substr(at + bytes)) ? "\u03C2" : "\u03C3";
    } else {
      changed = base::lower_case(character);
    }
    begins = change == CaseChange::title && !is_cased(character);
    builder.append(changed, is_trusted(text, at));
    at += bytes;
  }
  return builder.take();
}

std::int64_t character_index(std::string_view text, std::size_t offset) {
  return std::ranges::count_if(text.substr(0, offset), [](char byte) { return (byte & 0xC0) != 0x80; });
}

}  // namespace sluice::text::jinja
