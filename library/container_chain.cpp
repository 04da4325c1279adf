// Collects what verify::check_chain compares: the release's folder, its references, and the manifests that
// pin a root. What is not at hand becomes an "unknown" link, never a failure: a container can be used where
// its release is not.

#include "library/container_chain.h"

#include <algorithm>
#include <string>
#include <utility>

#include "library/source_release.h"

namespace sluice::library {
namespace {

namespace fs = std::filesystem;

verify::ChainInputs find_inputs(const format::ContainerReader& container, const NamedReferences& named,
                                const Context& context) {
  verify::ChainInputs inputs;
  // With --key alone, the key is meant for the container's own signature. Looking around the release would
  // end with Error{untrusted} at the first reference that this key has not signed.
  if (!named.key.empty() && named.empty()) return inputs;
  const auto candidates = list_source_releases(container.path(), container.provenance(), context.folders);
  if (candidates.empty() && named.empty()) return inputs;
  std::error_code absent;
  const auto folder = std::ranges::find_if(
      candidates, [&](const fs::path& candidate) { return fs::is_directory(candidate, absent); });
  if (folder != candidates.end()) inputs.folder = *folder;
  // The folder need not exist: torrent and manifest lie beside it.
  const fs::path place = folder != candidates.end() ? *folder
                         : candidates.empty()       ? fs::absolute(container.path()).parent_path()
                                                    : candidates.front();
  auto found = find_references(place, named, context);
  inputs.release = std::move(found.expected);
  if (const auto& manifest = inputs.release.manifest)
    // find_references() has verified the signature of the manifest, if there is one, so the roots count as
    // pins.
    for (const format::ManifestContainer& known : manifest->containers)
      inputs.pins.push_back({known.root, "manifest '" + manifest->name + "'"});
  for (const auto& file : found.found_in) inputs.source += (inputs.source.empty() ? "" : " and ") + file;
  return inputs;
}

}  // namespace

std::vector<verify::ChainLink> check_chain(const fs::path& container, const NamedReferences& named,
                                           ReleaseFiles files, const verify::Options& options,
                                           const Context& context) {
  const auto reader = format::ContainerReader::open(container);
  // Only the directory is read here; verify_container() compares the payload.
  auto inputs = find_inputs(reader, named, context);
  inputs.read_files = files == ReleaseFiles::read;
  auto chain = verify::check_chain(reader, inputs, options, context.observer.progress(), context.stop);
  context.observer.on_work_end();
  return chain;
}

bool names_container(const NamedReferences& named, const fs::path& container, const Context& context) {
  if (named.empty()) return false;
  // A release can contain .sluice files. Then the manifest's digest of the whole file decides, and the
  // container is verified like any other file of the release.
  const auto found = find_references(container, named, context);
  const std::string name = container.filename().string();
  const auto& layout = found.expected.layout;
  const auto& manifest = found.expected.manifest;
  return (layout &&
          std::ranges::find(layout->files, name, &format::ReleaseFile::path) != layout->files.end()) ||
         (manifest && manifest->find_file(name) != nullptr);
}

bool differs(const std::vector<verify::ChainLink>& chain) {
  return std::ranges::any_of(
      chain, [](const verify::ChainLink& link) { return link.state == verify::LinkState::differs; });
}

}  // namespace sluice::library
