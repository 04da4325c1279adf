#pragma once
// The container's directory between its JSON text and values. Private to format: reader and writer meet here.

#include <string>
#include <string_view>
#include <vector>

#include "format/container_format.h"
#include "format/json.h"
#include "format/model_params.h"

namespace sluice::format {

struct ContainerDirectory {
  ModelParams params;
  std::vector<ContainerTensor> tensors;    ///< in payload order
  std::vector<ContainerExpert> experts;    ///< by layer, then expert
  std::vector<ContainerSection> sections;  ///< in payload order
  Json provenance = Json::object();
  Json recipe = Json::object();
};

[[nodiscard]] std::string to_text(const ContainerDirectory& directory);

/// Error{malformed} for anything that to_text does not write: unknown keys, wrong types, bad digests. Whether
/// the ranges make sense is check_directory's business.
[[nodiscard]] ContainerDirectory parse_directory(std::string_view text, std::string_view subject);

/// The tensors are those of the parameters, with the right shapes; everything lies in [header, payload_end)
/// in order, aligned, without overlap; experts are contiguous; digests of experts and `root` follow from
/// those of the tensors.
void check_directory(const ContainerDirectory& directory, std::uint64_t payload_end_bytes,
                     const base::Sha256& root, std::string_view subject);

/// The experts that follow from the tensors, by layer, then expert.
[[nodiscard]] std::vector<ContainerExpert> experts_of(const std::vector<ContainerTensor>& tensors,
                                                      const ModelParams& params);

}  // namespace sluice::format
