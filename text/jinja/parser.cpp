// Statements: text, {{ }} and {% %}. A tag that Jinja has and Sluice has not is refused by name.

#include "text/jinja/parser.h"

#include <algorithm>
#include <initializer_list>

namespace sluice::text::jinja {
namespace {

class Parser {
 public:
  Parser(std::string_view source, std::string_view subject)
      : stream_(tokenize(source, subject), subject), expressions_(stream_) {}

  Statements run() { return parse_body({}, {}, 1); }

 private:
  using EndTags = std::initializer_list<std::string_view>;

  // Statements up to one of the tags `ends`, whose name is then the current token. `tag` and `line` name the
  // block that they belong to; no end tags: up to the end of the template.
  Statements parse_body(EndTags ends, std::string_view tag, std::uint32_t line) {
    const ExpressionParser::Level level(expressions_);
    Statements body;
    while (!stream_.is(TokenKind::end)) {
      const Token token = stream_.next();
      if (token.kind == TokenKind::data) {
        Statement data = make(StatementKind::data, token.line);
        data.text = token.text;
        body.push_back(std::move(data));
      } else if (token.kind == TokenKind::variable_begin) {
        Statement print = make(StatementKind::print, token.line);
        print.value = expressions_.parse_tuple();
        stream_.expect(TokenKind::variable_end, "'}}'");
        body.push_back(std::move(print));
      } else {
        if (stream_.is(TokenKind::name) && std::ranges::find(ends, stream_.current().text) != ends.end())
          return body;
        body.push_back(parse_statement());
        stream_.expect(TokenKind::block_end, "'%}'");
      }
    }
    if (ends.size() != 0)
      stream_.fail(line, "the tag '" + std::string(tag) + "' has no '" +
                             std::string(std::data(ends)[ends.size() - 1]) + "'");
    return body;
  }

  // The end of the tag that opens a block, then its statements.
  Statements parse_block(EndTags ends, std::string_view tag, std::uint32_t line) {
    stream_.skip_operation(":");
    stream_.expect(TokenKind::block_end, "'%}'");
    return parse_body(ends, tag, line);
  }

  // Parses a block with one end tag, which is read.
  Statements parse_whole_block(std::string_view end, std::string_view tag, std::uint32_t line) {
    Statements body = parse_block({end}, tag, line);
    stream_.next();
    return body;
  }

  // A block of its own function in Jinja's Python, which a break cannot leave.
  Statements parse_function_block(std::string_view end, std::string_view tag, std::uint32_t line) {
    const int loops = std::exchange(loop_depth_, 0);
    Statements body = parse_whole_block(end, tag, line);
    loop_depth_ = loops;
    return body;
  }

  Statement parse_statement() {
    const Token token = stream_.expect(TokenKind::name, "the name of a tag");
    const std::string_view name = token.text;
    if (name == "if") return parse_if(token);
    if (name == "for") return parse_for(token);
    if (name == "set") return parse_set(token);
    if (name == "macro") return parse_macro(token);
    if (name == "call") return parse_call(token);
    if (name == "filter") return parse_filter(token);
    if (name == "with") return parse_with(token);
    if (name == "generation") return parse_generation(token);
    if (name == "break" || name == "continue") return parse_jump(token);
    stream_.fail(token.line, "the tag '" + std::string(name) + "' is unknown or not supported here");
  }

  Statement parse_if(const Token& tag) {
    Statement statement = make(StatementKind::if_, tag.line);
    while (true) {
      Branch branch;
      branch.condition = expressions_.parse_tuple(false);
      branch.body = parse_block({"elif", "else", "endif"}, tag.text, tag.line);
      statement.branches.push_back(std::move(branch));
      const std::string_view end = stream_.next().text;
      if (end == "endif") return statement;
      if (end == "else") break;
    }
    Branch otherwise;
    otherwise.body = parse_whole_block("endif", tag.text, tag.line);
    statement.branches.push_back(std::move(otherwise));
    return statement;
  }

  Statement parse_for(const Token& tag) {
    Statement statement = make(StatementKind::for_, tag.line);
    statement.target = expressions_.parse_target("in");
    if (names(statement.target, "loop")) stream_.fail(tag.line, "'loop' cannot be assigned to in a loop");
    stream_.expect_name("in");
    statement.value = expressions_.parse_tuple(false, "recursive");
    if (stream_.skip_name("if")) statement.condition = expressions_.parse_expression();
    if (stream_.is_name("recursive")) stream_.fail(tag.line, "recursive loops are not supported");
    ++loop_depth_;
    statement.body = parse_block({"else", "endfor"}, tag.text, tag.line);
    --loop_depth_;
    if (stream_.next().text == "else") statement.otherwise = parse_whole_block("endfor", tag.text, tag.line);
    return statement;
  }

