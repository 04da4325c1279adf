#include "library/catalog.h"

#include <algorithm>

#include "base/error.h"
#include "cli/environment.h"

namespace sluice::cli {
namespace {

CatalogEntry read_entry(const std::filesystem::path& path) {
  CatalogEntry entry{format::read_manifest(path), path, std::nullopt};
  auto folder = path;
  folder.replace_extension();
  if (std::filesystem::is_directory(folder)) entry.embedded_folder = folder;
  return entry;
}

}  // namespace

bool is_release_name(std::string_view text) {
  const auto is_alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !text.empty() && is_alphanumeric(text.front()) && std::ranges::all_of(text, [&](char c) {
    return is_alphanumeric(c) || c == '.' || c == '_' || c == '-';
  });
}

std::vector<CatalogEntry> list_catalog(Console& console) {
  std::vector<CatalogEntry> entries;
  const auto data = data_folder();
  if (!data || !std::filesystem::is_directory(*data / "manifests")) return entries;
  for (const auto& item : std::filesystem::directory_iterator(*data / "manifests")) {
    if (item.path().extension() != ".json" || !item.is_regular_file()) continue;
    try {
      entries.push_back(read_entry(item.path()));
    } catch (const base::Error& error) {
      console.warn(std::string(error.what()) + "; this manifest is left out");
    }
  }
  std::ranges::sort(entries, {}, [](const CatalogEntry& entry) { return entry.manifest.name; });
  return entries;
}

std::optional<CatalogEntry> find_release(std::string_view name) {
  const auto data = data_folder();
  if (!data || !is_release_name(name)) return std::nullopt;
  const auto path = *data / "manifests" / (std::string(name) + ".json");
  if (!std::filesystem::is_regular_file(path)) return std::nullopt;
  return read_entry(path);
}

}  // namespace sluice::cli
