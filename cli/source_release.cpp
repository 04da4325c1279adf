#include "cli/source_release.h"

#include <string>
#include <system_error>

#include "cli/catalog.h"
#include "cli/environment.h"
#include "cli/store.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

std::string text_of(const format::Json& provenance, const char* key) {
  const format::Json* value = provenance.find(key);
  return value == nullptr ? std::string() : value->as_string("provenance");
}

bool is_folder(const fs::path& path) {
  std::error_code unreadable;
  return fs::is_directory(path, unreadable);
}

/// The store keeps a release in a folder of its name below that of its info-hash.
std::optional<fs::path> find_in_store(const std::string& infohash) {
  if (infohash.empty()) return std::nullopt;
  std::error_code absent;
  for (const auto& item : fs::directory_iterator(Store(store_folder()).release_folder(infohash), absent))
    if (item.is_directory() && item.path().filename() != ".sluice") return item.path();
  return std::nullopt;
}

}  // namespace

std::optional<fs::path> find_source_release(const format::Json& provenance, const fs::path& container) {
  const std::string name = text_of(provenance, "release");
  if (is_release_name(name)) {
    const auto entry = find_release(name);
    if (entry && entry->embedded_folder) return entry->embedded_folder;
  }
  for (const char* key : {"infohash_v1", "infohash_v2"})
    if (auto found = find_in_store(text_of(provenance, key))) return found;
  if (is_release_name(name) || fs::path(name).filename() == name) {
    const fs::path beside = fs::absolute(container).parent_path() / name;
    if (!name.empty() && is_folder(beside)) return beside;
  }
  return std::nullopt;
}

}  // namespace sluice::cli
