#include "cli/fetch_observer.h"

#include <algorithm>

#include "base/text.h"

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

void FetchObserver::on_status(const fetch::FetchStatus& status) {
  line_.show({status.phase, status.done_bytes, status.total_bytes,
              static_cast<double>(status.rate_bytes_per_s), status.peers, true});
}

}  // namespace sluice::cli
