// Python's operators on numbers, texts and sequences.

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "text/values/machine.h"

namespace sluice::text::jinja {
namespace {

[[noreturn]] void fail_types(std::string_view operation, const Value& left, const Value& right) {
  if (left.is_undefined()) fail(left.undefined_reason());
  if (right.is_undefined()) fail(right.undefined_reason());
  fail("unsupported operand types for " + std::string(operation) + ": '" + std::string(left.type_name()) +
       "' and '" + std::string(right.type_name()) + "'");
}

[[noreturn]] void fail_overflow() { fail("an integer does not fit 64 bits"); }

std::int64_t floor_divide(std::int64_t left, std::int64_t right) {
  if (right == 0) fail("integer division or modulo by zero");
  if (right == -1) {
    if (left == std::numeric_limits<std::int64_t>::min()) fail_overflow();
    return -left;
  }
  const std::int64_t quotient = left / right;
  return left % right != 0 && (left < 0) != (right < 0) ? quotient - 1 : quotient;
}

std::int64_t floor_modulo(std::int64_t left, std::int64_t right) {
  if (right == 0) fail("integer division or modulo by zero");
  if (right == -1) return 0;
  const std::int64_t rest = left % right;
  return rest != 0 && (rest < 0) != (right < 0) ? rest + right : rest;
}

Value integer_power(std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) fail("0.0 cannot be raised to a negative power");
    return std::pow(static_cast<double>(base), static_cast<double>(exponent));
  }
  std::int64_t result = 1;
  if (base == 0 || base == 1) return exponent == 0 ? result : base;
  if (base == -1) return std::int64_t{exponent % 2 == 0 ? 1 : -1};
  // More than 63 factors of at least 2 overflow.
  for (std::int64_t i = 0; i < exponent; ++i)
    if (__builtin_mul_overflow(result, base, &result)) fail_overflow();
  return result;
}

Value integer_arithmetic(std::string_view operation, std::int64_t left, std::int64_t right) {
  std::int64_t result = 0;
  if (operation == "+") {
    if (__builtin_add_overflow(left, right, &result)) fail_overflow();
  } else if (operation == "-") {
    if (__builtin_sub_overflow(left, right, &result)) fail_overflow();
  } else if (operation == "*") {
    if (__builtin_mul_overflow(left, right, &result)) fail_overflow();
  } else if (operation == "//") {
    result = floor_divide(left, right);
  } else if (operation == "%") {
    result = floor_modulo(left, right);
  } else if (operation == "/") {
    if (right == 0) fail("division by zero");
    // Two roundings of integers beyond 2^53 could differ from Python's one.
    constexpr std::int64_t kExact = std::int64_t{1} << 53;
    if (left > kExact || left < -kExact || right > kExact || right < -kExact)
      fail("a division of integers beyond 2^53 is not supported");
    return static_cast<double>(left) / static_cast<double>(right);
  } else {
    return integer_power(left, right);
  }
  return result;
}

// CPython's float_divmod.
double float_modulo(double left, double right) {
  double rest = std::fmod(left, right);
  if (rest != 0) {
    if ((right < 0) != (rest < 0)) rest += right;
  } else {
    rest = std::copysign(0.0, right);
  }
  return rest;
}

double float_floor_divide(double left, double right) {
  double rest = std::fmod(left, right);
  double quotient = (left - rest) / right;
  if (rest != 0 && (right < 0) != (rest < 0)) quotient -= 1;
  if (quotient == 0) return std::copysign(0.0, left / right);
  const double whole = std::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1 : whole;
}

double float_power(double base, double exponent) {
  if (base == 0 && exponent < 0) fail("0.0 cannot be raised to a negative power");
  if (base < 0 && std::isfinite(base) && std::isfinite(exponent) && exponent != std::floor(exponent))
    fail("complex numbers are not supported");
  const double result = std::pow(base, exponent);
  if (std::isinf(result) && std::isfinite(base) && std::isfinite(exponent)) fail("a number is out of range");
  return result;
}

double float_arithmetic(std::string_view operation, double left, double right) {
  if (operation == "+") return left + right;
  if (operation == "-") return left - right;
  if (operation == "*") return left * right;
  if (operation == "**") return float_power(left, right);
  if (right == 0) fail("float division by zero");
  if (operation == "/") return left / right;
  return operation == "//" ? float_floor_divide(left, right) : float_modulo(left, right);
}

