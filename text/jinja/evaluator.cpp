// Statements. A name is looked up in the innermost block first; `set` sets it there, so what a loop's body
// sets is gone with the next element, as in Jinja. Namespaces, macros and scopes that macros refer to live as
// long as the evaluator, which owns them: values that hold each other in a circle are no leak. Depth, steps
// and bytes are counted, so no template can exhaust stack, time or memory. The line of the innermost
// expression is kept while a Fault passes, for the message.

#include "text/jinja/evaluator.h"

#include <algorithm>

#include "text/jinja/lexer.h"
#include "text/values/loop.h"

namespace sluice::text::jinja {

Value* Scope::find(Budget& budget, std::string_view name) {
  budget.step(1 + variables.size() / 16);
  const auto variable = std::ranges::find(variables, name, [](const auto& entry) { return entry.first; });
  return variable == variables.end() ? nullptr : &variable->second;
}

void Scope::set(Budget& budget, std::string_view name, Value value) {
  if (Value* variable = find(budget, name)) {
    *variable = std::move(value);
    return;
  }
  budget.make(sizeof(variables[0]));
  variables.emplace_back(name, std::move(value));
}

class Evaluator::NewScope {
 public:
  NewScope(Evaluator& evaluator, Scope* parent) : evaluator_(evaluator), outer_(evaluator.scope_) {
    evaluator.machine_.budget.make(sizeof(Scope));
    scope_ = std::make_unique<Scope>();
    scope_->parent = parent;
    evaluator.scope_ = scope_.get();
  }
  ~NewScope() {
    evaluator_.scope_ = outer_;
    if (scope_->captured) evaluator_.captured_scopes_.push_back(std::move(scope_));
  }
  NewScope(const NewScope&) = delete;
  NewScope& operator=(const NewScope&) = delete;

  [[nodiscard]] Scope& scope() { return *scope_; }

