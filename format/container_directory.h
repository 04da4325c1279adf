#pragma once
// The container's directory between its JSON text and values. Private to format: reader and writer meet here.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "format/container_format.h"
#include "format/json.h"
#include "format/model_description.h"

namespace sluice::format {

struct ContainerDirectory {
  std::uint32_t version = kContainerVersion;
  ModelDescription description;
  /// Whether the text has the description. Files of version 1 from before there was one have "params" alone,
  /// from which it is derived.
  bool has_description = true;
  std::vector<ContainerTensor> tensors;    ///< in payload order
  std::vector<ContainerExpert> experts;    ///< by layer, then expert
  std::vector<ContainerSection> sections;  ///< in payload order
  Json provenance = Json::object();
  Json recipe = Json::object();
};

/// How every directory begins: with its version, and in version 1 with the model.
constexpr std::array<std::string_view, 3> kDirectoryStarts{"{\"version\":2,", "{\"params\":{",
                                                           "{\"description\":{"};

[[nodiscard]] std::string to_text(const ContainerDirectory& directory);

/// Error{malformed} for anything that to_text does not write: unknown keys, wrong types, bad digests,
/// "params" and "description" of two models. Whether the ranges make sense is check_directory's business.
[[nodiscard]] ContainerDirectory parse_directory(std::string_view text, std::string_view subject);

/// The two digests of what a container holds, whatever its version.
struct ContainerDigests {
  base::Sha256 root;     ///< root_digest() of root_parts()
  base::Sha256 tensors;  ///< tensors_digest()
};

/// All that decides what is computed: the model's description, the sections as stored, and the tensors.
[[nodiscard]] std::vector<RootPart> root_parts(const ContainerDirectory& directory);
[[nodiscard]] ContainerDigests digests_of(const ContainerDirectory& directory);
/// The root in the footer of a container of that version.
[[nodiscard]] const base::Sha256& stored_root(const ContainerDigests& digests, std::uint32_t version);

/// The version is the footer's; the tensors are those of the description, with the right shapes; everything
/// lies between header and directory in order, aligned, without overlap; experts are contiguous; the digests
/// of experts and the footer's root follow from the directory. Returns the digests.
ContainerDigests check_directory(const ContainerDirectory& directory, const ContainerFooter& footer,
                                 std::string_view subject);

/// The experts that follow from the tensors, by layer, then expert.
[[nodiscard]] std::vector<ContainerExpert> experts_of(const std::vector<ContainerTensor>& tensors,
                                                      const ModelDescription& description);

}  // namespace sluice::format
