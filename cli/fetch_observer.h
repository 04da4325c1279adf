#pragma once
// The progress of a download on the console.

#include <string>

#include "cli/console.h"
#include "cli/progress_line.h"
#include "fetch/fetch.h"

namespace sluice::cli {

class FetchObserver final : public fetch::FetchObserver {
 public:
  explicit FetchObserver(Console& console) : console_(console), line_(console) {}

  void on_layout(const format::ReleaseLayout& layout) override;
  void on_preflight(const fetch::Preflight& preflight) override;
  void on_swarm(const fetch::Swarm& swarm) override;
  void on_status(const fetch::FetchStatus& status) override;
  void on_warning(std::string_view message) override { console_.warn(message); }

 private:
  double rate(const fetch::FetchStatus& status);

  Console& console_;
  ProgressLine line_;
  RateMeter meter_;
  std::string phase_;
  std::string name_;  // of the torrent
};

}  // namespace sluice::cli
