#pragma once
// What a ContainerReader holds, for the two ways to make one: strictly (container_reader.cpp) and out of a
// damaged file (container_examination.cpp).

#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "base/guarded_mapping.h"
#include "format/container_directory.h"
#include "format/container_reader.h"

namespace sluice::format {

struct ContainerReader::Impl {
  Impl(base::MappedFile file_in, const ContainerFooter& footer_in, ContainerDirectory directory_in);

  base::MappedFile file;
  base::MappingGuard guard;  ///< goes before the mapping does
  ContainerFooter footer;
  ContainerDirectory directory;
  std::vector<std::size_t> by_name;  ///< indices of directory.tensors, sorted by name
};

/// Where the footer says that the directory lies is between header and footer, and ends at the footer.
[[nodiscard]] bool is_possible(const ContainerFooter& footer);

[[nodiscard]] base::Bytes directory_text(base::Bytes file, const ContainerFooter& footer);

}  // namespace sluice::format
