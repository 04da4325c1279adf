#pragma once
// A worker's ceiling, kept by the kernel: hostile metadata or peers end a process that is started again, and
// never the machine.

#include <cstdint>
#include <optional>
#include <string_view>

namespace sluice::fetch {

/// From now on this process can get so many bytes more than it has. Beyond that an allocation fails. Counted
/// is memory of its own that can be written (RLIMIT_DATA), not mapped files and not address space that is
/// only set aside. Nothing happens where the kernel does not tell what the process has.
void limit_memory(std::uint64_t bytes);

/// VmData in the text of /proc/self/status, in bytes.
[[nodiscard]] std::optional<std::uint64_t> parse_data_bytes(std::string_view status);

}  // namespace sluice::fetch
