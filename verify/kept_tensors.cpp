#include "verify/kept_tensors.h"

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "base/text.h"
#include "format/mx/mx_rows.h"

namespace sluice::verify {
namespace {

using format::ContainerTensor;

std::vector<const ContainerTensor*> kept_tensors(const format::ContainerReader& container) {
  std::vector<const ContainerTensor*> kept;
  for (const ContainerTensor& tensor : container.tensors())
    if (tensor.storage == format::Storage::mx4_tiles) kept.push_back(&tensor);
  return kept;
}

/// The source digest of each tensor, from its bytes.
std::vector<base::Sha256> source_digests(const format::ContainerReader& container,
                                         const std::vector<const ContainerTensor*>& tensors,
                                         const Options& options, base::Progress& progress,
                                         const std::stop_token& stop) {
  std::uint64_t total_bytes = 0;
  for (const ContainerTensor* tensor : tensors) total_bytes += tensor->length_bytes;
  progress.begin("proving kept tensors", total_bytes);
  std::vector<base::Sha256> digests(tensors.size());
  base::WorkerPool pool(std::max(1u, options.thread_count));
  pool.run(tensors.size(), [&](std::size_t i, unsigned) {
    if (stop.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
    digests[i] = format::mx_source_digest(container, *tensors[i]);
    progress.advance(tensors[i]->length_bytes);
  });
  return digests;
}

/// How many of the tensors the manifest lists, and the first that it lists with other content.
struct Listed {
  std::size_t count = 0;
  const ContainerTensor* other = nullptr;
};

Listed compare(const std::vector<const ContainerTensor*>& tensors, const format::Manifest& manifest) {
  std::map<std::string_view, const format::ManifestTensor*> by_name;
  for (const format::ManifestTensor& tensor : manifest.tensors) by_name[tensor.name] = &tensor;
  Listed listed;
  for (const ContainerTensor* tensor : tensors) {
    const auto found = by_name.find(tensor->name);
    // Another type says nothing: the manifest may be that of the same model saved in bf16.
    if (found == by_name.end() || found->second->dtype != tensor->source_dtype) continue;
    ++listed.count;
    const bool equal =
        found->second->shape == tensor->shape && found->second->digest == tensor->source_digest;
    if (!equal && listed.other == nullptr) listed.other = tensor;
  }
  return listed;
}

}  // namespace

std::optional<ChainLink> check_kept_tensors(const format::ContainerReader& container,
                                            const ChainInputs& inputs, const Options& options,
                                            base::Progress& progress, const std::stop_token& stop) {
  const auto tensors = kept_tensors(container);
  if (tensors.empty()) return std::nullopt;
  constexpr const char* kLink = "kept tensors";
  const std::string count = base::to_counted(tensors.size(), "tensor") + " in mx4";
  if (!inputs.read_files)
    return ChainLink{kLink, LinkState::unknown, count + ": sluice verify compares them with their sources"};
  const auto digests = source_digests(container, tensors, options, progress, stop);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (digests[i] == tensors[i]->source_digest) continue;
    return ChainLink{kLink, LinkState::differs,
                     "'" + tensors[i]->name + "' does not give the source digest that the container records"};
  }
  const auto& manifest = inputs.release.manifest;
  const Listed listed = manifest ? compare(tensors, *manifest) : Listed{};
  if (listed.other != nullptr)
    return ChainLink{kLink, LinkState::differs,
                     "'" + listed.other->name + "' has another source digest in " + inputs.source};
  std::string detail = count + " give back the released bytes that their source digests name";
  if (listed.count == tensors.size()) detail += ", which are those of " + inputs.source;
  return ChainLink{kLink, LinkState::checked, std::move(detail)};
}

}  // namespace sluice::verify
