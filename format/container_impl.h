#pragma once
// The state of a ContainerReader, shared by the two ways to make one: from a sound file
// (container_reader.cpp) and from a damaged one (container_check.cpp).

#include <mutex>
#include <string_view>
#include <unordered_map>

#include "base/bytes.h"
#include "base/file.h"
#include "format/container_directory.h"
#include "format/container_reader.h"

namespace sluice::format {

struct ContainerReader::Impl {
  Impl(base::MappedFile file_in, const ContainerFooter& footer_in, ContainerDirectory directory_in,
       const ContainerDigests& digests_in);

  base::MappedFile file;
  ContainerFooter footer;
  ContainerDirectory directory;
  ContainerDigests digests;
  /// The index in directory.tensors of each name. Made by the first search, since not all users search.
  [[nodiscard]] const std::unordered_map<std::string_view, std::size_t>& by_name() const;

 private:
  mutable std::once_flag by_name_made_;
  mutable std::unordered_map<std::string_view, std::size_t> by_name_;  // views of directory.tensors
};

/// True when the footer's range for the directory lies behind the header and ends at the footer.
[[nodiscard]] bool is_possible(const ContainerFooter& footer);

[[nodiscard]] base::Bytes directory_text(base::Bytes file, const ContainerFooter& footer);

}  // namespace sluice::format
