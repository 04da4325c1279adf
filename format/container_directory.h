#pragma once
// The container's directory between its JSON text and values. Private to format: reader and writer meet here.

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "format/container_format.h"
#include "format/json.h"
#include "format/model_description.h"

namespace sluice::format {

struct ContainerDirectory {
  ModelDescription description;
  /// Whether the text has the description. Files from before there was one have "params" alone, from which it
  /// is derived.
  bool has_description = true;
  std::vector<ContainerTensor> tensors;    ///< in payload order
  std::vector<ContainerExpert> experts;    ///< by layer, then expert
  std::vector<ContainerSection> sections;  ///< in payload order
  Json provenance = Json::object();
  Json recipe = Json::object();
};

/// How every directory begins, with one or the other: to_text writes the model first.
constexpr std::array<std::string_view, 2> kDirectoryStarts{"{\"params\":{", "{\"description\":{"};

[[nodiscard]] std::string to_text(const ContainerDirectory& directory);

/// Error{malformed} for anything that to_text does not write: unknown keys, wrong types, bad digests,
/// "params" and "description" of two models. Whether the ranges make sense is check_directory's business.
[[nodiscard]] ContainerDirectory parse_directory(std::string_view text, std::string_view subject);

/// The tensors are those of the description, with the right shapes; everything lies in [header, payload_end)
/// in order, aligned, without overlap; experts are contiguous; digests of experts and `root` follow from
/// those of the tensors.
void check_directory(const ContainerDirectory& directory, std::uint64_t payload_end_bytes,
                     const base::Sha256& root, std::string_view subject);

/// The experts that follow from the tensors, by layer, then expert.
[[nodiscard]] std::vector<ContainerExpert> experts_of(const std::vector<ContainerTensor>& tensors,
                                                      const ModelDescription& description);

}  // namespace sluice::format
