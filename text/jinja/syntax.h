#pragma once
// The tree of a template. It refers to the template's source, which must outlive it, and does not change
// while templates are rendered.

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "text/values/value.h"

namespace sluice::text::jinja {

struct Expression;
using ExpressionPointer = std::unique_ptr<Expression>;

enum class ExpressionKind : std::uint8_t {
  constant,
  name,
  list,           ///< operands: elements
  tuple,          ///< operands: elements
  mapping,        ///< operands: key, value, key, value, ..
  attribute,      ///< operands: object; `name`
  subscript,      ///< operands: object, index
  slice,          ///< operands: object, begin, end, step; each of the last three may be null
  call,           ///< operands: callee, positional arguments
  filter,         ///< operands: value, positional arguments; `name`
  test,           ///< operands: value, positional arguments; `name`
  negation,       ///< not
  minus,          ///< operands: one
  plus,           ///< operands: one
  arithmetic,     ///< operands: left, right; `name` is the operator
  concatenation,  ///< ~; operands: parts
  comparison,     ///< operands: two and more; `operators` between them
  and_,
  or_,
  conditional,  ///< operands: condition, value, and the value otherwise, which may be null
};

struct NamedArgument {
  std::string_view name;
  ExpressionPointer value;
};

struct Expression {
  ExpressionKind kind = ExpressionKind::constant;
  std::uint32_t line = 1;
  int depth = 1;  ///< levels of expressions, this one included
  std::string_view name;
  Value constant;
  std::vector<ExpressionPointer> operands;
  std::vector<NamedArgument> named;
  std::vector<std::string_view> operators;  ///< "==", "in", "not in", ..
};

/// An assignment sets one of these: a name, an attribute of a namespace, or a tuple of targets.
struct Target {
  std::uint32_t line = 1;
  std::string_view name;
  std::string_view attribute;  ///< empty: the name itself
  std::vector<Target> parts;   ///< not empty: a tuple
  bool is_tuple = false;
};

struct Parameter {
  std::string_view name;
  ExpressionPointer fallback;  ///< null: none
};

enum class StatementKind : std::uint8_t {
  data,          ///< `text`
  print,         ///< `value`
  if_,           ///< `branches`; the last one has no condition where there is an else
  for_,          ///< `target`, `value`, `condition`, `body`, `otherwise`
  set,           ///< `target`, `value`
  set_block,     ///< `target`, `body`; `value` is a chain of filters over the body, or null
  macro,         ///< `name`, `parameters`, `body`
  call_block,    ///< `value` is the call, `parameters`, `body`
  filter_block,  ///< `value` is a chain of filters over the body
  scope,         ///< with: `assignments` and `body`; generation: `body`
  break_,
  continue_,
};

struct Statement;
using Statements = std::vector<Statement>;

struct Branch {
  ExpressionPointer condition;
  Statements body;
};

struct Statement {
  StatementKind kind = StatementKind::data;
  std::uint32_t line = 1;
  std::string_view text;
  std::string_view name;
  ExpressionPointer value;
  ExpressionPointer condition;
  Target target;
  Statements body;
  Statements otherwise;
  std::vector<Branch> branches;
  std::vector<Parameter> parameters;
  std::vector<std::pair<Target, ExpressionPointer>> assignments;
};

}  // namespace sluice::text::jinja
