// fetch calls the observer from the thread that called fetch(), so nothing is locked here; the console locks
// its own output.

#include "cli/fetch_observer.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "cli/table.h"

namespace sluice::cli {

void FetchObserver::on_layout(const format::ReleaseLayout& layout) {
  const auto files =
      std::ranges::count_if(layout.files, [](const format::ReleaseFile& file) { return !file.pad; });
  if (console_.json()) {
    console_.event(format::Json::object(
        {{"event", "metadata"}, {"name", layout.name}, {"files", files}, {"bytes", layout.payload_bytes()}}));
  } else {
    console_.note(base::to_printable(layout.name) + ": " + base::to_human_bytes(layout.payload_bytes()));
  }
}

void FetchObserver::on_preflight(const fetch::Preflight& preflight) {
  console_.event(format::Json::object({{"event", "preflight"},
                                       {"wanted_bytes", preflight.wanted_bytes},
                                       {"present_bytes", preflight.present_bytes},
                                       {"free_bytes", preflight.free_bytes},
                                       {"file_system", preflight.file_system},
                                       {"warnings", format::Json::array_of(preflight.warnings)}}));
  std::string line = base::to_human_bytes(preflight.wanted_bytes) + " to fetch";
  if (preflight.present_bytes > 0)
    line += ", " + base::to_human_bytes(preflight.present_bytes) + " of them on the disk";
  console_.note(line + "; " + base::to_human_bytes(preflight.free_bytes) + " free on " +
                preflight.file_system);
  if (!console_.json())
    // With --json the event above has them already.
    for (const std::string& warning : preflight.warnings) console_.warn(warning);
}

void FetchObserver::on_swarm(const fetch::Swarm& swarm) {
  auto event = format::Json::object({{"event", "swarm"}, {"peers", swarm.peers}, {"seeds", swarm.seeds}});
  std::string line = "swarm: ";
  if (swarm.complete) {
    event.set("complete", *swarm.complete);
    line += "the trackers know " + std::to_string(*swarm.complete) + " complete";
    if (swarm.incomplete) {
      event.set("incomplete", *swarm.incomplete);
      line += " and " + std::to_string(*swarm.incomplete) + " incomplete";
    }
    line += "; ";
  }
  line += std::to_string(swarm.peers) + " connected, " + std::to_string(swarm.seeds) + " of them complete";
  if (swarm.availability) {
    event.set("availability", *swarm.availability);
    // The number is rounded down: 0.999 copies are not a whole copy, and 1.00 says that the swarm has every
    // piece.
    line += "; availability " + format_number("%.2f", std::floor(*swarm.availability * 100) / 100);
  }
  console_.event(event);
  console_.note(line);
}

void FetchObserver::on_status(const fetch::FetchStatus& status) {
  const double rate_per_s = rate(status);
  line_.show({status.phase, status.done_bytes, status.total_bytes, rate_per_s, status.peers, true,
              status.stall_reason, status.availability, meter_.settled()});
}

/// The rate of finished bytes, whether they came from peers or from the disk; while seeding, of sent bytes.
/// Each phase is measured anew, so that bytes that are there when it begins do not count as speed.
double FetchObserver::rate(const fetch::FetchStatus& status) {
  if (status.phase == "seeding") return static_cast<double>(status.rate_bytes_per_s);
  const auto now = RateMeter::Clock::now();
  if (phase_ != status.phase) meter_.reset(status.done_bytes, now);
  phase_ = status.phase;
  return meter_.update(status.done_bytes, now);
}

}  // namespace sluice::cli
