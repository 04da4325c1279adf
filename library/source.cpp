#include "library/source.h"

#include <string_view>
#include <utility>

#include "base/error.h"

namespace sluice::library {
namespace {

bool starts_with_folded(std::string_view text, std::string_view prefix) {
  if (text.size() < prefix.size()) return false;
  for (std::size_t i = 0; i < prefix.size(); ++i) {
    const char c = text[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c) != prefix[i]) return false;
  }
  return true;
}

}  // namespace

Source find_source(const std::string& text, const Folders& folders) {
  if (starts_with_folded(text, "magnet:")) return {Source::Kind::magnet, text, std::nullopt};
  if (starts_with_folded(text, "http://") || starts_with_folded(text, "https://"))
    return {Source::Kind::url, text, std::nullopt};
  std::error_code unreadable;
  if (std::filesystem::exists(text, unreadable)) return {Source::Kind::path, text, std::nullopt};
  if (auto release = find_release(text, folders)) return {Source::Kind::release, text, std::move(release)};
  throw base::Error(base::ErrorKind::usage,
                    "'" + text +
                        "' is neither a magnet link or URL nor an existing path nor a known release "
                        "(sluice releases lists them)");
}

}  // namespace sluice::library
