#pragma once
// The jobs of a worker process. Each runs in the main thread of a process of its own until the job is done or
// the parent asks it to stop, and reports through `pipe`; errors are thrown, and run_worker() (fetch/fetch.h)
// sends them.

#include "fetch/job/worker_pipe.h"

namespace sluice::fetch {

/// Gets the info dictionary of a magnet link from peers (BEP 9) and writes it to `job.result`.
void run_metadata_job(const WorkerJob& job, WorkerPipe& pipe);

/// Fetches the files of the .torrent `job.torrent` into `job.folder`.
void run_payload_job(const WorkerJob& job, WorkerPipe& pipe);

}  // namespace sluice::fetch
