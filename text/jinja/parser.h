#pragma once
// Tokens to the tree of a template, after jinja2/parser.py (3.1.2).

#include <string_view>
#include <vector>

#include "text/jinja/lexer.h"
#include "text/jinja/syntax.h"

namespace sluice::text::jinja {

/// Error{malformed} "SUBJECT: line 3: ..." for text that is no template, and for what is not supported.
[[nodiscard]] Statements parse(std::string_view source, std::string_view subject);

/// Reads the tokens one after the other.
class TokenStream {
 public:
  TokenStream(std::vector<Token> tokens, std::string_view subject)
      : tokens_(std::move(tokens)), subject_(subject) {}

  [[nodiscard]] const Token& current() const { return tokens_[at_]; }
  [[nodiscard]] const Token& following() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  /// Returns the current token and goes on to the next.
  Token next();

  [[nodiscard]] bool is(TokenKind kind) const { return current().kind == kind; }
  [[nodiscard]] bool is_name(std::string_view name) const;
  [[nodiscard]] bool is_operation(std::string_view text) const;
  bool skip_name(std::string_view name);
  bool skip_operation(std::string_view text);

  Token expect(TokenKind kind, std::string_view what);
  void expect_name(std::string_view name);
  void expect_operation(std::string_view text);

  /// Throws the error of the current token's line: "expected WHAT, found '}'".
  [[noreturn]] void fail_expected(std::string_view what) const;
  [[noreturn]] void fail(std::uint32_t line, std::string_view message) const;

 private:
  std::vector<Token> tokens_;
  std::string_view subject_;
  std::size_t at_ = 0;
};

/// Parses the expressions of a template.
class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& stream) : stream_(stream) {}

  /// One expression; without `conditional` no `a if b else c`, since an `if` may follow.
  [[nodiscard]] ExpressionPointer parse_expression(bool conditional = true);
  /// One expression, or several with commas between them, which are a tuple. `end_name` may follow.
  [[nodiscard]] ExpressionPointer parse_tuple(bool conditional = true, std::string_view end_name = {},
                                              bool in_parentheses = false);
  /// "| filter(arguments) | .." over `subject`, which may be null: the body of a block. Null when there is no
  /// filter. `first_is_named`: the first filter has no bar before it.
  [[nodiscard]] ExpressionPointer parse_filters(ExpressionPointer subject, bool first_is_named = false);
  /// A name or a tuple of names; `end_name` may follow.
  [[nodiscard]] Target parse_target(std::string_view end_name = {});
  [[nodiscard]] std::string_view parse_target_name();

  /// Counts levels of brackets and blocks for as long as it lives.
  class Level {
   public:
    explicit Level(ExpressionParser& parser);
    ~Level() { --parser_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    ExpressionParser& parser_;
  };

 private:
  [[nodiscard]] ExpressionPointer parse_or();
  [[nodiscard]] ExpressionPointer parse_and();
  [[nodiscard]] ExpressionPointer parse_not();
  [[nodiscard]] ExpressionPointer parse_comparison();
  [[nodiscard]] ExpressionPointer parse_sum();
  [[nodiscard]] ExpressionPointer parse_concatenation();
  [[nodiscard]] ExpressionPointer parse_product();
  [[nodiscard]] ExpressionPointer parse_power();
  [[nodiscard]] ExpressionPointer parse_unary(bool with_filters = true);
  [[nodiscard]] ExpressionPointer parse_primary();
  [[nodiscard]] ExpressionPointer parse_constant();
  [[nodiscard]] ExpressionPointer parse_list();
  [[nodiscard]] ExpressionPointer parse_mapping();
  [[nodiscard]] ExpressionPointer parse_postfix(ExpressionPointer node);
  [[nodiscard]] ExpressionPointer parse_filters_and_tests(ExpressionPointer node);
  [[nodiscard]] ExpressionPointer parse_subscript(ExpressionPointer object);
  [[nodiscard]] ExpressionPointer parse_test(ExpressionPointer subject);
  /// Arguments in parentheses, added to `node`.
  void parse_arguments(Expression& node);
  [[nodiscard]] std::string_view parse_dotted_name();
  [[nodiscard]] bool is_tuple_end(std::string_view end_name) const;

  [[nodiscard]] ExpressionPointer make(ExpressionKind kind, std::uint32_t line) const;
  void add_operand(Expression& node, ExpressionPointer operand) const;
  [[nodiscard]] ExpressionPointer binary(ExpressionKind kind, std::uint32_t line, std::string_view name,
                                         ExpressionPointer left, ExpressionPointer right) const;

  TokenStream& stream_;
  Budget budget_;  // of the constants
  int depth_ = 0;
};

/// The text that a string of the source stands for. `fail` is called with what is wrong in it.
[[nodiscard]] std::string unescape(std::string_view quoted, const TokenStream& stream, std::uint32_t line);

}  // namespace sluice::text::jinja
