// utf8proc behind three functions. UTF8PROC_STABLE keeps to normal forms that later Unicode versions do not
// change, since names are compared between machines.

#include "base/unicode.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "base/text.h"

namespace sluice::base {
namespace {

std::optional<std::string> map(std::string_view text, int options) {
  utf8proc_uint8_t* mapped = nullptr;
  const auto length = utf8proc_map(
      reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
      &mapped, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE | options));
  // utf8proc allocates the result with malloc().
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
  if (length < 0) return std::nullopt;
  return std::string(reinterpret_cast<const char*>(mapped), static_cast<std::size_t>(length));
}

}  // namespace

std::optional<std::string> to_nfc(std::string_view text) { return map(text, 0); }

std::optional<std::string> fold_case(std::string_view text) { return map(text, UTF8PROC_CASEFOLD); }

std::size_t display_columns(std::string_view text) {
  std::size_t columns = 0;
  while (!text.empty()) {
    const int length = utf8_length(text);
    if (length <= 0) {
      ++columns;
      text.remove_prefix(1);
      continue;
    }
    const auto character = text.substr(0, static_cast<std::size_t>(length));
    columns +=
        static_cast<std::size_t>(utf8proc_charwidth(static_cast<utf8proc_int32_t>(decode_utf8(character))));
    text.remove_prefix(character.size());
  }
  return columns;
}

}  // namespace sluice::base
