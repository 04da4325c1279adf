// Methods of texts, lists and mappings that leave the value as it is. The others that Python has are refused
// by name: those that change the value, as in Jinja's sandbox, and those that are not supported.

#include <algorithm>
#include <array>
#include <span>

#include "base/text.h"
#include "base/unicode.h"
#include "text/values/machine.h"
#include "text/values/text_operations.h"
#include "text/values/unicode.h"

namespace sluice::text::jinja {
namespace {

using MethodFunction = Value (*)(Machine&, const Value& self, const Arguments&);
using NamedMethod = std::pair<std::string_view, MethodFunction>;
using Names = std::span<const std::string_view>;

template <Side side>
Value strip_method(Machine& machine, const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "strip()", {"chars"});
  std::optional<std::string_view> characters;
  if (bound.given(0)) characters = bound.text(0).text;
  return machine.text(strip(machine, self.marked(), characters, side));
}

template <Side side>
Value split_method(Machine& machine, const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "split()", {"sep", "maxsplit"});
  std::optional<std::string_view> separator;
  if (bound.given(0)) separator = bound.text(0).text;
  return machine.list(split(machine, self.marked(), separator, bound.integer(1, -1), side));
}

Value splitlines_method(Machine& machine, const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "splitlines()", {"keepends"});
  return machine.list(split_lines(machine, self.marked(), bound.flag(0, false)));
}

template <CaseChange change>
Value case_method(Machine& machine, const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "the method", {});
  return machine.text(change_case(machine, self.marked(), change));
}

Value replace_method(Machine& machine, const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "replace()", {"old", "new", "count"}, 2);
  return machine.text(
      replace(machine, self.marked(), bound.text(0).text, bound.text(1), bound.integer(2, -1)));
}

Value join_method(Machine& machine, const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "join()", {"iterable"}, 1);
  const Values items = elements(machine.budget, bound.at(0));
  for (const Value& item : items)
    if (!item.is_string()) fail("join(): expected texts, found " + std::string(item.type_name()));
  return machine.text(join(machine, self.marked(), items));
}

// startswith() and endswith() take one text or a tuple of them.
template <Side side>
Value affix_method(Machine&, const Value& self, const Arguments& arguments) {
  constexpr std::string_view kName = side == Side::left ? "startswith()" : "endswith()";
  const Bound bound(arguments, kName, {"prefix"}, 1);
  const auto matches = [&](const Value& affix) {
    if (!affix.is_string())
      fail(std::string(kName) + ": expected a text or a tuple of texts, found " +
           std::string(affix.type_name()));
    return side == Side::left ? self.text().starts_with(affix.text()) : self.text().ends_with(affix.text());
  };
  const Sequence* several = bound.at(0).sequence();
  if (several == nullptr || several->kind != SequenceKind::tuple) return matches(bound.at(0));
  return std::ranges::any_of(several->items, matches);
}

template <Side side>
Value remove_affix_method(Machine& machine, const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, side == Side::left ? "removeprefix()" : "removesuffix()", {"prefix"}, 1);
  const std::string& affix = bound.text(0).text;
  const std::size_t bytes = self.text().size();
  if (side == Side::left && self.text().starts_with(affix))
    return machine.text(slice(machine.budget, self.marked(), affix.size(), bytes));
  if (side == Side::right && self.text().ends_with(affix))
    return machine.text(slice(machine.budget, self.marked(), 0, bytes - affix.size()));
  return self;
}

template <Side side, bool required>
Value find_method(Machine& machine, const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "find()", {"sub"}, 1);
  machine.budget.step(self.text().size() / 64);
  const std::string& wanted = bound.text(0).text;
  const std::size_t found = side == Side::left ? self.text().find(wanted) : self.text().rfind(wanted);
  if (found != std::string::npos) return character_index(self.text(), found);
  if (required) fail("substring not found");
  return std::int64_t{-1};
}

Value count_method(Machine& machine, const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "count()", {"sub"}, 1);
  machine.budget.step(self.text().size() / 64);
  const std::string& wanted = bound.text(0).text;
  if (wanted.empty()) return length(machine.budget, self) + 1;
  std::int64_t count = 0;
  for (std::size_t at = self.text().find(wanted); at != std::string::npos;
       at = self.text().find(wanted, at + wanted.size()))
    ++count;
  return count;
}

