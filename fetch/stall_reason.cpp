#include "fetch/stall_reason.h"

#include <array>
#include <cmath>
#include <cstdio>

#include "base/text.h"

namespace sluice::fetch {
namespace {

/// Rounds down, because an availability of 0.999 is not complete.
std::string to_text(double availability) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.2f", std::floor(availability * 100) / 100);
  return text.data();
}

}  // namespace

std::string stall_reason(const TransferState& state) {
  std::string reason;
  if (state.peers == 0) {
    reason = "no peers";
  } else if (state.metadata) {
    reason = state.unproven ? "what peers sent is not the metadata, or not all of it"
                            : "no connected peer sends the metadata";
  } else if (state.availability && *state.availability < 1) {
    reason = "the connected peers lack parts of it (availability " + to_text(*state.availability) + ")";
  } else {
    reason = state.unproven ? "nothing that the peers send proves right" : "the connected peers send nothing";
  }
  if (state.failing_trackers > 0)
    reason += "; " + std::to_string(state.failing_trackers) + " of " +
              base::to_counted(state.trackers, "tracker") +
              (state.failing_trackers == 1 ? " fails" : " fail");
  return reason;
}

}  // namespace sluice::fetch