 private:
  Evaluator& evaluator_;
  Scope* outer_;
  std::unique_ptr<Scope> scope_;
};

class Evaluator::Level {
 public:
  explicit Level(Evaluator& evaluator) : evaluator_(evaluator) {
    if (++evaluator.depth_ > kEvaluationDepthMax)
      fail("calls, blocks and expressions have more than " + std::to_string(kEvaluationDepthMax) + " levels");
  }
  ~Level() { --evaluator_.depth_; }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  Evaluator& evaluator_;
};

Evaluator::Evaluator(std::string_view subject, std::int64_t unix_time_s)
    : subject_(subject), machine_{.budget = {}, .unix_time_s = unix_time_s}, scope_(&globals_) {
  define("namespace", Function::namespace_);
  define("raise_exception", Function::raise_exception);
  define("strftime_now", Function::strftime_now);
  define("range", Function::range);
  define("dict", Function::dict);
}

void Evaluator::define(std::string_view name, Value value) {
  globals_.set(machine_.budget, name, std::move(value));
}

MarkedText Evaluator::render(const Statements& statements) {
  MarkedBuilder output(machine_.budget);
  output_ = &output;
  try {
    execute(statements);
  } catch (const Fault& fault) {
    throw base::Error(fault.kind,
                      std::string(subject_) + ": line " + std::to_string(line_) + ": " + fault.message);
  }
  return output.take();
}

Evaluator::Flow Evaluator::execute(const Statements& statements) {
  for (const Statement& statement : statements)
    if (const Flow flow = execute(statement); flow != Flow::normal) return flow;
  return Flow::normal;
}

Evaluator::Flow Evaluator::execute(const Statement& statement) {
  machine_.budget.step();
  line_ = statement.line;
  switch (statement.kind) {
    case StatementKind::data: output_->append(statement.text, true); break;
    case StatementKind::print: print(evaluate(*statement.value)); break;
    case StatementKind::if_: return execute_if(statement);
    case StatementKind::for_: return execute_for(statement);
    case StatementKind::set: assign(statement.target, evaluate(*statement.value)); break;
    case StatementKind::set_block: execute_set_block(statement); break;
    case StatementKind::macro: scope_->set(machine_.budget, statement.name, make_macro(statement)); break;
    case StatementKind::call_block: execute_call_block(statement); break;
    case StatementKind::filter_block: {
      const Value body = capture(statement.body);
      print(evaluate_filters(*statement.value, body));
      break;
    }
    case StatementKind::scope: return execute_scope(statement);
    case StatementKind::break_: return Flow::break_;
    case StatementKind::continue_: return Flow::continue_;
  }
  return Flow::normal;
}

void Evaluator::print(const Value& value) {
  if (value.is_string()) {
    output_->append(value.marked());
  } else {
    output_->append(to_text(machine_, value));
  }
}

Evaluator::Flow Evaluator::execute_if(const Statement& statement) {
  const Level level(*this);
  for (const Branch& branch : statement.branches)
    if (branch.condition == nullptr || truth(evaluate(*branch.condition))) return execute(branch.body);
  return Flow::normal;
}

Evaluator::Flow Evaluator::execute_for(const Statement& statement) {
  const Level level(*this);
  const Value source = evaluate(*statement.value);
  auto loop = std::make_shared<Loop>();
  loop->items = elements(machine_.budget, source);
  loop->depth = source.depth() + 1;
  if (loop->depth > kValueDepthMax) fail("a loop runs over a value of too many levels");
  Scope* const outer = scope_;
  if (statement.condition != nullptr) {
    loop->accept = [this, outer, &statement](const Value& item) {
      Scope* const current = std::exchange(scope_, outer);
      bool accepted = false;
      {
        const NewScope scope(*this, outer);
        assign(statement.target, item);
        accepted = truth(evaluate(*statement.condition));
      }
      scope_ = current;
      return accepted;
    };
  }
  bool ran = false;
  {
    // As in Jinja's Python, one scope serves all elements.
    NewScope scope(*this, outer);
    while (loop->advance()) {
      machine_.budget.step();
      ran = true;
      scope.scope().variables.clear();
      scope.scope().set(machine_.budget, "loop", loop);
      assign(statement.target, *loop->current);
      if (execute(statement.body) == Flow::break_) break;
    }
  }
  loop->end();
  if (ran || statement.otherwise.empty()) return Flow::normal;
  const NewScope scope(*this, outer);
  return execute(statement.otherwise);
}

Evaluator::Flow Evaluator::execute_scope(const Statement& statement) {
  const Level level(*this);
  Scope* const outer = scope_;
  // The values of all assignments are of the outer scope.
  Values values;
  for (const auto& assignment : statement.assignments) values.push_back(evaluate(*assignment.second));
  const NewScope scope(*this, outer);
  for (std::size_t i = 0; i < values.size(); ++i) assign(statement.assignments[i].first, values[i]);
  return execute(statement.body);
}

Value Evaluator::capture(const Statements& statements) {
  const Level level(*this);
  MarkedBuilder builder(machine_.budget);
  MarkedBuilder* const outer = std::exchange(output_, &builder);
  {
    const NewScope scope(*this, scope_);
    execute(statements);
  }
  output_ = outer;
  return machine_.text(builder.take());
}

void Evaluator::execute_set_block(const Statement& statement) {
  Value value = capture(statement.body);
  if (statement.value != nullptr) value = evaluate_filters(*statement.value, value);
  assign(statement.target, value);
}

void Evaluator::execute_call_block(const Statement& statement) {
  const Expression& call_node = *statement.value;
  const Value callee = evaluate(*call_node.operands[0]);
  Arguments arguments = evaluate_arguments(call_node);
  arguments.named.emplace_back("caller", make_macro(statement));
  print(call(callee, std::move(arguments)));
}

void Evaluator::assign(const Target& target, const Value& value) {
  if (target.is_tuple) {
    const Values parts = elements(machine_.budget, value);
    if (parts.size() != target.parts.size())
      fail("expected " + std::to_string(target.parts.size()) + " values to unpack, found " +
           std::to_string(parts.size()));
    for (std::size_t i = 0; i < parts.size(); ++i) assign(target.parts[i], parts[i]);
    return;
  }
  if (target.attribute.empty()) {
    scope_->set(machine_.budget, target.name, value);
    return;
  }
  Value* variable = nullptr;
  for (Scope* scope = scope_; scope != nullptr && variable == nullptr; scope = scope->parent)
    variable = scope->find(machine_.budget, target.name);
  Namespace* const space = variable == nullptr ? nullptr : variable->name_space();
  if (space == nullptr)
    fail("'" + std::string(target.name) + "' is no namespace, so its attribute cannot be set");
  machine_.budget.step(space->members.size() / 16);
  if (Value* member = space->find(target.attribute)) {
    *member = value;
  } else {
    machine_.budget.make(sizeof(space->members[0]) + target.attribute.size());
    space->members.emplace_back(target.attribute, value);
  }
}

const Macro* Evaluator::make_macro(const Statement& statement) {
  machine_.budget.make(sizeof(Macro));
  for (Scope* scope = scope_; scope != nullptr && !scope->captured; scope = scope->parent)
    scope->captured = true;
  macros_.push_back({.statement = &statement, .scope = scope_});
  return &macros_.back();
}

Value Evaluator::call_macro(const Macro& macro, Arguments arguments) {
  const Level level(*this);
  const Statement& statement = *macro.statement;
  const std::string name(statement.name);
  const std::size_t parameter_count = statement.parameters.size();
  if (arguments.positional.size() > parameter_count)
    fail("macro '" + name + "' takes not more than " + std::to_string(parameter_count) + " arguments");
  NewScope scope(*this, macro.scope);
  Value caller = make_undefined("No caller defined");
  std::vector<const Value*> given(parameter_count, nullptr);
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) given[i] = &arguments.positional[i];
  for (const auto& [argument, value] : arguments.named) {
    const auto parameter = std::ranges::find(statement.parameters, argument, &Parameter::name);
    const auto index = static_cast<std::size_t>(parameter - statement.parameters.begin());
    if (parameter != statement.parameters.end() && given[index] == nullptr) {
      given[index] = &value;
    } else if (argument == "caller") {
      caller = value;
    } else {
      fail("macro '" + name + "' takes no keyword argument '" + std::string(argument) + "'");
    }
  }
  scope.scope().set(machine_.budget, "caller", caller);
  for (std::size_t i = 0; i < parameter_count; ++i) {
    const Parameter& parameter = statement.parameters[i];
    Value value = given[i] != nullptr ? *given[i]
                  : parameter.fallback != nullptr
                      ? evaluate(*parameter.fallback)
                      : make_undefined("parameter '" + std::string(parameter.name) + "' was not provided");
    scope.scope().set(machine_.budget, parameter.name, std::move(value));
  }
  MarkedBuilder builder(machine_.budget);
  MarkedBuilder* const outer = std::exchange(output_, &builder);
  ++macro_depth_;
  execute(statement.body);
  --macro_depth_;
  output_ = outer;
  return machine_.text(builder.take());
}

}  // namespace sluice::text::jinja
