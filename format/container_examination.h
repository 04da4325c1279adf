#pragma once
// What is wrong with a container outside of its payload: header, footer, directory.
//
// The header is the same in every container of a version, and all that the footer says follows from the
// directory, so either can be told byte for byte where it is wrong, and the rest of the file is still good to
// be proven. The directory has no copy: when it is damaged, where the tensors lie is not known. Footer or
// directory must be whole, or nothing tells the file from any other.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "format/container_reader.h"

namespace sluice::format {

struct ContainerFault {
  std::string part;  ///< "header", "directory" or "footer"
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;  ///< of the bytes that are wrong, or of the part where that is not known
};

struct ContainerExamination {
  std::vector<ContainerFault> faults;     ///< in order of their offset
  std::optional<ContainerReader> reader;  ///< absent when the directory is damaged
};

/// Error{malformed}, that of ContainerReader::open, for a file that is no container, is cut off or
/// contradicts itself: then nothing says which bytes are the wrong ones.
[[nodiscard]] ContainerExamination examine_container(const std::filesystem::path& path);

}  // namespace sluice::format
