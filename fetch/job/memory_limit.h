#pragma once
// A worker's ceiling, kept by the kernel: hostile metadata or peers end a process that is started again, and
// never the machine.

#include <cstdint>
#include <new>
#include <optional>
#include <string_view>

namespace sluice::fetch {

/// From now on this process can get so many bytes more than it has. Beyond that an allocation fails, and
/// `on_failure`, which must not return, is called in the thread that asked. Counted is memory of its own that
/// can be written (RLIMIT_DATA), not mapped files and not address space that is only set aside. Nothing
/// happens where the kernel does not tell what the process has.
void limit_memory(std::uint64_t bytes, std::new_handler on_failure);

/// What was freed goes back to the kernel, for others to use.
void return_free_memory();

/// VmData in the text of /proc/self/status, in bytes.
[[nodiscard]] std::optional<std::uint64_t> parse_data_bytes(std::string_view status);

}  // namespace sluice::fetch
