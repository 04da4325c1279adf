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
    name_ = layout.name;
  }
}

void FetchObserver::on_preflight(const fetch::Preflight& preflight) {
  console_.event(format::Json::object({{"event", "preflight"},
                                       {"wanted_bytes", preflight.wanted_bytes},
                                       {"present_bytes", preflight.present_bytes},
                                       {"free_bytes", preflight.free_bytes},
                                       {"file_system", preflight.file_system},
                                       {"warnings", format::Json::array_of(preflight.warnings)}}));
  // "mixtral: 87.0 GiB to download to DIR (120 GiB free)", before the first byte.
  const std::string name = name_.empty() ? "release" : name_;
  const std::string folder = preflight.folder.string();
  const std::uint64_t missing_bytes =
      preflight.wanted_bytes - std::min(preflight.wanted_bytes, preflight.present_bytes);
  if (missing_bytes == 0) {
    console_.note(name + ": " + base::to_human_bytes(preflight.wanted_bytes) + ", all of it in " + folder +
                  " already");
  } else {
    const std::string present = preflight.present_bytes == 0
                                    ? ""
                                    : base::to_human_bytes(preflight.wanted_bytes) + ", " +
                                          base::to_human_bytes(preflight.present_bytes) + " of it there, ";
    console_.note(name + ": " + present + base::to_human_bytes(missing_bytes) + " to download to " + folder +
                  " (" + base::to_human_bytes(preflight.free_bytes) + " free)");
  }
  if (!console_.json())
    // With --json the event above has them already.
    for (const std::string& warning : preflight.warnings) console_.warn(warning);
}

void FetchObserver::on_swarm(const fetch::Swarm& swarm) {
  auto event = format::Json::object({{"event", "swarm"}, {"peers", swarm.peers}, {"seeds", swarm.seeds}});
  std::string line = base::to_counted(swarm.peers, "peer") + ", " + std::to_string(swarm.seeds) +
                     (swarm.seeds == 1 ? " of them has everything" : " of them have everything");
  if (swarm.complete) {
    event.set("complete", *swarm.complete);
    line += "; the trackers count " + base::to_counted(*swarm.complete, "seed");
    if (swarm.incomplete) {
      event.set("incomplete", *swarm.incomplete);
      line += " and " + std::to_string(*swarm.incomplete) + " others";
    }
  }
  if (swarm.availability) {
    event.set("availability", *swarm.availability);
    // The number is rounded down: 0.999 copies are not a whole copy, and 1.00 says that the swarm has every
    // piece.
    line +=
        "; copies of the rarest piece: " + format_number("%.2f", std::floor(*swarm.availability * 100) / 100);
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
