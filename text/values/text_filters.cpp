// Filters that give text, and those that are for values of any kind.

#include <algorithm>
#include <optional>

#include "text/values/filters.h"
#include "text/values/text_operations.h"

namespace sluice::text::jinja {
namespace {

template <CaseChange change>
Value filter_case(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter", {});
  return machine.text(change_case(machine, to_text(machine, subject), change));
}

// Jinja's words begin behind white space, "-", "(", "{", "[" and "<", other than those of str.title().
Value filter_title(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter title", {});
  const MarkedText text = to_text(machine, subject);
  MarkedBuilder builder(machine.budget);
  std::size_t begin = 0;
  const auto is_break = [&](std::size_t at) {
    return std::string_view("-({[<").find(text.text[at]) != std::string_view::npos ||
           !strip(machine, slice(machine.budget, text, at, at + 1), std::nullopt, Side::left).text.size();
  };
  const auto append_word = [&](std::size_t end) {
    if (begin == end) return;
    std::size_t first = begin + 1;
    while (first < end && (text.text[first] & 0xC0) == 0x80) ++first;
    builder.append(change_case(machine, slice(machine.budget, text, begin, first), CaseChange::upper));
    builder.append(change_case(machine, slice(machine.budget, text, first, end), CaseChange::lower));
  };
  for (std::size_t at = 0; at < text.text.size(); ++at) {
    if (static_cast<unsigned char>(text.text[at]) >= 0x80 || !is_break(at)) continue;
    append_word(at);
    builder.append(text, at, at + 1);
    begin = at + 1;
  }
  append_word(text.text.size());
  return machine.text(builder.take());
}

Value filter_trim(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter trim", {"chars"});
  std::optional<std::string_view> characters;
  if (bound.given(0)) characters = bound.text(0).text;
  return machine.text(strip(machine, to_text(machine, subject), characters, Side::both));
}

Value filter_replace(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter replace", {"old", "new", "count"}, 2);
  const std::int64_t count = bound.given(2) ? bound.integer(2, -1) : -1;
  return machine.text(replace(machine, to_text(machine, subject), to_text(machine, bound.at(0)).text,
                              to_text(machine, bound.at(1)), count));
}

Value filter_indent(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter indent", {"width", "first", "blank"});
  MarkedText indention;
  if (bound.get(0) != nullptr && bound.at(0).is_string()) {
    indention = bound.text(0);
  } else {
    const std::int64_t width = std::max<std::int64_t>(bound.integer(0, 4), 0);
    if (static_cast<std::uint64_t>(width) > kTextBytesMax)
      fail("a text is longer than " + std::to_string(kTextBytesMax) + " bytes");
    indention = marked(std::string(static_cast<std::size_t>(width), ' '), false);
  }
  if (!subject.is_string())
    fail("the filter indent: expected a text, found " + std::string(subject.type_name()));
  MarkedBuilder whole(machine.budget);
  whole.append(subject.marked());
  whole.append("\n", false);
  const Values lines = split_lines(machine, whole.text(), false);
  MarkedBuilder builder(machine.budget);
  const bool blank = bound.flag(2, false);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) builder.append("\n", false);
    const bool indented = i == 0 ? bound.flag(1, false) : blank || !lines[i].text().empty();
    if (indented) builder.append(indention);
    builder.append(lines[i].marked());
  }
  return machine.text(builder.take());
}

Value filter_string(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter string", {});
  return subject.is_string() ? subject : machine.text(to_text(machine, subject));
}

Value filter_safe(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter safe", {});
  return make_string(machine.budget, to_text(machine, subject), true);
}

Value filter_default(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter default", {"default_value", "boolean"});
  if (!subject.is_undefined() && (!bound.flag(1, false) || truth(subject))) return subject;
  return bound.get(0) != nullptr ? bound.at(0) : machine.text({});
}

constexpr std::array<NamedFilter, 12> kFilters = {{
    {"capitalize", &filter_case<CaseChange::capitalize>},
    {"d", &filter_default},
    {"default", &filter_default},
    {"indent", &filter_indent},
    {"lower", &filter_case<CaseChange::lower>},
    {"replace", &filter_replace},
    {"safe", &filter_safe},
    {"string", &filter_string},
    {"title", &filter_title},
    {"tojson", &to_json},
    {"trim", &filter_trim},
    {"upper", &filter_case<CaseChange::upper>},
}};

}  // namespace

Filter find_text_filter(std::string_view name) { return find_in(kFilters, name); }

Value apply_filter(Machine& machine, std::string_view name, const Value& subject,
                   const Arguments& arguments) {
  Filter filter = find_text_filter(name);
  if (filter == nullptr) filter = find_sequence_filter(name);
  if (filter == nullptr) filter = find_number_filter(name);
  if (filter == nullptr)
    fail("the filter '" + std::string(name.substr(0, 80)) + "' is unknown or not supported");
  if (subject.is_safe() && name != "safe" && name != "string" && name != "tojson" && name != "length" &&
      name != "count" && name != "default" && name != "d")
    fail("the filter '" + std::string(name) + "' is not supported for text from the filter 'safe'");
  return filter(machine, subject, arguments);
}

}  // namespace sluice::text::jinja
