#pragma once
// Operators, filters, tests, methods and functions share these: the budget of a rendering and the arguments
// of a call.

#include <initializer_list>
#include <string_view>
#include <utility>
#include <vector>

#include "text/values/marked.h"
#include "text/values/value.h"

namespace sluice::text::jinja {

struct Machine {
  Budget budget;
  std::int64_t unix_time_s = 0;

  [[nodiscard]] Value text(MarkedText text) { return make_string(budget, std::move(text)); }
  [[nodiscard]] Value list(Values items, SequenceKind kind = SequenceKind::list) {
    return make_sequence(budget, std::move(items), kind);
  }
};

struct Arguments {
  Values positional;
  std::vector<std::pair<std::string_view, Value>> named;
};

/// Arguments by the names of parameters, as Python binds them.
class Bound {
 public:
  /// A Fault naming `callee` for arguments that do not fit; `required` of the parameters have no default.
  Bound(const Arguments& arguments, std::string_view callee,
        std::initializer_list<std::string_view> parameters, std::size_t required = 0);

  [[nodiscard]] const Value* get(std::size_t index) const { return values_[index]; }
  [[nodiscard]] const Value& at(std::size_t index) const { return *values_[index]; }
  /// Truth of the argument, or the default.
  [[nodiscard]] bool flag(std::size_t index, bool fallback) const;
  /// A Fault for other values than integers.
  [[nodiscard]] std::int64_t integer(std::size_t index, std::int64_t fallback) const;
  /// A Fault for other values than texts.
  [[nodiscard]] const MarkedText& text(std::size_t index) const;
  /// True when the argument is there and not none.
  [[nodiscard]] bool given(std::size_t index) const;

 private:
  std::vector<const Value*> values_;
  std::string callee_;
};

/// str(): a text as it is, others as Python writes them.
[[nodiscard]] MarkedText to_text(Machine& machine, const Value& value);

/// "+", "-", "*", "/", "//", "%" and "**".
[[nodiscard]] Value arithmetic(Machine& machine, std::string_view operation, const Value& left,
                               const Value& right);
[[nodiscard]] Value negate(const Value& value);
/// "==", "!=", "<", "<=", ">", ">=", "in" and "not in".
[[nodiscard]] bool holds(Machine& machine, std::string_view comparison, const Value& left,
                         const Value& right);

/// object.name: a method or an attribute before a key.
[[nodiscard]] Value attribute(Machine& machine, const Value& object, std::string_view name);
/// object[key]: a key before a method.
[[nodiscard]] Value subscript(Machine& machine, const Value& object, const Value& key);
/// object[begin:end:step]; nullptr for a bound that is not given.
[[nodiscard]] Value slice_of(Machine& machine, const Value& object, const Value* begin, const Value* end,
                             const Value* step);

[[nodiscard]] Value apply_filter(Machine& machine, std::string_view name, const Value& subject,
                                 const Arguments& arguments);
[[nodiscard]] bool apply_test(Machine& machine, std::string_view name, const Value& subject,
                              const Arguments& arguments);
[[nodiscard]] Value call_method(Machine& machine, const Method& method, const Arguments& arguments);
/// All but namespace(), which the evaluator owns.
[[nodiscard]] Value call_function(Machine& machine, Function function, const Arguments& arguments);

/// True for a method that values of this kind have in Python. A Fault when it is one that changes the value,
/// and when it is not supported.
[[nodiscard]] bool has_method(const Value& object, std::string_view name);

/// json.dumps() as transformers' filter tojson calls it.
[[nodiscard]] Value to_json(Machine& machine, const Value& value, const Arguments& arguments);

}  // namespace sluice::text::jinja