  Statement parse_set(const Token& tag) {
    Statement statement = make(StatementKind::set, tag.line);
    if (stream_.following().kind == TokenKind::operation && stream_.following().text == ".") {
      statement.target.line = tag.line;
      statement.target.name = stream_.expect(TokenKind::name, "a name").text;
      stream_.next();
      statement.target.attribute = stream_.expect(TokenKind::name, "a name").text;
    } else {
      statement.target = expressions_.parse_target();
    }
    if (loop_depth_ > 0 && names(statement.target, "loop"))
      stream_.fail(tag.line, "'loop' cannot be assigned to in a loop");
    if (stream_.skip_operation("=")) {
      statement.value = expressions_.parse_tuple();
      return statement;
    }
    statement.kind = StatementKind::set_block;
    statement.value = expressions_.parse_filters(nullptr);
    statement.body = parse_function_block("endset", tag.text, tag.line);
    return statement;
  }

  void parse_parameters(Statement& statement) {
    stream_.expect_operation("(");
    bool has_fallback = false;
    while (!stream_.is_operation(")")) {
      if (!statement.parameters.empty()) stream_.expect_operation(",");
      Parameter parameter;
      parameter.name = expressions_.parse_target_name();
      if (stream_.skip_operation("=")) {
        parameter.fallback = expressions_.parse_expression();
        has_fallback = true;
      } else if (has_fallback) {
        stream_.fail(statement.line, "a parameter without default follows one with a default");
      }
      for (const Parameter& other : statement.parameters)
        if (other.name == parameter.name)
          stream_.fail(statement.line, "the parameter '" + std::string(other.name) + "' is named twice");
      statement.parameters.push_back(std::move(parameter));
    }
    stream_.expect_operation(")");
  }

  Statement parse_macro(const Token& tag) {
    Statement statement = make(StatementKind::macro, tag.line);
    statement.name = expressions_.parse_target_name();
    parse_parameters(statement);
    statement.body = parse_function_block("endmacro", tag.text, tag.line);
    return statement;
  }

  Statement parse_call(const Token& tag) {
    Statement statement = make(StatementKind::call_block, tag.line);
    statement.name = "caller";
    if (stream_.is_operation("(")) parse_parameters(statement);
    statement.value = expressions_.parse_expression();
    if (statement.value->kind != ExpressionKind::call) stream_.fail(tag.line, "the tag 'call' has no call");
    statement.body = parse_function_block("endcall", tag.text, tag.line);
    return statement;
  }

  Statement parse_filter(const Token& tag) {
    Statement statement = make(StatementKind::filter_block, tag.line);
    statement.value = expressions_.parse_filters(nullptr, true);
    statement.body = parse_function_block("endfilter", tag.text, tag.line);
    return statement;
  }

  Statement parse_with(const Token& tag) {
    Statement statement = make(StatementKind::scope, tag.line);
    while (!stream_.is(TokenKind::block_end)) {
      if (!statement.assignments.empty()) stream_.expect_operation(",");
      Target target;
      target.line = stream_.current().line;
      target.name = expressions_.parse_target_name();
      stream_.expect_operation("=");
      statement.assignments.emplace_back(std::move(target), expressions_.parse_expression());
    }
    statement.body = parse_whole_block("endwith", tag.text, tag.line);
    return statement;
  }

  // transformers marks with it what an assistant has written; the text is the body's.
  Statement parse_generation(const Token& tag) {
    Statement statement = make(StatementKind::scope, tag.line);
    statement.body = parse_function_block("endgeneration", tag.text, tag.line);
    return statement;
  }

  Statement parse_jump(const Token& tag) {
    if (loop_depth_ == 0)
      stream_.fail(tag.line, "the tag '" + std::string(tag.text) + "' stands outside of a loop");
    return make(tag.text == "break" ? StatementKind::break_ : StatementKind::continue_, tag.line);
  }

  static Statement make(StatementKind kind, std::uint32_t line) {
    Statement statement;
    statement.kind = kind;
    statement.line = line;
    return statement;
  }

  static bool names(const Target& target, std::string_view name) {
    if (target.is_tuple)
      return std::ranges::any_of(target.parts, [&](const Target& part) { return names(part, name); });
    return target.name == name && target.attribute.empty();
  }

  TokenStream stream_;
  ExpressionParser expressions_;
  int loop_depth_ = 0;  // loops around the current statement that a break can leave
};

}  // namespace

Statements parse(std::string_view source, std::string_view subject) { return Parser(source, subject).run(); }

}  // namespace sluice::text::jinja
