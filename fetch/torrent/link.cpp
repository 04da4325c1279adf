// Links as people paste them. A link comes from a chat, a mail or a file, with what stood around it there:
// blanks, line ends, quotation marks, a byte order mark. Nobody means these as a part of the link.

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "base/ascii.h"
#include "base/digest.h"
#include "base/error.h"
#include "fetch/fetch.h"

namespace sluice::fetch {
namespace {

// UTF-8: byte order mark, no-break space, zero-width space, and the quotation marks of word processors.
constexpr std::array<std::string_view, 16> kSurroundings = {" ",
                                                            "\t",
                                                            "\r",
                                                            "\n",
                                                            "\"",
                                                            "'",
                                                            "`",
                                                            "<",
                                                            ">",
                                                            "\xef\xbb\xbf",
                                                            "\xc2\xa0",
                                                            "\xe2\x80\x8b",
                                                            "\xe2\x80\x98",
                                                            "\xe2\x80\x99",
                                                            "\xe2\x80\x9c",
                                                            "\xe2\x80\x9d"};

std::string_view trim_surroundings(std::string_view text) {
  for (bool found = true; found;) {
    found = false;
    for (const std::string_view part : kSurroundings) {
      if (text.starts_with(part)) {
        text.remove_prefix(part.size());
        found = true;
      }
      if (text.ends_with(part)) {
        text.remove_suffix(part.size());
        found = true;
      }
    }
  }
  return text;
}

bool is_infohash_v1(std::string_view text) {
  constexpr std::string_view kBase32 = "abcdefghijklmnopqrstuvwxyz234567";
  if (base::parse_digest<base::Sha1>(text)) return true;
  return text.size() == 32 && base::to_lower(text).find_first_not_of(kBase32) == std::string::npos;
}

std::string to_magnet(std::string_view text) {
  constexpr std::string_view kMultihashSha256 = "1220";  // multiformats: sha2-256, 32 bytes
  constexpr std::string_view kV1 = "urn:btih:";
  constexpr std::string_view kV2 = "urn:btmh:";
  std::string_view hash = text;
  for (const std::string_view prefix : {kV1, kV2})
    if (base::starts_with_ignoring_case(hash, prefix)) hash.remove_prefix(prefix.size());
  if (is_infohash_v1(hash)) return "magnet:?xt=" + std::string(kV1) + std::string(hash);
  if (hash.starts_with(kMultihashSha256) && base::parse_digest<base::Sha256>(hash.substr(4)))
    hash.remove_prefix(kMultihashSha256.size());
  if (base::parse_digest<base::Sha256>(hash))
    return "magnet:?xt=" + std::string(kV2) + std::string(kMultihashSha256) + std::string(hash);
  return std::string(text);
}

/// RFC 8089: file:///path, file:/path and file://localhost/path.
std::string to_path(std::string_view url) {
  url.remove_prefix(std::string_view("file:").size());
  if (url.starts_with("//")) url.remove_prefix(2);
  if (base::starts_with_ignoring_case(url, "localhost/"))
    url.remove_prefix(std::string_view("localhost").size());
  return base::percent_decode(url);
}

bool is_link(std::string_view text) {
  return base::starts_with_ignoring_case(text, "magnet:") ||
         base::starts_with_ignoring_case(text, "http://") ||
         base::starts_with_ignoring_case(text, "https://");
}

}  // namespace

std::string clean_link(std::string_view text) {
  const std::string_view trimmed = trim_surroundings(text);
  if (base::starts_with_ignoring_case(trimmed, "file:/")) return to_path(trimmed);
  if (!is_link(trimmed)) return to_magnet(trimmed);
  // A link that was wrapped, as in mail, has line ends inside.
  std::string link;
  for (const char c : trimmed)
    if (c != '\r' && c != '\n' && c != '\t') link += c;
  return link;
}

std::optional<std::string> find_link(std::string_view text, std::string_view subject) {
  std::optional<std::string> found;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string line = clean_link(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.starts_with('#')) continue;
    if (!is_link(line)) {
      if (!found) return std::nullopt;  // another kind of file
      continue;
    }
    if (found && *found != line)
      throw base::Error(base::ErrorKind::usage,
                        std::string(subject) + ": holds several links; give one of them");
    found = line;
  }
  return found;
}

}  // namespace sluice::fetch
