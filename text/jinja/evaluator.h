#pragma once
// Renders the tree of a template: statements, scopes and macros. One evaluator makes one text.

#include <deque>
#include <memory>
#include <string_view>
#include <vector>

#include "text/jinja/syntax.h"
#include "text/values/machine.h"

namespace sluice::text::jinja {

/// Names and values of a block. A name that is not found is looked up in the parent.
struct Scope {
  Scope* parent = nullptr;
  std::vector<std::pair<std::string_view, Value>> variables;
  bool captured = false;  ///< a macro may look names up here after the block has ended

  [[nodiscard]] Value* find(Budget& budget, std::string_view name);
  void set(Budget& budget, std::string_view name, Value value);
};

struct Macro {
  const Statement* statement = nullptr;
  Scope* scope = nullptr;  ///< where it was defined
};

class Evaluator {
 public:
  Evaluator(std::string_view subject, std::int64_t unix_time_s);
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  [[nodiscard]] Machine& machine() { return machine_; }
  /// Sets a variable of the whole template.
  void define(std::string_view name, Value value);

  /// Error{malformed} "SUBJECT: line 3: ..." for an operation that fails, Error{usage} for raise_exception().
  [[nodiscard]] MarkedText render(const Statements& statements);

 private:
  enum class Flow : std::uint8_t { normal, break_, continue_ };
  class NewScope;
  class Level;

  Flow execute(const Statements& statements);
  Flow execute(const Statement& statement);
  Flow execute_if(const Statement& statement);
  Flow execute_for(const Statement& statement);
  Flow execute_scope(const Statement& statement);
  void execute_set_block(const Statement& statement);
  void execute_call_block(const Statement& statement);
  void assign(const Target& target, const Value& value);
  void print(const Value& value);
  /// The text of statements that are executed in a scope of their own.
  [[nodiscard]] Value capture(const Statements& statements);
  [[nodiscard]] const Macro* make_macro(const Statement& statement);

  [[nodiscard]] Value evaluate(const Expression& expression);
  [[nodiscard]] Value evaluate_kind(const Expression& expression);
  [[nodiscard]] Value evaluate_name(const Expression& expression);
  [[nodiscard]] Value evaluate_mapping(const Expression& expression);
  [[nodiscard]] Value evaluate_slice(const Expression& expression);
  [[nodiscard]] Value evaluate_concatenation(const Expression& expression);
  [[nodiscard]] Value evaluate_comparison(const Expression& expression);
  [[nodiscard]] Value evaluate_conditional(const Expression& expression);
  /// Filters over the body of a block, which stands for the operand that is null.
  [[nodiscard]] Value evaluate_filters(const Expression& expression, const Value& body);
  [[nodiscard]] Values evaluate_all(const std::vector<ExpressionPointer>& expressions, std::size_t from);
  [[nodiscard]] Arguments evaluate_arguments(const Expression& expression);

  [[nodiscard]] Value call(const Value& callee, Arguments arguments);
  [[nodiscard]] Value call_macro(const Macro& macro, Arguments arguments);
  [[nodiscard]] Value call_loop_method(const Method& method, const Arguments& arguments);
  [[nodiscard]] Value make_namespace(const Arguments& arguments);

  std::string_view subject_;
  Machine machine_;
  std::uint32_t line_ = 1;  // of what is evaluated
  int depth_ = 0;
  int macro_depth_ = 0;
  Scope* scope_ = nullptr;
  MarkedBuilder* output_ = nullptr;
  std::deque<Namespace> namespaces_;
  std::deque<Macro> macros_;
  std::vector<std::unique_ptr<Scope>> captured_scopes_;
  Scope globals_;
};

}  // namespace sluice::text::jinja
