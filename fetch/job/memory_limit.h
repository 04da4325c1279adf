#pragma once
// The memory limit of a worker, enforced by the kernel: hostile metadata or peers can end a process, which is
// then started again, but cannot exhaust the machine.

#include <cstdint>
#include <new>
#include <optional>
#include <string_view>

namespace sluice::fetch {

/// Lets this process allocate `bytes` more than it has now. Beyond that an allocation fails, and
/// `on_failure`, which must not return, is called in the allocating thread. The limit (RLIMIT_DATA) counts
/// private writable memory, and neither mapped files nor reserved address space. Does nothing when the kernel
/// does not say what the process has.
void limit_memory(std::uint64_t bytes, std::new_handler on_failure);

/// Returns freed memory to the kernel for other processes.
void return_free_memory();

/// VmData in the text of /proc/self/status, in bytes.
[[nodiscard]] std::optional<std::uint64_t> parse_data_bytes(std::string_view status);

}  // namespace sluice::fetch
