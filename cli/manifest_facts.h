#pragma once
// The facts that a manifest states in addition to file digests: licence, source, tensors, containers.

#include <filesystem>
#include <stop_token>
#include <string>
#include <vector>

#include "cli/options.h"
#include "format/manifest.h"

namespace sluice::cli {

struct ManifestFacts {
  std::string licence;
  std::string source;
  std::vector<std::string> containers;  ///< .sluice files that were made from the release

  [[nodiscard]] bool empty() const { return licence.empty() && source.empty() && containers.empty(); }
};

/// --licence, --source, --container.
void declare_facts(Options& options, ManifestFacts& facts);

/// Facts from the command line replace those of the manifest.
void add_facts(const ManifestFacts& facts, format::Manifest& manifest);

/// Adds the tensors of the release's checkpoint, when it has one that can be read.
void add_tensors(const std::filesystem::path& release, unsigned thread_count, Console& console,
                 const std::stop_token& stop, format::Manifest& manifest);

}  // namespace sluice::cli
