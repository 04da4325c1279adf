// Expressions, by recursive descent: one function a level of precedence, in the order of jinja2/parser.py. A
// chain such as a + b + c makes a tree that leans to the left without nesting in this parser, so the depth of
// trees is counted where they are made.

#include <algorithm>
#include <array>
#include <charconv>

#include "base/ascii.h"
#include "text/jinja/parser.h"
#include "text/values/marked.h"

namespace sluice::text::jinja {
namespace {

constexpr std::array<std::string_view, 6> kComparisons = {"==", "!=", "<", "<=", ">", ">="};

/// Digits without the underscores between them.
std::string plain_digits(std::string_view text) {
  std::string digits(text);
  std::erase(digits, '_');
  return digits;
}

Value parse_integer_token(const Token& token, const TokenStream& stream) {
  const std::string digits = plain_digits(token.text);
  int base = 10;
  if (digits.size() > 2 && digits[0] == '0') {
    const char letter = base::to_lower(digits[1]);
    base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
  }
  const auto value =
      base::parse_integer<std::int64_t>(std::string_view(digits).substr(base == 10 ? 0 : 2), base);
  if (!value) stream.fail(token.line, "the number " + digits.substr(0, 40) + " does not fit 64 bits");
  return *value;
}

Value parse_float_token(const Token& token, const TokenStream& stream) {
  const std::string digits = plain_digits(token.text);
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc{} || end != digits.data() + digits.size())
    stream.fail(token.line, "the number " + digits.substr(0, 40) + " is out of range");
  return value;
}

}  // namespace

ExpressionParser::Level::Level(ExpressionParser& parser) : parser_(parser) {
  if (++parser.depth_ > kSyntaxDepthMax)
    parser.stream_.fail(parser.stream_.current().line,
                        "more than " + std::to_string(kSyntaxDepthMax) + " levels of brackets and blocks");
}

ExpressionPointer ExpressionParser::make(ExpressionKind kind, std::uint32_t line) const {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->line = line;
  return node;
}

void ExpressionParser::add_operand(Expression& node, ExpressionPointer operand) const {
  if (operand != nullptr) node.depth = std::max(node.depth, operand->depth + 1);
  if (node.depth > 2 * kSyntaxDepthMax)
    stream_.fail(node.line, "an expression has more than " + std::to_string(2 * kSyntaxDepthMax) + " levels");
  node.operands.push_back(std::move(operand));
}

ExpressionPointer ExpressionParser::binary(ExpressionKind kind, std::uint32_t line, std::string_view name,
                                           ExpressionPointer left, ExpressionPointer right) const {
  auto node = make(kind, line);
  node->name = name;
  add_operand(*node, std::move(left));
  add_operand(*node, std::move(right));
  return node;
}

ExpressionPointer ExpressionParser::parse_expression(bool conditional) {
  const Level level(*this);
  auto value = parse_or();
  while (conditional && stream_.is_name("if")) {
    const std::uint32_t line = stream_.next().line;
    auto node = make(ExpressionKind::conditional, line);
    add_operand(*node, parse_or());
    add_operand(*node, std::move(value));
    add_operand(*node, stream_.skip_name("else") ? parse_expression() : nullptr);
    value = std::move(node);
  }
  return value;
}

ExpressionPointer ExpressionParser::parse_or() {
  auto left = parse_and();
  while (stream_.is_name("or")) {
    const std::uint32_t line = stream_.next().line;
    left = binary(ExpressionKind::or_, line, "or", std::move(left), parse_and());
  }
  return left;
}

ExpressionPointer ExpressionParser::parse_and() {
  auto left = parse_not();
  while (stream_.is_name("and")) {
    const std::uint32_t line = stream_.next().line;
    left = binary(ExpressionKind::and_, line, "and", std::move(left), parse_not());
  }
  return left;
}

ExpressionPointer ExpressionParser::parse_not() {
  if (!stream_.is_name("not")) return parse_comparison();
  const Level level(*this);
  auto node = make(ExpressionKind::negation, stream_.next().line);
  add_operand(*node, parse_not());
  return node;
}