Value repeat(Machine& machine, const Value& value, std::int64_t count) {
  count = std::max<std::int64_t>(count, 0);
  const auto times = static_cast<std::uint64_t>(count);
  if (value.is_string()) {
    if (value.is_safe()) fail("text from the filter 'safe' is repeated");
    const std::size_t bytes = value.text().size();
    if (bytes != 0 && times > kTextBytesMax / bytes)
      fail("a text is longer than " + std::to_string(kTextBytesMax) + " bytes");
    MarkedBuilder builder(machine.budget);
    for (std::uint64_t i = 0; bytes != 0 && i < times; ++i) builder.append(value.marked());
    return machine.text(builder.take());
  }
  const Sequence& sequence = *value.sequence();
  Values items;
  if (!sequence.items.empty()) {
    if (times > kMadeBytesMax / (sequence.items.size() * sizeof(Value)))
      fail("a list takes more than " + std::to_string(kMadeBytesMax) + " bytes");
    machine.budget.make(times * sequence.items.size() * sizeof(Value));
    for (std::uint64_t i = 0; i < times; ++i)
      items.insert(items.end(), sequence.items.begin(), sequence.items.end());
  }
  return machine.list(std::move(items), sequence.kind);
}

bool is_list_or_tuple(const Value& value) {
  const Sequence* sequence = value.sequence();
  return sequence != nullptr &&
         (sequence->kind == SequenceKind::list || sequence->kind == SequenceKind::tuple);
}

// markupsafe.escape, which `+` applies to what is added to text from the filter `safe`.
void append_escaped(MarkedBuilder& builder, const MarkedText& text) {
  for (std::size_t at = 0; at < text.text.size(); ++at) {
    switch (text.text[at]) {
      case '&': builder.append("&amp;", false); break;
      case '<': builder.append("&lt;", false); break;
      case '>': builder.append("&gt;", false); break;
      case '\'': builder.append("&#39;", false); break;
      case '"': builder.append("&#34;", false); break;
      default: builder.append(text, at, at + 1);
    }
  }
}

Value add_texts(Machine& machine, const Value& left, const Value& right) {
  MarkedBuilder builder(machine.budget);
  const bool safe = left.is_safe() || right.is_safe();
  for (const Value* part : {&left, &right}) {
    if (safe && !part->is_safe()) {
      append_escaped(builder, part->marked());
    } else {
      builder.append(part->marked());
    }
  }
  return make_string(machine.budget, builder.take(), safe);
}

}  // namespace

Value arithmetic(Machine& machine, std::string_view operation, const Value& left, const Value& right) {
  if (left.is_integral() && right.is_integral())
    return integer_arithmetic(operation, left.integer(), right.integer());
  if (left.is_number() && right.is_number())
    return float_arithmetic(operation, left.number(), right.number());
  if (operation == "+" && left.is_string() && right.is_string()) return add_texts(machine, left, right);
  if (operation == "+" && is_list_or_tuple(left) && is_list_or_tuple(right) &&
      left.sequence()->kind == right.sequence()->kind) {
    Values items = left.sequence()->items;
    items.insert(items.end(), right.sequence()->items.begin(), right.sequence()->items.end());
    return machine.list(std::move(items), left.sequence()->kind);
  }
  if (operation == "*") {
    if ((left.is_string() || is_list_or_tuple(left)) && right.is_integral())
      return repeat(machine, left, right.integer());
    if ((right.is_string() || is_list_or_tuple(right)) && left.is_integral())
      return repeat(machine, right, left.integer());
  }
  if (operation == "%" && left.is_string()) fail("the formatting of texts with % is not supported");
  fail_types(operation, left, right);
}

Value negate(const Value& value) {
  if (value.is_float()) return -value.number();
  if (value.is_integral()) return integer_arithmetic("-", 0, value.integer());
  if (value.is_undefined()) fail(value.undefined_reason());
  fail("bad operand type for unary -: '" + std::string(value.type_name()) + "'");
}

bool holds(Machine& machine, std::string_view comparison, const Value& left, const Value& right) {
  Budget& budget = machine.budget;
  if (comparison == "==") return equal(budget, left, right);
  if (comparison == "!=") return !equal(budget, left, right);
  if (comparison == "in") return contains(budget, right, left);
  if (comparison == "not in") return !contains(budget, right, left);
  const std::partial_ordering order = compare(budget, left, right, comparison);
  if (comparison == "<") return is_lt(order);
  if (comparison == "<=") return is_lteq(order);
  if (comparison == ">") return is_gt(order);
  return is_gteq(order);
}

}  // namespace sluice::text::jinja
