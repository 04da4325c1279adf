// Makes the jobs of workers. The user's endpoints are checked strictly, since a typing error should end the
// command. Endpoints that the release names are only advice: an unusable one costs a warning.
//
// A private address is recognised here only if it is written as an address or a reserved name. Other names
// are resolved and checked in the worker (swarm/add_endpoints.cpp), because the parent opens no connections.

#include "fetch/job_builder.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/invariant.h"
#include "base/text.h"
#include "fetch/net/address.h"

namespace sluice::fetch {
namespace {

std::string host_of_url(const std::string& text) {
  const auto url = parse_url(text);
  return url ? url->host.host : std::string();
}

}  // namespace

void check_request(const FetchRequest& request) {
  if (request.memory_bytes < kMemoryBytesMin)
    throw base::Error(base::ErrorKind::usage, "a fetch needs at least " +
                                                  base::to_human_bytes(kMemoryBytesMin) + " of memory, not " +
                                                  base::to_human_bytes(request.memory_bytes));
  INVARIANT(!request.worker_command.empty());  // the program's own mistake, unlike the above
}

JobBuilder::JobBuilder(const FetchRequest& request, FetchObserver& observer)
    : request_(request), observer_(observer) {
  using base::Error;
  using base::ErrorKind;
  for (const std::string& peer : request.peers) {
    if (!parse_host_port(peer)) throw Error(ErrorKind::usage, "peer '" + peer + "': expected HOST:PORT");
    peers_.push_back({peer, true});
  }
  for (const std::string& url : request.mirrors) {
    if (const auto problem = web_seed_problem(url); !problem.empty())
      throw Error(ErrorKind::usage, "mirror '" + url + "' " + problem);
    mirrors_.push_back({url, true});
  }
  for (const std::string& url : request.trackers) {
    if (const auto problem = tracker_problem(url); !problem.empty())
      throw Error(ErrorKind::usage, "tracker '" + url + "' " + problem);
    trackers_.push_back({url, true});
  }
}

void JobBuilder::add_endpoints(const std::vector<std::string>& peers,
                               const std::vector<std::string>& trackers,
                               const std::vector<std::string>& web_seeds) {
  for (const std::string& peer : peers)
    add_endpoint(peers_, "peer", peer, "", parse_host_port(peer).value_or(HostPort()).host);
  for (const std::string& url : trackers)
    add_endpoint(trackers_, "tracker", url, tracker_problem(url), host_of_url(url));
  for (const std::string& url : web_seeds)
    add_endpoint(web_seeds_, "web seed", url, web_seed_problem(url), host_of_url(url));
}

void JobBuilder::add_endpoint(std::vector<Endpoint>& list, const char* what, const std::string& address,
                              std::string problem, const std::string& host) {
  const auto same = [&](const Endpoint& endpoint) { return endpoint.address == address; };
  // A magnet link and its .torrent often name the same trackers; the user's entry stays trusted.
  if (std::ranges::any_of(list, same) || left_out_.contains(address)) return;
  if (problem.empty() && !request_.allow_private && is_private_host(host))
    problem = "leads to a private address (--allow-private permits that)";
  if (problem.empty()) {
    list.push_back({address, false});
    return;
  }
  left_out_.insert(address);
  observer_.on_warning(std::string(what) + " '" + base::to_printable(address) + "' is left out: it " +
                       problem);
}

WorkerJob JobBuilder::make_job(JobKind kind, const OutputFolder& folder) const {
  WorkerJob job;
  job.kind = kind;
  job.result = kind == JobKind::metadata ? folder.info_path() : folder.layers_path();
  if (kind == JobKind::payload) {
    job.torrent = folder.torrent_path();
    job.folder = folder.path();
    // Relative to the folder: the worker opens both below it, without following a symbolic link.
    job.journal = folder.journal_path().lexically_relative(folder.path());
    job.parts = folder.parts_path().lexically_relative(folder.path());
  }
  job.peers = peers_;
  job.trackers = trackers_;
  job.web_seeds = web_seeds_;
  job.mirrors = mirrors_;
  job.limit_down_bytes_per_s = request_.limit_down_bytes_per_s;
  job.limit_up_bytes_per_s = request_.limit_up_bytes_per_s;
  job.memory_bytes = request_.memory_bytes;
  job.dht_state = dht_state_path(request_.cache_folder);
  job.dht = request_.dht;
  job.pex = request_.pex;
  job.lsd = request_.lsd;
  job.allow_private = request_.allow_private;
  job.port = request_.port;
  job.seed_ratio = request_.seed_ratio;
  job.seed_time_min = request_.seed_time_min;
  return job;
}

}  // namespace sluice::fetch
