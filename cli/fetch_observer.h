#pragma once
// fetch's progress on the console.

#include <string>

#include "cli/console.h"
#include "cli/progress_line.h"
#include "fetch/fetch.h"

namespace sluice::cli {

class FetchObserver final : public fetch::FetchObserver {
 public:
  /// With a manifest, a torrent that it does not name is refused before anything of it is asked for:
  /// Error{verification}. `manifest` must outlive the observer; null: any torrent will do.
  explicit FetchObserver(Console& console, const format::Manifest* manifest = nullptr)
      : console_(console), line_(console), manifest_(manifest) {}

  void on_layout(const format::ReleaseLayout& layout) override;
  void on_preflight(const fetch::Preflight& preflight) override;
  void on_swarm(const fetch::Swarm& swarm) override;
  void on_status(const fetch::FetchStatus& status) override;
  void on_warning(std::string_view message) override { console_.warn(message); }

 private:
  double rate(const fetch::FetchStatus& status);

  Console& console_;
  ProgressLine line_;
  const format::Manifest* manifest_;
  RateMeter meter_;
  std::string phase_;
};

}  // namespace sluice::cli
