#pragma once
// What kind of file system a folder lies on, and what a fetch of huge files should know about it.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::fetch {

struct FileSystem {
  std::string name;                             ///< "ext4", "nfs", ...; "unknown (0x...)"
  std::string warning;                          ///< empty when there is nothing to say
  std::optional<std::uint64_t> file_bytes_max;  ///< when files of a release can be longer
};

/// By the magic number of statfs(2).
[[nodiscard]] FileSystem describe_file_system(std::uint64_t magic);

/// Error{io} when the folder cannot be asked.
[[nodiscard]] FileSystem find_file_system(const std::filesystem::path& folder);

}  // namespace sluice::fetch