ExpressionPointer ExpressionParser::parse_comparison() {
  auto first = parse_sum();
  ExpressionPointer node;
  while (true) {
    std::string_view operation;
    if (stream_.is(TokenKind::operation) &&
        std::ranges::find(kComparisons, stream_.current().text) != kComparisons.end()) {
      operation = stream_.current().text;
    } else if (stream_.is_name("in")) {
      operation = "in";
    } else if (stream_.is_name("not") && stream_.following().kind == TokenKind::name &&
               stream_.following().text == "in") {
      operation = "not in";
      stream_.next();
    } else {
      return node != nullptr ? std::move(node) : std::move(first);
    }
    const std::uint32_t line = stream_.next().line;
    if (node == nullptr) {
      node = make(ExpressionKind::comparison, line);
      add_operand(*node, std::move(first));
    }
    node->operators.push_back(operation);
    add_operand(*node, parse_sum());
  }
}

ExpressionPointer ExpressionParser::parse_sum() {
  auto left = parse_concatenation();
  while (stream_.is_operation("+") || stream_.is_operation("-")) {
    const Token token = stream_.next();
    left = binary(ExpressionKind::arithmetic, token.line, token.text, std::move(left), parse_concatenation());
  }
  return left;
}

ExpressionPointer ExpressionParser::parse_concatenation() {
  auto first = parse_product();
  if (!stream_.is_operation("~")) return first;
  auto node = make(ExpressionKind::concatenation, stream_.current().line);
  add_operand(*node, std::move(first));
  while (stream_.skip_operation("~")) add_operand(*node, parse_product());
  return node;
}

ExpressionPointer ExpressionParser::parse_product() {
  auto left = parse_power();
  while (stream_.is_operation("*") || stream_.is_operation("/") || stream_.is_operation("//") ||
         stream_.is_operation("%")) {
    const Token token = stream_.next();
    left = binary(ExpressionKind::arithmetic, token.line, token.text, std::move(left), parse_power());
  }
  return left;
}

ExpressionPointer ExpressionParser::parse_power() {
  auto left = parse_unary();
  while (stream_.is_operation("**")) {
    const Token token = stream_.next();
    left = binary(ExpressionKind::arithmetic, token.line, token.text, std::move(left), parse_unary());
  }
  return left;
}

