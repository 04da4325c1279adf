#include "library/source.h"

#include <utility>

#include "base/ascii.h"
#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "fetch/fetch.h"

namespace sluice::library {
namespace {

/// The link in a text file: what people save from a chat or a web page. Nothing for files of other kinds.
std::optional<std::string> read_link_file(const std::filesystem::path& path) {
  constexpr std::uint64_t kLinkFileBytesMax = 64u << 10;
  std::error_code unreadable;
  if (!std::filesystem::is_regular_file(path, unreadable) ||
      std::filesystem::file_size(path, unreadable) > kLinkFileBytesMax)
    return std::nullopt;
  const std::string content = base::read_text_file(path, kLinkFileBytesMax);
  return base::is_utf8(content) ? fetch::find_link(content, path.string()) : std::nullopt;
}

std::optional<Source> to_link(const std::string& text) {
  if (base::starts_with_ignoring_case(text, "magnet:"))
    return Source{Source::Kind::magnet, text, std::nullopt};
  if (base::starts_with_ignoring_case(text, "http://") || base::starts_with_ignoring_case(text, "https://"))
    return Source{Source::Kind::url, text, std::nullopt};
  return std::nullopt;
}

}  // namespace

Source find_source(const std::string& given, const Folders& folders) {
  // Paths come before names and info-hashes, so that files of the user are never hidden by them.
  std::error_code unreadable;
  std::string text = std::filesystem::exists(given, unreadable) ? given : fetch::clean_link(given);
  if (auto link = read_link_file(text)) text = std::move(*link);
  if (auto link = to_link(text)) return std::move(*link);
  if (std::filesystem::exists(text, unreadable)) return {Source::Kind::path, text, std::nullopt};
  if (auto release = find_release(text, folders)) return {Source::Kind::release, text, std::move(release)};
  throw base::Error(base::ErrorKind::usage,
                    "'" + text +
                        "' is neither a magnet link or URL nor an existing path nor a known release "
                        "(sluice releases lists them)");
}

}  // namespace sluice::library
