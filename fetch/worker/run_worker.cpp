// The body of a worker process: reads its job, limits its own memory, runs the job, and reports how it ended.

#include "fetch/worker/run_worker.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <boost/system/system_error.hpp>
#include <cstdlib>
#include <system_error>

#include "base/error.h"
#include "fetch/fetch.h"
#include "fetch/job/memory_budget.h"
#include "fetch/job/memory_limit.h"

namespace sluice::fetch {
namespace {

/// A worker must never outlive its parent: nobody would know what it does.
void die_with_parent(std::int64_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The parent may have ended before the line above.
  if (::getppid() != static_cast<pid_t>(parent)) std::_Exit(1);
}

void write_plain(std::string_view text) {
  static_cast<void>(!::write(STDOUT_FILENO, text.data(), text.size()));
}

/// Called when an allocation fails, so it must not allocate: it writes the event as fixed text.
[[noreturn]] void end_without_memory() {
  write_plain(R"({"event":"error","kind":"io","message":")");
  write_plain(kOutOfMemory);
  write_plain("\"}\n");
  std::_Exit(base::exit_code(base::ErrorKind::io));
}

void run_job(const WorkerJob& job, WorkerPipe& pipe) {
  switch (job.kind) {
    case JobKind::metadata: return run_metadata_job(job, pipe);
    case JobKind::payload: return run_payload_job(job, pipe);
  }
}

int fail(WorkerPipe& pipe, base::ErrorKind kind, std::string_view message) {
  pipe.send_error(kind, message);
  return base::exit_code(kind);
}

}  // namespace

int run_worker() {
  ::signal(SIGINT, SIG_IGN);   // the parent decides what Ctrl-C means
  ::signal(SIGPIPE, SIG_IGN);  // raised when a web server ends a TLS connection
  WorkerPipe pipe;
  try {
    const auto line = pipe.read_line();
    if (!line)
      throw base::Error(base::ErrorKind::usage, "a worker is started by 'sluice fetch', not by hand");
    const WorkerJob job = parse_job(*line);
    die_with_parent(job.parent);
    limit_memory(worker_memory_bytes(job.memory_bytes), end_without_memory);
    run_job(job, pipe);
    return 0;
  } catch (const base::Error& error) {
    return fail(pipe, error.kind(), error.what());
  } catch (const boost::system::system_error& error) {  // thrown by libtorrent
    return fail(pipe, base::ErrorKind::io, error.what());
  } catch (const std::system_error& error) {  // no thread could be started
    return fail(pipe, base::ErrorKind::io, error.what());
  }
}

}  // namespace sluice::fetch