ExpressionPointer ExpressionParser::parse_unary(bool with_filters) {
  ExpressionPointer node;
  if (stream_.is_operation("-") || stream_.is_operation("+")) {
    const Level level(*this);
    const Token sign = stream_.next();
    node = make(sign.text == "-" ? ExpressionKind::minus : ExpressionKind::plus, sign.line);
    add_operand(*node, parse_unary(false));
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return with_filters ? parse_filters_and_tests(std::move(node)) : std::move(node);
}

ExpressionPointer ExpressionParser::parse_primary() {
  const Token& token = stream_.current();
  switch (token.kind) {
    case TokenKind::name:
    case TokenKind::string:
    case TokenKind::integer:
    case TokenKind::floating: return parse_constant();
    case TokenKind::operation: break;
    default: stream_.fail_expected("an expression");
  }
  if (token.text == "[") return parse_list();
  if (token.text == "{") return parse_mapping();
  if (token.text != "(") stream_.fail_expected("an expression");
  stream_.next();
  auto node = parse_tuple(true, {}, true);
  stream_.expect_operation(")");
  return node;
}

ExpressionPointer ExpressionParser::parse_constant() {
  const Token token = stream_.next();
  auto node = make(ExpressionKind::constant, token.line);
  if (token.kind == TokenKind::integer) {
    node->constant = parse_integer_token(token, stream_);
  } else if (token.kind == TokenKind::floating) {
    node->constant = parse_float_token(token, stream_);
  } else if (token.kind == TokenKind::string) {
    std::string text = unescape(token.text, stream_, token.line);
    while (stream_.is(TokenKind::string)) text += unescape(stream_.next().text, stream_, token.line);
    // The one place where text becomes trusted, beside bos_token and eos_token: the template wrote it.
    node->constant = std::make_shared<const String>(String{.marked = marked(std::move(text), true)});
  } else if (token.text == "true" || token.text == "True") {
    node->constant = Value(true);
  } else if (token.text == "false" || token.text == "False") {
    node->constant = Value(false);
  } else if (token.text != "none" && token.text != "None") {
    node->kind = ExpressionKind::name;
    node->name = token.text;
  }
  return node;
}

bool ExpressionParser::is_tuple_end(std::string_view end_name) const {
  return stream_.is(TokenKind::variable_end) || stream_.is(TokenKind::block_end) ||
         stream_.is_operation(")") || (!end_name.empty() && stream_.is_name(end_name));
}

ExpressionPointer ExpressionParser::parse_tuple(bool conditional, std::string_view end_name,
                                                bool in_parentheses) {
  const std::uint32_t line = stream_.current().line;
  auto tuple = make(ExpressionKind::tuple, line);
  bool is_tuple = false;
  while (!is_tuple_end(end_name)) {
    add_operand(*tuple, parse_expression(conditional));
    if (!stream_.skip_operation(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return tuple;
  if (tuple->operands.size() == 1) return std::move(tuple->operands[0]);
  if (!in_parentheses) stream_.fail_expected("an expression");
  return tuple;
}

ExpressionPointer ExpressionParser::parse_list() {
  auto node = make(ExpressionKind::list, stream_.next().line);
  while (!stream_.is_operation("]")) {
    if (!node->operands.empty()) stream_.expect_operation(",");
    if (stream_.is_operation("]")) break;
    add_operand(*node, parse_expression());
  }
  stream_.expect_operation("]");
  return node;
}

ExpressionPointer ExpressionParser::parse_mapping() {
  auto node = make(ExpressionKind::mapping, stream_.next().line);
  while (!stream_.is_operation("}")) {
    if (!node->operands.empty()) stream_.expect_operation(",");
    if (stream_.is_operation("}")) break;
    add_operand(*node, parse_expression());
    stream_.expect_operation(":");
    add_operand(*node, parse_expression());
  }
  stream_.expect_operation("}");
  return node;
}

ExpressionPointer ExpressionParser::parse_postfix(ExpressionPointer node) {
  while (true) {
    if (stream_.is_operation(".") || stream_.is_operation("[")) {
      node = parse_subscript(std::move(node));
    } else if (stream_.is_operation("(")) {
      auto call = make(ExpressionKind::call, stream_.current().line);
      add_operand(*call, std::move(node));
      parse_arguments(*call);
      node = std::move(call);
    } else {
      return node;
    }
  }
}

ExpressionPointer ExpressionParser::parse_filters_and_tests(ExpressionPointer node) {
  while (true) {
    if (stream_.is_operation("|")) {
      node = parse_filters(std::move(node));
    } else if (stream_.is_name("is")) {
      node = parse_test(std::move(node));
    } else if (stream_.is_operation("(")) {
      node = parse_postfix(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPointer ExpressionParser::parse_subscript(ExpressionPointer object) {
  const Token token = stream_.next();
  if (token.text == ".") {
    const Token name = stream_.next();
    if (name.kind == TokenKind::name) {
      auto node = make(ExpressionKind::attribute, token.line);
      node->name = name.text;
      add_operand(*node, std::move(object));
      return node;
    }
    if (name.kind != TokenKind::integer) stream_.fail(name.line, "expected a name or a number after '.'");
    auto index = make(ExpressionKind::constant, name.line);
    index->constant = parse_integer_token(name, stream_);
    return binary(ExpressionKind::subscript, token.line, {}, std::move(object), std::move(index));
  }
  ExpressionPointer first;
  if (!stream_.is_operation(":")) first = parse_expression();
  if (stream_.is_operation(",")) stream_.fail(token.line, "subscripts with a comma are not supported");
  if (!stream_.is_operation(":")) {
    stream_.expect_operation("]");
    return binary(ExpressionKind::subscript, token.line, {}, std::move(object), std::move(first));
  }
  auto node = make(ExpressionKind::slice, token.line);
  add_operand(*node, std::move(object));
  add_operand(*node, std::move(first));
  for (int part = 0; part < 2; ++part) {
    const bool given =
        stream_.skip_operation(":") && !stream_.is_operation(":") && !stream_.is_operation("]");
    add_operand(*node, given ? parse_expression() : nullptr);
  }
  stream_.expect_operation("]");
  return node;
}

void ExpressionParser::parse_arguments(Expression& node) {
  stream_.expect_operation("(");
  bool first = true;
  while (!stream_.is_operation(")")) {
    if (!first) stream_.expect_operation(",");
    if (stream_.is_operation(")")) break;
    first = false;
    if (stream_.is_operation("*") || stream_.is_operation("**"))
      stream_.fail(stream_.current().line, "arguments with '*' and '**' are not supported");
    if (stream_.is(TokenKind::name) && stream_.following().kind == TokenKind::operation &&
        stream_.following().text == "=") {
      const std::string_view name = stream_.next().text;
      stream_.next();
      auto value = parse_expression();
      node.depth = std::max(node.depth, value->depth + 1);
      node.named.push_back({name, std::move(value)});
    } else {
      if (!node.named.empty())
        stream_.fail(stream_.current().line, "a positional argument follows a named one");
      add_operand(node, parse_expression());
    }
  }
  stream_.expect_operation(")");
}

std::string_view ExpressionParser::parse_dotted_name() {
  const Token name = stream_.expect(TokenKind::name, "a name");
  if (stream_.is_operation(".")) stream_.fail(name.line, "names with a point are not supported");
  return name.text;
}

ExpressionPointer ExpressionParser::parse_filters(ExpressionPointer subject, bool first_is_named) {
  while (first_is_named || stream_.skip_operation("|")) {
    first_is_named = false;
    auto node = make(ExpressionKind::filter, stream_.current().line);
    node->name = parse_dotted_name();
    add_operand(*node, std::move(subject));
    if (stream_.is_operation("(")) parse_arguments(*node);
    subject = std::move(node);
  }
  return subject;
}

ExpressionPointer ExpressionParser::parse_test(ExpressionPointer subject) {
  const std::uint32_t line = stream_.next().line;
  const bool negated = stream_.skip_name("not");
  auto node = make(ExpressionKind::test, line);
  node->name = parse_dotted_name();
  add_operand(*node, std::move(subject));
  const bool value_follows = stream_.is(TokenKind::string) || stream_.is(TokenKind::integer) ||
                             stream_.is(TokenKind::floating) || stream_.is_operation("[") ||
                             stream_.is_operation("{") ||
                             (stream_.is(TokenKind::name) && !stream_.is_name("else") &&
                              !stream_.is_name("or") && !stream_.is_name("and"));
  if (stream_.is_operation("(")) {
    parse_arguments(*node);
  } else if (value_follows) {
    if (stream_.is_name("is")) stream_.fail(line, "tests with 'is' cannot follow each other");
    add_operand(*node, parse_postfix(parse_primary()));
  }
  if (!negated) return node;
  auto negation = make(ExpressionKind::negation, line);
  add_operand(*negation, std::move(node));
  return negation;
}

std::string_view ExpressionParser::parse_target_name() {
  const Token name = stream_.expect(TokenKind::name, "a name");
  for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"})
    if (name.text == constant)
      stream_.fail(name.line, "'" + std::string(name.text) + "' cannot be assigned to");
  return name.text;
}

Target ExpressionParser::parse_target(std::string_view end_name) {
  const Level level(*this);
  Target target;
  target.line = stream_.current().line;
  const auto parse_part = [&] {
    if (!stream_.skip_operation("(")) {
      Target part;
      part.line = stream_.current().line;
      part.name = parse_target_name();
      return part;
    }
    Target part = parse_target();
    stream_.expect_operation(")");
    return part;
  };
  while (!is_tuple_end(end_name)) {
    target.parts.push_back(parse_part());
    if (!stream_.skip_operation(",")) break;
    target.is_tuple = true;
  }
  if (target.parts.empty()) stream_.fail_expected("a name");
  if (target.is_tuple) return target;
  Target only = std::move(target.parts[0]);
  return only;
}

}  // namespace sluice::text::jinja
