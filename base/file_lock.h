#pragma once
// Exclusive locks between processes (flock). A lock belongs to the opened file: it ends when the File, and
// every process that inherited its descriptor, has closed it; so also when the process is killed.

#include <functional>

#include "base/file.h"

namespace sluice::base {

/// Takes the lock; false when another process or File holds it. Failures are Error{io}.
[[nodiscard]] bool try_lock(const File& file);

/// Tries every 50 ms, until it has the lock or `keep_waiting()` returns false (or throws). True with the
/// lock.
[[nodiscard]] bool wait_for_lock(const File& file, const std::function<bool()>& keep_waiting);

/// Waits up to a second: as long as the kernel may need to release the lock of a process that was just
/// killed.
[[nodiscard]] bool wait_for_lock(const File& file);

/// False when the file was renamed, removed or replaced since it was opened. A process that removes or
/// renames files under their lock makes others ask this after they got the lock.
[[nodiscard]] bool still_has_its_name(const File& file);

}  // namespace sluice::base
