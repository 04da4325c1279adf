#pragma once
// What a request says about reaching others, checked and put into jobs for workers: peers, trackers, web
// seeds and mirrors, those that the user named and those that the source names.

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "fetch/fetch.h"
#include "fetch/job/worker_pipe.h"
#include "fetch/output_folder.h"

namespace sluice::fetch {

/// Error{usage} when there is no worker command, or too little memory for one.
void check_request(const FetchRequest& request);

class JobBuilder final {
 public:
  /// Error{usage} when a peer, mirror or tracker of the request is none. Both outlive the builder.
  JobBuilder(const FetchRequest& request, FetchObserver& observer);

  /// What the source names beside the release. It comes from strangers: what leads to private addresses is
  /// left out with a warning.
  void add_contacts(const std::vector<std::string>& peers, const std::vector<std::string>& trackers,
                    const std::vector<std::string>& web_seeds);

  [[nodiscard]] WorkerJob make_job(JobKind kind, const OutputFolder& folder) const;

 private:
  void add_contact(std::vector<Endpoint>& list, const char* what, const std::string& address,
                   std::string problem, const std::string& host);

  const FetchRequest& request_;
  FetchObserver& observer_;
  std::vector<Endpoint> peers_;
  std::vector<Endpoint> trackers_;
  std::vector<Endpoint> web_seeds_;
  std::vector<Endpoint> mirrors_;
  std::set<std::string> left_out_;  // told once
};

}  // namespace sluice::fetch
