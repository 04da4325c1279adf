#include "cli/source_release.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "cli/catalog.h"
#include "cli/environment.h"
#include "cli/store.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using format::Json;

std::string text_of(const Json& provenance, std::string_view key) {
  const Json* value = provenance.find(key);
  return value != nullptr && value->is_string() ? value->as_string(key) : std::string();
}

// A name from the container becomes part of a path only when it is one.
bool is_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos;
}

}  // namespace

std::vector<fs::path> source_release_candidates(const fs::path& container, const Json& provenance) {
  const std::string release = text_of(provenance, "release");
  std::vector<std::string> names;
  std::vector<fs::path> folders;
  std::optional<CatalogEntry> known;
  if (is_release_name(release)) known = find_release(release);
  if (is_file_name(release)) names.push_back(release);
  if (known && is_file_name(known->manifest.torrent_name)) names.push_back(known->manifest.torrent_name);
  for (const auto& name : names) folders.push_back(fs::absolute(container).parent_path() / name);
  for (const char* key : {"infohash_v1", "infohash_v2"}) {
    const std::string infohash = text_of(provenance, key);
    if (!is_file_name(infohash)) continue;
    const fs::path stored = Store(store_folder()).release_folder(infohash);
    for (const auto& name : names) folders.push_back(stored / name);
  }
  if (known && known->embedded_folder) folders.push_back(*known->embedded_folder);
  return folders;
}

std::optional<fs::path> find_source_release(const fs::path& container, const Json& provenance) {
  const auto folders = source_release_candidates(container, provenance);
  std::error_code not_there;
  const auto folder = std::ranges::find_if(
      folders, [&](const fs::path& candidate) { return fs::is_directory(candidate, not_there); });
  return folder == folders.end() ? std::nullopt : std::optional(*folder);
}

}  // namespace sluice::cli
