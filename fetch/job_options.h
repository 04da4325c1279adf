#pragma once
// What the two jobs of a worker have in common: a job's options as libtorrent's, and what a tracker said.

#include <libtorrent/alert_types.hpp>
#include <libtorrent/torrent_flags.hpp>

#include "fetch/session.h"
#include "fetch/worker.h"

namespace sluice::fetch {

[[nodiscard]] inline SessionOptions session_options(const WorkerJob& job) {
  SessionOptions options;
  options.port = job.port;
  options.dht = job.dht;
  options.lsd = job.lsd;
  options.limit_down_bytes_per_s = job.limit_down_bytes_per_s;
  options.limit_up_bytes_per_s = job.limit_up_bytes_per_s;
  options.memory_bytes = job.memory_bytes;
  options.allow_private = job.allow_private;
  return options;
}

[[nodiscard]] inline lt::torrent_flags_t torrent_flags(const WorkerJob& job) {
  lt::torrent_flags_t flags = lt::torrent_flags::apply_ip_filter;
  if (!job.dht) flags |= lt::torrent_flags::disable_dht;
  if (!job.lsd) flags |= lt::torrent_flags::disable_lsd;
  if (!job.pex) flags |= lt::torrent_flags::disable_pex;
  return flags;
}

inline void send_tracker_problem(const lt::tracker_error_alert& alert, WorkerPipe& pipe) {
  std::string message = alert.error.message();
  if (const std::string said = alert.failure_reason(); !said.empty()) message += ": " + said;
  pipe.send(format::Json::object({{"event", "tracker"}, {"url", alert.tracker_url()}, {"message", message}}));
}

}  // namespace sluice::fetch
