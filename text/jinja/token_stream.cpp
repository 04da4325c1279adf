#include <algorithm>

#include "text/jinja/parser.h"

namespace sluice::text::jinja {
namespace {

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::end: return "the end of the template";
    case TokenKind::data: return "text";
    case TokenKind::block_end: return "'%}'";
    case TokenKind::variable_end: return "'}}'";
    case TokenKind::block_begin: return "'{%'";
    case TokenKind::variable_begin: return "'{{'";
    default: break;
  }
  constexpr std::size_t kShownBytesMax = 40;
  if (token.text.size() <= kShownBytesMax) return "'" + std::string(token.text) + "'";
  return "a token of " + std::to_string(token.text.size()) + " bytes";
}

}  // namespace

Token TokenStream::next() {
  const Token token = current();
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}

bool TokenStream::is_name(std::string_view name) const {
  return is(TokenKind::name) && current().text == name;
}

bool TokenStream::is_operation(std::string_view text) const {
  return is(TokenKind::operation) && current().text == text;
}

bool TokenStream::skip_name(std::string_view name) {
  if (!is_name(name)) return false;
  next();
  return true;
}

bool TokenStream::skip_operation(std::string_view text) {
  if (!is_operation(text)) return false;
  next();
  return true;
}

Token TokenStream::expect(TokenKind kind, std::string_view what) {
  if (!is(kind)) fail_expected(what);
  return next();
}

void TokenStream::expect_name(std::string_view name) {
  if (!skip_name(name)) fail_expected("'" + std::string(name) + "'");
}

void TokenStream::expect_operation(std::string_view text) {
  if (!skip_operation(text)) fail_expected("'" + std::string(text) + "'");
}

void TokenStream::fail_expected(std::string_view what) const {
  fail(current().line, "expected " + std::string(what) + ", found " + describe(current()));
}

void TokenStream::fail(std::uint32_t line, std::string_view message) const {
  throw_at_line(subject_, line, message);
}

}  // namespace sluice::text::jinja
