#pragma once
// Finds the file system of a folder, and its limits for a fetch of huge files.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::fetch {

struct FileSystem {
  std::string name;                             ///< "ext4", "nfs", ...; "unknown (0x...)"
  std::string warning;                          ///< a predicate such as "lies in memory: ..."; may be empty
  std::optional<std::uint64_t> file_bytes_max;  ///< set when files of a release can exceed it
};

/// Describes the file system with this magic number (statfs(2)).
[[nodiscard]] FileSystem describe_file_system(std::uint64_t magic);

/// Describes the file system of a folder. Error{io} when statfs fails.
[[nodiscard]] FileSystem find_file_system(const std::filesystem::path& folder);

}  // namespace sluice::fetch