template <Side side>
Value partition_method(Machine& machine, const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "partition()", {"sep"}, 1);
  if (bound.text(0).text.empty()) fail("empty separator");
  Values parts = split(machine, self.marked(), bound.text(0).text, 1, side);
  const Value empty = machine.text({});
  if (parts.size() == 2) {
    parts.insert(parts.begin() + 1, bound.at(0));
  } else if (side == Side::left) {
    parts = {self, empty, empty};
  } else {
    parts = {empty, empty, self};
  }
  return machine.list(std::move(parts), SequenceKind::tuple);
}

template <bool (*predicate)(char32_t)>
Value all_method(Machine& machine, const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "the method", {});
  std::string_view text = self.text();
  machine.budget.step(text.size() / 16);
  const bool any = !text.empty();
  while (!text.empty()) {
    const auto bytes = static_cast<std::size_t>(base::utf8_length(text));
    if (!predicate(base::decode_utf8(text.substr(0, bytes)))) return false;
    text.remove_prefix(bytes);
  }
  return any;
}

bool is_letter(char32_t character) {
  return base::character_class(character) == base::CharacterClass::letter;
}

// The tables here do not say which numbers beyond the decimal ones are digits.
bool is_digit(char32_t character) {
  if (base::character_class(character) == base::CharacterClass::other_number)
    fail("isdigit() is not supported for numbers like superscripts and fractions");
  return base::character_class(character) == base::CharacterClass::decimal;
}

bool is_decimal(char32_t character) {
  return base::character_class(character) == base::CharacterClass::decimal;
}

bool is_letter_or_number(char32_t character) {
  return is_letter(character) || base::character_class(character) == base::CharacterClass::decimal ||
         base::character_class(character) == base::CharacterClass::other_number;
}

Value isspace_method(Machine&, const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "isspace()", {});
  std::string_view text = self.text();
  while (const std::size_t bytes = space_length(text)) text.remove_prefix(bytes);
  return text.empty() && !self.text().empty();
}

template <base::LetterCase wanted>
Value iscase_method(Machine&, const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "the method", {});
  return is_all_case(self.text(), wanted);
}

constexpr std::array<NamedMethod, 30> kTextMethods = {{
    {"capitalize", &case_method<CaseChange::capitalize>},
    {"count", &count_method},
    {"endswith", &affix_method<Side::right>},
    {"find", &find_method<Side::left, false>},
    {"index", &find_method<Side::left, true>},
    {"isalnum", &all_method<&is_letter_or_number>},
    {"isalpha", &all_method<&is_letter>},
    {"isdecimal", &all_method<&is_decimal>},
    {"isdigit", &all_method<&is_digit>},
    {"islower", &iscase_method<base::LetterCase::lower>},
    {"isspace", &isspace_method},
    {"isupper", &iscase_method<base::LetterCase::upper>},
    {"join", &join_method},
    {"lower", &case_method<CaseChange::lower>},
    {"lstrip", &strip_method<Side::left>},
    {"partition", &partition_method<Side::left>},
    {"removeprefix", &remove_affix_method<Side::left>},
    {"removesuffix", &remove_affix_method<Side::right>},
    {"replace", &replace_method},
    {"rfind", &find_method<Side::right, false>},
    {"rindex", &find_method<Side::right, true>},
    {"rpartition", &partition_method<Side::right>},
    {"rsplit", &split_method<Side::right>},
    {"rstrip", &strip_method<Side::right>},
    {"split", &split_method<Side::left>},
    {"splitlines", &splitlines_method},
    {"startswith", &affix_method<Side::left>},
    {"strip", &strip_method<Side::both>},
    {"title", &case_method<CaseChange::title>},
    {"upper", &case_method<CaseChange::upper>},
}};

Value get_method(Machine& machine, const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "get()", {"key", "default"}, 1);
  const Value* value = find(machine.budget, *self.mapping(), bound.at(0));
  if (value != nullptr) return *value;
  return bound.get(1) != nullptr ? bound.at(1) : Value();
}

template <SequenceKind kind>
Value view_method(Machine& machine, const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "the method", {});
  Values items;
  for (const auto& [key, value] : self.mapping()->members) {
    if (kind == SequenceKind::keys) items.push_back(key);
    if (kind == SequenceKind::values) items.push_back(value);
    if (kind == SequenceKind::items) items.push_back(machine.list({key, value}, SequenceKind::tuple));
  }
  return machine.list(std::move(items), kind);
}

Value copy_method(Machine&, const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "copy()", {});
  return self;
}

