#pragma once
// The known releases: the manifests in the data folder. A release whose files stand beside its manifest, in a
// folder of its name, is embedded and needs no network.

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/console.h"
#include "format/manifest.h"

namespace sluice::cli {

struct CatalogEntry {
  format::Manifest manifest;
  std::filesystem::path manifest_path;
  std::optional<std::filesystem::path> embedded_folder;
};

/// All manifests, sorted by name. One that cannot be read is left out with a warning.
[[nodiscard]] std::vector<CatalogEntry> list_catalog(Console& console);

/// The release of that name; nothing when there is none. Error{malformed} for a damaged manifest.
[[nodiscard]] std::optional<CatalogEntry> find_release(std::string_view name);

/// A release name can be a file name, and nothing else: [a-z0-9][a-z0-9._-]*.
[[nodiscard]] bool is_release_name(std::string_view text);

}  // namespace sluice::cli
