// The evaluator's part for expressions.

#include "base/invariant.h"
#include "text/jinja/evaluator.h"
#include "text/values/loop.h"

namespace sluice::text::jinja {

Value Evaluator::evaluate(const Expression& expression) {
  machine_.budget.step();
  if (expression.kind == ExpressionKind::constant) return expression.constant;
  const std::uint32_t outer_line = line_;
  line_ = expression.line;
  if (++depth_ > kEvaluationDepthMax)
    fail("calls, blocks and expressions have more than " + std::to_string(kEvaluationDepthMax) + " levels");
  Value value = evaluate_kind(expression);
  --depth_;
  line_ = outer_line;  // not when a Fault passes: the message names the innermost line
  return value;
}

Value Evaluator::evaluate_kind(const Expression& expression) {
  const auto& operands = expression.operands;
  switch (expression.kind) {
    case ExpressionKind::constant: return expression.constant;
    case ExpressionKind::name: return evaluate_name(expression);
    case ExpressionKind::list: return machine_.list(evaluate_all(operands, 0));
    case ExpressionKind::tuple: return machine_.list(evaluate_all(operands, 0), SequenceKind::tuple);
    case ExpressionKind::mapping: return evaluate_mapping(expression);
    case ExpressionKind::attribute: return attribute(machine_, evaluate(*operands[0]), expression.name);
    case ExpressionKind::subscript: {
      const Value object = evaluate(*operands[0]);
      return subscript(machine_, object, evaluate(*operands[1]));
    }
    case ExpressionKind::slice: return evaluate_slice(expression);
    case ExpressionKind::call: {
      const Value callee = evaluate(*operands[0]);
      return call(callee, evaluate_arguments(expression));
    }
    case ExpressionKind::filter: {
      const Value subject = evaluate(*operands[0]);
      return apply_filter(machine_, expression.name, subject, evaluate_arguments(expression));
    }
    case ExpressionKind::test: {
      const Value subject = evaluate(*operands[0]);
      return apply_test(machine_, expression.name, subject, evaluate_arguments(expression));
    }
    case ExpressionKind::negation: return !truth(evaluate(*operands[0]));
    case ExpressionKind::minus: return negate(evaluate(*operands[0]));
    case ExpressionKind::plus: {
      const Value value = evaluate(*operands[0]);
      return value.is_bool() ? Value(value.integer()) : value.is_number() ? value : negate(value);
    }
    case ExpressionKind::arithmetic: {
      const Value left = evaluate(*operands[0]);
      return arithmetic(machine_, expression.name, left, evaluate(*operands[1]));
    }
    case ExpressionKind::concatenation: return evaluate_concatenation(expression);
    case ExpressionKind::comparison: return evaluate_comparison(expression);
    case ExpressionKind::and_: {
      Value left = evaluate(*operands[0]);
      return truth(left) ? evaluate(*operands[1]) : left;
    }
    case ExpressionKind::or_: {
      Value left = evaluate(*operands[0]);
      return truth(left) ? left : evaluate(*operands[1]);
    }
    case ExpressionKind::conditional: return evaluate_conditional(expression);
  }
  INVARIANT(!"an expression of no kind");
}

Value Evaluator::evaluate_name(const Expression& expression) {
  for (Scope* scope = scope_; scope != nullptr; scope = scope->parent)
    if (const Value* value = scope->find(machine_.budget, expression.name)) return *value;
  const std::string name(expression.name);
  for (const std::string_view unsupported : {"lipsum", "cycler", "joiner", "self"})
    if (name == unsupported) fail("the name '" + name + "' is not supported");
  if (macro_depth_ > 0 && (name == "varargs" || name == "kwargs"))
    fail("the variable '" + name + "' of macros is not supported");
  return make_undefined("'" + name + "' is undefined");
}

Value Evaluator::evaluate_mapping(const Expression& expression) {
  MappingBuilder builder(machine_.budget);
  for (std::size_t i = 0; i < expression.operands.size(); i += 2) {
    Value key = evaluate(*expression.operands[i]);
    builder.set(std::move(key), evaluate(*expression.operands[i + 1]));
  }
  return builder.take();
}

Value Evaluator::evaluate_slice(const Expression& expression) {
  const Value object = evaluate(*expression.operands[0]);
  Value bounds[3];
  for (std::size_t i = 0; i < 3; ++i)
    if (expression.operands[i + 1] != nullptr) bounds[i] = evaluate(*expression.operands[i + 1]);
  return slice_of(machine_, object, &bounds[0], &bounds[1], &bounds[2]);
}

Value Evaluator::evaluate_concatenation(const Expression& expression) {
  MarkedBuilder builder(machine_.budget);
  for (const ExpressionPointer& operand : expression.operands) {
    const Value value = evaluate(*operand);
    builder.append(to_text(machine_, value));
  }
  return machine_.text(builder.take());
}

Value Evaluator::evaluate_comparison(const Expression& expression) {
  Value left = evaluate(*expression.operands[0]);
  for (std::size_t i = 0; i < expression.operators.size(); ++i) {
    Value right = evaluate(*expression.operands[i + 1]);
    if (!holds(machine_, expression.operators[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Evaluator::evaluate_conditional(const Expression& expression) {
  if (truth(evaluate(*expression.operands[0]))) return evaluate(*expression.operands[1]);
  if (expression.operands[2] != nullptr) return evaluate(*expression.operands[2]);
  return make_undefined("the inline if-expression on line " + std::to_string(expression.line) +
                        " evaluated to false and no else section was defined.");
}

Value Evaluator::evaluate_filters(const Expression& expression, const Value& body) {
  const Value subject =
      expression.operands[0] == nullptr ? body : evaluate_filters(*expression.operands[0], body);
  line_ = expression.line;
  return apply_filter(machine_, expression.name, subject, evaluate_arguments(expression));
}

Values Evaluator::evaluate_all(const std::vector<ExpressionPointer>& expressions, std::size_t from) {
  Values values;
  for (std::size_t i = from; i < expressions.size(); ++i) values.push_back(evaluate(*expressions[i]));
  return values;
}

Arguments Evaluator::evaluate_arguments(const Expression& expression) {
  Arguments arguments;
  arguments.positional = evaluate_all(expression.operands, 1);
  for (const NamedArgument& argument : expression.named)
    arguments.named.emplace_back(argument.name, evaluate(*argument.value));
  return arguments;
}

Value Evaluator::call(const Value& callee, Arguments arguments) {
  if (const Macro* macro = callee.macro()) return call_macro(*macro, std::move(arguments));
  if (const Method* method = callee.method())
    return method->self.loop() != nullptr ? call_loop_method(*method, arguments)
                                          : call_method(machine_, *method, arguments);
  if (const Function* function = callee.function())
    return *function == Function::namespace_ ? make_namespace(arguments)
                                             : call_function(machine_, *function, arguments);
  if (callee.is_undefined()) fail(callee.undefined_reason());
  fail("'" + std::string(callee.type_name()) + "' object is not callable");
}

Value Evaluator::call_loop_method(const Method& method, const Arguments& arguments) {
  Loop& loop = *method.self.loop();
  if (!arguments.named.empty()) fail("loop." + method.name + "() has no named arguments");
  if (method.name == "cycle") {
    if (arguments.positional.empty()) fail("no items for cycling given");
    return arguments.positional[static_cast<std::size_t>(loop.index0) % arguments.positional.size()];
  }
  for (const Value& value : arguments.positional)
    // A loop that holds itself in a list would never be freed.
    if (value.depth() > 0) fail("loop.changed() is supported for texts, numbers and none alone");
  const Value last = machine_.list(loop.last_changed);
  const Value now = machine_.list(arguments.positional);
  const bool changed = !loop.changed_before || !equal(machine_.budget, last, now);
  loop.changed_before = true;
  loop.last_changed = arguments.positional;
  return changed;
}

Value Evaluator::make_namespace(const Arguments& arguments) {
  const Bound none({.positional = arguments.positional, .named = {}}, "namespace()", {});
  machine_.budget.make(sizeof(Namespace));
  Namespace& space = namespaces_.emplace_back();
  for (const auto& [name, value] : arguments.named) {
    machine_.budget.make(sizeof(space.members[0]) + name.size());
    space.members.emplace_back(name, value);
  }
  return &space;
}

}  // namespace sluice::text::jinja
