#pragma once
// How much memory this process can still get: what the kernel has, and what its control groups leave.

#include <cstdint>
#include <filesystem>

namespace sluice::runtime {

/// The least of MemAvailable in /proc/meminfo and of what each memory control group from this process's own
/// up to the root leaves (version 2, and version 1 where it still is). Pages of files count as free: the
/// kernel gives them up, and a mapped model fills a group with them. What cannot be read limits nothing.
/// `root` stands for / in tests.
[[nodiscard]] std::uint64_t available_memory_bytes(const std::filesystem::path& root = "/");

}  // namespace sluice::runtime
