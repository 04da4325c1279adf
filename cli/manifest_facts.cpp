// A manifest states facts in addition to names and digests of files: licence, source, pinned containers and
// the digests of tensors. publish and verify --write-sums share it.

#include "cli/manifest_facts.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "cli/progress_line.h"
#include "format/checkpoint_index.h"
#include "format/container_reader.h"
#include "format/released_model.h"
#include "format/tensor_digests.h"

namespace sluice::cli {
namespace {

std::string checked_text(const std::string& option, const std::string& text) {
  if (base::to_printable(text) != text)
    throw base::Error(base::ErrorKind::usage, option + " is one line of characters that can be shown");
  return text;
}

format::ManifestContainer describe_container(const std::filesystem::path& path) {
  const auto reader = format::ContainerReader::open(path);
  format::ManifestContainer container;
  container.name = path.filename().string();
  container.root = reader.root();
  container.tensors_sha256 = reader.tensors_sha256();
  container.quant = reader.recipe().at("quant", path.string() + ": recipe").as_string(path.string());
  return container;
}

/// The model's tensors, which are the same in every layout; when the files are not a model, the files'
/// tensors.
std::vector<format::ManifestTensor> digest_release(const std::filesystem::path& release,
                                                   unsigned thread_count, base::Progress& progress,
                                                   const std::stop_token& stop) {
  std::optional<format::ReleasedModel> model;
  try {
    model = format::open_released_model(release);
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::malformed) throw;
    return format::digest_tensors(format::open_checkpoint(release), thread_count, progress, stop);
  }
  return format::digest_tensors(*model, thread_count, progress, stop);
}

}  // namespace

void declare_facts(Options& options, ManifestFacts& facts) {
  options.group("Manifest");
  options.add_text("--licence ID", facts.licence, "Licence of the release, an SPDX identifier");
  options.add_text("--source TEXT", facts.source, "Who released it, and where that is announced");
  options.add_list("--container FILE", facts.containers,
                   "A .sluice file made from the release; the manifest pins its root digest");
}

void add_facts(const ManifestFacts& facts, format::Manifest& manifest) {
  if (!facts.licence.empty()) manifest.licence = checked_text("--licence", facts.licence);
  if (!facts.source.empty()) manifest.source = checked_text("--source", facts.source);
  for (const std::string& path : facts.containers) {
    // A container that was made anew takes the place of the one with its name; the manifest would otherwise
    // pin both roots.
    auto container = describe_container(path);
    std::erase_if(manifest.containers, [&](const auto& known) { return known.name == container.name; });
    manifest.containers.push_back(std::move(container));
  }
  // The containers are sorted, so that the order of options does not change the manifest.
  std::ranges::sort(manifest.containers, {}, &format::ManifestContainer::name);
}

void add_tensors(const std::filesystem::path& release, unsigned thread_count, Console& console,
                 const std::stop_token& stop, format::Manifest& manifest) {
  ProgressLine progress(console);
  try {
    manifest.tensors = digest_release(release, thread_count, progress, stop);
  } catch (const base::Error& error) {
    // A release need not be a model. Its manifest then lists files alone.
    if (error.kind() != base::ErrorKind::malformed) throw;
    console.clear_status();
    console.note(std::string("no checkpoint found, so the manifest lists files only: ") + error.what());
    return;
  }
  manifest.tensor_count = manifest.tensors.size();
  std::uint64_t parameters = 0;
  for (const auto& tensor : manifest.tensors) parameters += format::element_count(tensor.shape).value();
  manifest.parameter_count = parameters;
  console.clear_status();
}

}  // namespace sluice::cli
