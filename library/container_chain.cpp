#include "library/container_chain.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "cli/progress_line.h"
#include "library/source_release.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using format::Json;

verify::ChainInputs find_evidence(const format::ContainerReader& container,
                                    const ExpectationSources& sources, Console& console) {
  verify::ChainInputs evidence;
  if (!sources.key.empty() && sources.empty()) return evidence;  // only what that key signed counts
  const auto folders = source_release_candidates(container.path(), container.provenance());
  std::error_code not_there;
  const auto folder = std::ranges::find_if(
      folders, [&](const fs::path& candidate) { return fs::is_directory(candidate, not_there); });
  if (folder != folders.end()) evidence.folder = *folder;
  if (folders.empty() && sources.empty()) return evidence;
  // The folder need not be there: torrent and manifest lie beside it.
  const fs::path place = folder != folders.end() ? *folder
                         : folders.empty()       ? fs::absolute(container.path()).parent_path()
                                                 : folders.front();
  auto found = find_expectations(place, sources, console);
  evidence.release = std::move(found.expectations);
  if (const auto& manifest = evidence.release.manifest)
    for (const format::ManifestContainer& known : manifest->containers)
      evidence.pins.push_back({known.root, "manifest '" + manifest->name + "'"});
  for (const auto& source : found.found_in)
    evidence.source += (evidence.source.empty() ? "" : " and ") + source;
  return evidence;
}

}  // namespace

std::vector<verify::ChainLink> check_chain(const fs::path& container, const ExpectationSources& sources,
                                           bool read_files, const verify::Options& options,
                                           const Invocation& invocation) {
  const auto reader = format::ContainerReader::open(container);
  auto evidence = find_evidence(reader, sources, invocation.console);
  evidence.read_files = read_files;
  ProgressLine progress(invocation.console);
  auto chain = verify::check_chain(reader, evidence, options, progress, invocation.stop);
  invocation.console.clear_status();
  return chain;
}

bool speaks_of(const fs::path& container, const ExpectationSources& sources, Console& console) {
  if (sources.empty()) return false;
  const auto found = find_expectations(container, sources, console);
  const std::string name = container.filename().string();
  const auto& layout = found.expectations.layout;
  const auto& manifest = found.expectations.manifest;
  return (layout &&
          std::ranges::find(layout->files, name, &format::ReleaseFile::path) != layout->files.end()) ||
         (manifest && manifest->find_file(name) != nullptr);
}

bool differs(const std::vector<verify::ChainLink>& chain) {
  return std::ranges::any_of(
      chain, [](const verify::ChainLink& link) { return link.state == verify::LinkState::differs; });
}

void print_chain(const std::vector<verify::ChainLink>& chain, Console& console) {
  for (const auto& link : chain)
    console.print(std::string(1, verify::to_mark(link.state)) + " " + link.link + ": " +
                  base::to_printable(link.detail));
}

Json chain_json(const std::vector<verify::ChainLink>& chain) {
  Json links = Json::array();
  for (const auto& link : chain) {
    links.push_back(Json::object({{"link", link.link},
                                  {"state", std::string(1, verify::to_mark(link.state))},
                                  {"detail", link.detail}}));
  }
  return links;
}

}  // namespace sluice::cli
