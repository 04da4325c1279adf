#pragma once
// Checks a container outside of its payload: header, footer and directory.
//
// The header is the same in every container of a version, and the footer follows from the directory. So
// damage in either is located to the byte, and the payload can still be verified. The directory has no copy:
// when it is damaged, the positions of the tensors are unknown. At least one of footer and directory must be
// undamaged; otherwise nothing shows that the file is a container.

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
  std::uint64_t length_bytes = 0;  ///< of the wrong bytes, or of the whole part when they are not known
};

struct ContainerCheck {
  std::vector<ContainerFault> faults;     ///< in order of their offset
  std::optional<ContainerReader> reader;  ///< absent when the directory is damaged
};

/// Throws the Error{malformed} of ContainerReader::open for a file that is no container, is cut off or
/// contradicts itself, because then nothing says which bytes are wrong.
[[nodiscard]] ContainerCheck check_container(const std::filesystem::path& path);

}  // namespace sluice::format
