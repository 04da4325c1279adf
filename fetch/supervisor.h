#pragma once
// Runs one job to its end: starts workers for it, starts them again when they crash, watches that bytes
// arrive, and passes their words on.

#include <stop_token>

#include "fetch/fetch.h"
#include "fetch/job/worker_pipe.h"

namespace sluice::fetch {

struct JobOutcome {
  std::uint64_t downloaded_bytes = 0;
  std::uint64_t rehashed_bytes = 0;
};

/// Errors of the worker, no_peers after request.timeout_s without a byte, interrupted when `stop` asked for
/// it, io when workers keep crashing. `job.parent` is filled in here.
[[nodiscard]] JobOutcome run_supervised(const FetchRequest& request, WorkerJob job, int lock_descriptor,
                                        FetchObserver& observer, const std::stop_token& stop);

}  // namespace sluice::fetch
