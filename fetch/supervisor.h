#pragma once
// Runs one job to its end: starts a worker for it, starts it again when it crashes, watches that bytes
// arrive, and passes its events to the observer.

#include <optional>
#include <stop_token>

#include "fetch/fetch.h"
#include "fetch/job/worker_pipe.h"

namespace sluice::fetch {

struct JobOutcome {
  std::uint64_t downloaded_bytes = 0;
  std::uint64_t rehashed_bytes = 0;
  std::uint64_t adopted_bytes = 0;
  std::optional<std::uint64_t> believed_bytes;
  std::uint64_t believed_pieces = 0;
};

/// Fills in `job.parent`. Errors: the worker's own, no_peers after request.timeout_s without a byte,
/// interrupted on a stop request, io when workers keep crashing.
[[nodiscard]] JobOutcome run_supervised(const FetchRequest& request, WorkerJob job, int lock_descriptor,
                                        FetchObserver& observer, const std::stop_token& stop);

}  // namespace sluice::fetch
