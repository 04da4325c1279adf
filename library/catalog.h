#pragma once
// The known releases: the manifests in Folders::data and Folders::user_data. A release whose files stand
// beside its manifest, in a folder of its name, is embedded and needs no network.

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/manifest.h"
#include "library/context.h"

namespace sluice::library {

struct CatalogEntry {
  format::Manifest manifest;
  std::filesystem::path manifest_path;
  std::optional<std::filesystem::path> embedded_folder;
};

/// All known releases, sorted by name. A manifest that cannot be read is left out with a warning.
[[nodiscard]] std::vector<CatalogEntry> list_releases(const Context& context);

/// The names of all known releases, sorted, without reading their manifests.
[[nodiscard]] std::vector<std::string> list_release_names(const Folders& folders);

/// The release of that name; nothing when there is none. Error{malformed} for a damaged manifest.
[[nodiscard]] std::optional<CatalogEntry> find_release(std::string_view name, const Folders& folders);

/// The known release that a container names as its origin; nothing when it names no release or an unknown
/// one. The name is the container's own word. A damaged manifest is a warning.
[[nodiscard]] std::optional<CatalogEntry> find_origin(const std::filesystem::path& container,
                                                      const Context& context);

/// A manifest by its file's path or its release's name. Error{usage} when it is neither.
[[nodiscard]] std::filesystem::path find_manifest_file(const std::string& name, const Folders& folders);

/// Release names are harmless file names: [a-z0-9][a-z0-9._-]*.
[[nodiscard]] bool is_release_name(std::string_view text);

}  // namespace sluice::library
