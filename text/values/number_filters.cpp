// Filters that give numbers.

#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <optional>

#include "base/ascii.h"
#include "text/values/filters.h"
#include "text/values/text_operations.h"

namespace sluice::text::jinja {
namespace {

// Removes the underscores between digits that Python allows; nothing when there are others.
std::optional<std::string> without_underscores(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      result += text[i];
    } else if (i == 0 || i + 1 == text.size() || !base::is_alphanumeric(text[i - 1]) ||
               !base::is_alphanumeric(text[i + 1])) {
      return std::nullopt;
    }
  }
  return result;
}

// int(text, base); nothing for text that is no number.
std::optional<std::int64_t> parse_int(Machine& machine, const MarkedText& text, std::int64_t base) {
  if (base != 0 && (base < 2 || base > 36)) return std::nullopt;
  const MarkedText stripped = strip(machine, text, std::nullopt, Side::both);
  const auto plain = without_underscores(stripped.text);
  if (!plain || plain->empty()) return std::nullopt;
  std::string_view digits = *plain;
  const bool negative = digits[0] == '-';
  if (negative || digits[0] == '+') digits.remove_prefix(1);
  const auto has_prefix = [&](char letter, std::int64_t of) {
    return (base == of || base == 0) && digits.size() > 2 && digits[0] == '0' &&
           base::to_lower(digits[1]) == letter;
  };
  const std::int64_t prefixed = has_prefix('x', 16)  ? 16
                                : has_prefix('o', 8) ? 8
                                : has_prefix('b', 2) ? 2
                                                     : 0;
  if (prefixed != 0) {
    base = prefixed;
    digits.remove_prefix(2);
  } else if (base == 0) {
    if (digits.size() > 1 && digits[0] == '0' && digits.find_first_not_of('0') != std::string_view::npos)
      return std::nullopt;
    base = 10;
  }
  if (digits.empty() || digits[0] == '-') return std::nullopt;
  std::string signed_digits = (negative ? "-" : "") + std::string(digits);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(signed_digits.data(), signed_digits.data() + signed_digits.size(),
                                            value, static_cast<int>(base));
  if (end != signed_digits.data() + signed_digits.size() || error == std::errc::invalid_argument)
    return std::nullopt;
  if (error != std::errc{}) fail("an integer does not fit 64 bits");
  return value;
}

// float(text); nothing for text that is no number.
std::optional<double> parse_float(Machine& machine, const MarkedText& text) {
  const auto plain = without_underscores(strip(machine, text, std::nullopt, Side::both).text);
  if (!plain) return std::nullopt;
  const std::string lower = base::to_lower(*plain);
  std::string_view digits = lower;
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.remove_prefix(1);
  if (digits == "inf" || digits == "infinity")
    return negative ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  if (digits == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (digits.empty() || (!base::is_digit(digits[0]) && digits[0] != '.')) return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error == std::errc::invalid_argument || end != digits.data() + digits.size()) return std::nullopt;
  if (error == std::errc::result_out_of_range) value = std::strtod(std::string(digits).c_str(), nullptr);
  return negative ? -value : value;
}

std::int64_t truncate(double value) {
  if (std::isnan(value)) fail("cannot convert float NaN to integer");
  if (!(value > -9223372036854775808.0 && value < 9223372036854775808.0))
    fail("an integer does not fit 64 bits");
  return static_cast<std::int64_t>(value);
}

Value filter_int(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter int", {"default", "base"});
  const Value fallback = bound.get(0) != nullptr ? bound.at(0) : Value(std::int64_t{0});
  if (subject.is_integral()) return subject.integer();
  if (subject.is_float()) return std::isnan(subject.number()) ? fallback : Value(truncate(subject.number()));
  if (subject.is_undefined()) fail(subject.undefined_reason());
  if (!subject.is_string()) return fallback;
  if (const auto value = parse_int(machine, subject.marked(), bound.integer(1, 10))) return *value;
  const auto number = parse_float(machine, subject.marked());
  if (!number || std::isnan(*number)) return fallback;
  return truncate(*number);
}

Value filter_float(Machine& machine, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter float", {"default"});
  const Value fallback = bound.get(0) != nullptr ? bound.at(0) : Value(0.0);
  if (subject.is_number()) return subject.number();
  if (subject.is_undefined()) fail(subject.undefined_reason());
  if (!subject.is_string()) return fallback;
  const auto number = parse_float(machine, subject.marked());
  return number ? Value(*number) : fallback;
}

Value filter_abs(Machine&, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter abs", {});
  if (subject.is_float()) return std::fabs(subject.number());
  if (subject.is_integral()) return subject.integer() < 0 ? negate(subject) : Value(subject.integer());
  if (subject.is_undefined()) fail(subject.undefined_reason());
  fail("bad operand type for abs(): '" + std::string(subject.type_name()) + "'");
}

// round(value, digits): the decimal digits are exact before they are cut, so halves go to the even digit only
// where the value is a half exactly. printf does the same.
double round_common(double value, std::int64_t digits) {
  constexpr std::int64_t kDigitsMax = 300;
  if (digits < 0) fail("rounding before the point is not supported");
  if (!std::isfinite(value) || digits > kDigitsMax) return value;
  char text[700];
  std::snprintf(text, sizeof(text), "%.*f", static_cast<int>(digits), value);
  return std::strtod(text, nullptr);
}

Value filter_round(Machine&, const Value& subject, const Arguments& arguments) {
  const Bound bound(arguments, "the filter round", {"precision", "method"});
  const std::int64_t precision = bound.integer(0, 0);
  const std::string method = bound.get(1) == nullptr ? "common" : bound.text(1).text;
  if (subject.is_undefined()) fail(subject.undefined_reason());
  if (!subject.is_number())
    fail("the filter round: expected a number, found " + std::string(subject.type_name()));
  if (method == "common") {
    if (subject.is_float()) return round_common(subject.number(), precision);
    if (precision < 0) fail("rounding before the point is not supported");
    return subject.integer();
  }
  if (method != "ceil" && method != "floor") fail("method must be common, ceil or floor");
  if (precision < 0 || precision > 15) fail("the filter round: a precision of 0 to 15 is supported");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = subject.number() * scale;
  if (!(std::fabs(scaled) < 9007199254740992.0)) fail("the filter round: a number is out of range");
  return (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale;
}

constexpr std::array<NamedFilter, 4> kFilters = {{
    {"abs", &filter_abs},
    {"float", &filter_float},
    {"int", &filter_int},
    {"round", &filter_round},
}};

}  // namespace

Filter find_number_filter(std::string_view name) { return find_in(kFilters, name); }

}  // namespace sluice::text::jinja
