// Lines between fetch and its workers, in both directions.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/invariant.h"
#include "fetch/job/worker_event.h"
#include "fetch/job/worker_pipe.h"

using namespace sluice;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view line(reinterpret_cast<const char*>(data), size);
  try {
    const fetch::WorkerEvent event = fetch::parse_event(line);
    if (const auto* status = std::get_if<fetch::StatusEvent>(&event))
      INVARIANT(status->status.done_bytes <= status->status.total_bytes);
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
  try {
    // What was accepted can be sent on, and reads back as the same.
    const std::string again = fetch::to_json(fetch::parse_job(line)).dump();
    INVARIANT(fetch::to_json(fetch::parse_job(again)).dump() == again);
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
  return 0;
}
