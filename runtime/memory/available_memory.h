#pragma once
// How much memory this process can still get: what the kernel has, and what its control groups leave.

#include <cstdint>
#include <filesystem>

namespace sluice::runtime {

/// The least of MemAvailable in /proc/meminfo and of what is left in each memory control group from this
/// process's own up to the root (version 2, and version 1 where it still is), in bytes. Pages of files count
/// as free: the kernel drops them, and a mapped model fills a group with them. A file that cannot be read
/// does not limit the result. `root` stands for / in tests.
[[nodiscard]] std::uint64_t available_memory_bytes(const std::filesystem::path& root = "/");

}  // namespace sluice::runtime