constexpr std::array<NamedMethod, 5> kMappingMethods = {{
    {"copy", &copy_method},
    {"get", &get_method},
    {"items", &view_method<SequenceKind::items>},
    {"keys", &view_method<SequenceKind::keys>},
    {"values", &view_method<SequenceKind::values>},
}};

Value count_items_method(Machine& machine, const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "count()", {"value"}, 1);
  return static_cast<std::int64_t>(std::ranges::count_if(
      self.sequence()->items, [&](const Value& item) { return equal(machine.budget, item, bound.at(0)); }));
}

Value index_of_method(Machine& machine, const Value& self, const Arguments& arguments) {
  const Bound bound(arguments, "index()", {"value"}, 1);
  const Values& items = self.sequence()->items;
  const auto found = std::ranges::find_if(
      items, [&](const Value& item) { return equal(machine.budget, item, bound.at(0)); });
  if (found == items.end()) fail("the value is not in the list");
  return static_cast<std::int64_t>(found - items.begin());
}

constexpr std::array<NamedMethod, 3> kListMethods = {{
    {"copy", &copy_method},
    {"count", &count_items_method},
    {"index", &index_of_method},
}};

// Methods that Python has in addition to those above.
constexpr std::array<std::string_view, 17> kOtherTextMethods = {
    "casefold",  "center",       "encode",    "expandtabs",  "format",  "format_map",
    "isascii",   "isidentifier", "isnumeric", "isprintable", "istitle", "ljust",
    "maketrans", "rjust",        "swapcase",  "translate",   "zfill"};
constexpr std::array<std::string_view, 6> kOtherMappingMethods = {"clear",   "fromkeys",   "pop",
                                                                  "popitem", "setdefault", "update"};
constexpr std::array<std::string_view, 8> kOtherListMethods = {"append", "clear",  "extend",  "insert",
                                                               "pop",    "remove", "reverse", "sort"};
constexpr std::array<std::string_view, 3> kRangeAttributes = {"start", "step", "stop"};
constexpr std::array<std::string_view, 2> kViewMethods = {"isdisjoint", "mapping"};
constexpr std::array<std::string_view, 8> kGeneratorMethods = {
    "close", "gi_code", "gi_frame", "gi_running", "gi_suspended", "gi_yieldfrom", "send", "throw"};
constexpr std::array<std::string_view, 12> kNumberAttributes = {
    "as_integer_ratio", "bit_count", "bit_length", "conjugate",  "denominator", "from_bytes",
    "fromhex",          "hex",       "imag",       "is_integer", "numerator",   "real"};

struct Members {
  std::span<const NamedMethod> methods;
  Names others;  ///< refused by name
};

Members members_of(const Value& object) {
  if (object.is_string()) return {kTextMethods, kOtherTextMethods};
  if (object.mapping() != nullptr) return {kMappingMethods, kOtherMappingMethods};
  if (object.is_number()) return {{}, kNumberAttributes};
  const Sequence* sequence = object.sequence();
  if (sequence == nullptr) return {};
  switch (sequence->kind) {
    case SequenceKind::list: return {kListMethods, kOtherListMethods};
    case SequenceKind::tuple: return {std::span(kListMethods).subspan(1), {}};
    case SequenceKind::range: return {std::span(kListMethods).subspan(1), kRangeAttributes};
    case SequenceKind::keys:
    case SequenceKind::values:
    case SequenceKind::items: return {{}, kViewMethods};
    case SequenceKind::generator: return {{}, kGeneratorMethods};
  }
  return {};
}

MethodFunction find_method_of(const Value& object, std::string_view name) {
  for (const auto& [known, function] : members_of(object).methods)
    if (known == name) return function;
  return nullptr;
}

}  // namespace

bool has_method(const Value& object, std::string_view name) {
  if (object.is_safe()) fail("methods of text from the filter 'safe' are not supported");
  if (find_method_of(object, name) != nullptr) return true;
  if (std::ranges::find(members_of(object).others, name) != members_of(object).others.end())
    fail("the method '" + std::string(name) + "' of the type " + std::string(object.type_name()) +
         " is not supported");
  return false;
}

Value call_method(Machine& machine, const Method& method, const Arguments& arguments) {
  // Python's other methods name no parameters.
  if (!arguments.named.empty() && method.name != "split" && method.name != "rsplit" &&
      method.name != "splitlines")
    fail(method.name + "() takes no keyword arguments");
  return find_method_of(method.self, method.name)(machine, method.self, arguments);
}

}  // namespace sluice::text::jinja
