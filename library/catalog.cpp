// The manifests are read anew for each call: there are few, they are small, and a manifest that the user adds
// is known at once. Names come from users and from containers of strangers, so they become part of a path
// only after is_release_name().

#include "library/catalog.h"

#include <algorithm>
#include <set>

#include "base/ascii.h"
#include "base/error.h"
#include "format/container_reader.h"

namespace sluice::library {
namespace {

namespace fs = std::filesystem;

CatalogEntry read_entry(const fs::path& path) {
  CatalogEntry entry{format::read_manifest(path), path, std::nullopt};
  auto folder = path;
  folder.replace_extension();
  // The folder that lies beside NAME.json and has its name without the extension.
  if (fs::is_directory(folder)) entry.embedded_folder = folder;
  return entry;
}

/// The user's manifests come first, so that they can replace one of the program's.
std::vector<fs::path> manifest_folders(const Folders& folders) {
  std::vector<fs::path> found;
  for (const fs::path& data : {folders.user_data, folders.data}) {
    const fs::path manifests = data / "manifests";
    if (!data.empty() && fs::is_directory(manifests)) found.push_back(manifests);
  }
  return found;
}

/// The manifest of each name, once.
std::vector<fs::path> list_manifests(const Folders& folders) {
  std::vector<fs::path> manifests;
  std::set<std::string> names;
  for (const auto& folder : manifest_folders(folders)) {
    for (const auto& item : fs::directory_iterator(folder)) {
      if (item.path().extension() == ".json" && item.is_regular_file() &&
          names.insert(item.path().stem().string()).second)
        manifests.push_back(item.path());
    }
  }
  return manifests;
}

}  // namespace

bool is_release_name(std::string_view text) {
  const auto is_lower = [](char c) { return base::is_alphanumeric(c) && base::to_lower(c) == c; };
  return !text.empty() && is_lower(text.front()) &&
         std::ranges::all_of(text, [&](char c) { return is_lower(c) || c == '.' || c == '_' || c == '-'; });
}

std::vector<CatalogEntry> list_releases(const Context& context) {
  std::vector<CatalogEntry> entries;
  for (const auto& path : list_manifests(context.folders)) {
    try {
      entries.push_back(read_entry(path));
    } catch (const base::Error& error) {
      // One damaged manifest must not hide the other releases.
      context.observer.on_warning(std::string(error.what()) + "; this manifest is left out");
    }
  }
  std::ranges::sort(entries, {}, [](const CatalogEntry& entry) { return entry.manifest.name; });
  return entries;
}

std::vector<std::string> list_release_names(const Folders& folders) {
  std::vector<std::string> names;
  for (const auto& path : list_manifests(folders)) names.push_back(path.stem().string());
  std::ranges::sort(names);
  return names;
}

std::optional<CatalogEntry> find_release(std::string_view name, const Folders& folders) {
  if (!is_release_name(name)) return std::nullopt;
  for (const auto& folder : manifest_folders(folders)) {
    const fs::path path = folder / (std::string(name) + ".json");
    if (fs::is_regular_file(path)) return read_entry(path);
  }
  return std::nullopt;
}

std::optional<CatalogEntry> find_origin(const fs::path& container, const Context& context) {
  // The container names its origin itself, and nothing has verified that here. Callers may use the release
  // for hints, such as the trained context, and not as a proof.
  const auto reader = format::ContainerReader::open(container);
  const format::Json* name = reader.provenance().find("release");
  if (name == nullptr || !name->is_string()) return std::nullopt;
  try {
    return find_release(name->as_string("release"), context.folders);
  } catch (const base::Error& error) {
    context.observer.on_warning(error.what());
    return std::nullopt;
  }
}

fs::path find_manifest_file(const std::string& name, const Folders& folders) {
  std::error_code absent;
  // Files come before release names, as in find_source(): a file of the user is never hidden by a release.
  if (fs::is_regular_file(name, absent)) return name;
  if (const auto entry = find_release(name, folders)) return entry->manifest_path;
  throw base::Error(base::ErrorKind::usage,
                    "--manifest " + name + ": neither a file nor the name of a known release");
}

}  // namespace sluice::library
