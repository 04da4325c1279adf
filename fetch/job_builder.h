#pragma once
// Makes the jobs of workers from a request: checks the peers, trackers, web seeds and mirrors that the user
// or the release names, and marks those of the user as trusted.

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "fetch/fetch.h"
#include "fetch/job/worker_pipe.h"
#include "fetch/output_folder.h"

namespace sluice::fetch {

/// Error{usage} when the request has too little memory for a worker. A request without a worker command is a
/// bug of the caller.
void check_request(const FetchRequest& request);

class JobBuilder final {
 public:
  /// Error{usage} when a peer, mirror or tracker of the request is malformed. Both arguments must outlive the
  /// builder.
  JobBuilder(const FetchRequest& request, FetchObserver& observer);

  /// Adds the endpoints that the release names. They come from strangers, so malformed ones and those at
  /// private addresses are left out with a warning.
  void add_endpoints(const std::vector<std::string>& peers, const std::vector<std::string>& trackers,
                     const std::vector<std::string>& web_seeds);

  [[nodiscard]] WorkerJob make_job(JobKind kind, const OutputFolder& folder) const;

 private:
  void add_endpoint(std::vector<Endpoint>& list, const char* what, const std::string& address,
                    std::string problem, const std::string& host);

  const FetchRequest& request_;
  FetchObserver& observer_;
  std::vector<Endpoint> peers_;
  std::vector<Endpoint> trackers_;
  std::vector<Endpoint> web_seeds_;
  std::vector<Endpoint> mirrors_;
  std::set<std::string> left_out_;  // reported once
};

}  // namespace sluice::fetch
