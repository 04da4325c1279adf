// The tests of `is`.

#include <array>
#include <cmath>

#include "base/text.h"
#include "base/unicode.h"
#include "text/values/filters.h"
#include "text/values/machine.h"
#include "text/values/text_operations.h"

namespace sluice::text::jinja {
namespace {

using Predicate = bool (*)(const Value&);

bool is_sequence(const Value& value) {
  return value.is_undefined() || value.is_string() || value.mapping() != nullptr ||
         (value.sequence() != nullptr && value.sequence()->has_subscripts());
}

bool is_iterable(const Value& value) {
  return value.is_undefined() || value.is_string() || value.mapping() != nullptr ||
         value.sequence() != nullptr || value.loop() != nullptr;
}

constexpr std::array<std::pair<std::string_view, Predicate>, 15> kPredicates = {{
    {"boolean", [](const Value& value) { return value.is_bool(); }},
    // Undefined values can be called in Jinja, and fail then.
    {"callable", [](const Value& value) { return value.is_callable() || value.is_undefined(); }},
    {"defined", [](const Value& value) { return !value.is_undefined(); }},
    {"escaped", [](const Value& value) { return value.is_safe(); }},
    {"false", [](const Value& value) { return value.is_bool() && !value.is_true(); }},
    {"float", [](const Value& value) { return value.is_float(); }},
    {"integer", [](const Value& value) { return value.is_int(); }},
    {"iterable", &is_iterable},
    {"mapping", [](const Value& value) { return value.mapping() != nullptr; }},
    {"none", [](const Value& value) { return value.is_none(); }},
    {"number", [](const Value& value) { return value.is_number(); }},
    {"sequence", &is_sequence},
    {"string", [](const Value& value) { return value.is_string(); }},
    {"true", [](const Value& value) { return value.is_true(); }},
    {"undefined", [](const Value& value) { return value.is_undefined(); }},
}};

constexpr std::array<std::pair<std::string_view, std::string_view>, 16> kComparisons = {{
    {"==", "=="},
    {"eq", "=="},
    {"equalto", "=="},
    {"!=", "!="},
    {"ne", "!="},
    {">", ">"},
    {"gt", ">"},
    {"greaterthan", ">"},
    {"ge", ">="},
    {">=", ">="},
    {"<", "<"},
    {"lt", "<"},
    {"lessthan", "<"},
    {"<=", "<="},
    {"le", "<="},
    {"in", "in"},
}};

// `value is sameas true`: only for values of which Python has one object each.
bool is_same(const Value& left, const Value& right) {
  if (!right.is_none() && !right.is_bool())
    fail("the test 'sameas' is supported for true, false and none alone");
  if (right.is_none()) return left.is_none();
  return left.is_bool() && left.is_true() == right.is_true();
}

bool is_divisible(Machine& machine, const Value& value, const Value& divisor) {
  const Value rest = arithmetic(machine, "%", value, divisor);
  return rest.number() == 0;
}

bool has_remainder(Machine& machine, const Value& value, std::int64_t remainder) {
  return arithmetic(machine, "%", value, Value(std::int64_t{2})).number() == static_cast<double>(remainder);
}

}  // namespace

bool is_all_case(std::string_view text, base::LetterCase wanted) {
  bool found = false;
  while (!text.empty()) {
    const auto bytes = static_cast<std::size_t>(base::utf8_length(text));
    const base::LetterCase found_case = base::letter_case(base::decode_utf8(text.substr(0, bytes)));
    if (found_case != base::LetterCase::none && found_case != wanted) return false;
    found = found || found_case == wanted;
    text.remove_prefix(bytes);
  }
  return found;
}

bool apply_test(Machine& machine, std::string_view name, const Value& subject, const Arguments& arguments) {
  const std::string callee = "the test " + std::string(name.substr(0, 80));
  for (const auto& [known, predicate] : kPredicates) {
    if (known != name) continue;
    const Bound none(arguments, callee, {});
    return predicate(subject);
  }
  for (const auto& [known, comparison] : kComparisons)
    if (known == name)
      return holds(machine, comparison, subject, Bound(arguments, callee, {"other"}, 1).at(0));
  if (name == "sameas") return is_same(subject, Bound(arguments, callee, {"other"}, 1).at(0));
  if (name == "divisibleby")
    return is_divisible(machine, subject, Bound(arguments, callee, {"num"}, 1).at(0));
  if (name == "odd" || name == "even") {
    const Bound none(arguments, callee, {});
    return has_remainder(machine, subject, name == "odd" ? 1 : 0);
  }
  if (name == "lower" || name == "upper") {
    const Bound none(arguments, callee, {});
    return is_all_case(to_text(machine, subject).text,
                       name == "lower" ? base::LetterCase::lower : base::LetterCase::upper);
  }
  fail("the test '" + std::string(name.substr(0, 80)) + "' is unknown or not supported");
}

}  // namespace sluice::text::jinja
