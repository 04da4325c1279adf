#include "library/source.h"

#include <utility>

#include "base/ascii.h"
#include "base/error.h"

namespace sluice::library {

Source find_source(const std::string& text, const Folders& folders) {
  if (base::starts_with_ignoring_case(text, "magnet:")) return {Source::Kind::magnet, text, std::nullopt};
  if (base::starts_with_ignoring_case(text, "http://") || base::starts_with_ignoring_case(text, "https://"))
    return {Source::Kind::url, text, std::nullopt};
  // Paths come before release names, so that files of the user are never hidden by a release.
  std::error_code unreadable;
  if (std::filesystem::exists(text, unreadable)) return {Source::Kind::path, text, std::nullopt};
  if (auto release = find_release(text, folders)) return {Source::Kind::release, text, std::move(release)};
  throw base::Error(base::ErrorKind::usage,
                    "'" + text +
                        "' is neither a magnet link or URL nor an existing path nor a known release "
                        "(sluice releases lists them)");
}

}  // namespace sluice::library
