#include "fetch/waiting.h"

#include <array>
#include <cmath>
#include <cstdio>

#include "base/text.h"

namespace sluice::fetch {
namespace {

/// Rounded down: 0.999 is not all of it.
std::string to_text(double availability) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.2f", std::floor(availability * 100) / 100);
  return text.data();
}

}  // namespace

std::string waiting_reason(const Situation& situation) {
  std::string reason;
  if (situation.peers == 0) {
    reason = "no peers";
  } else if (situation.metadata) {
    reason = "no connected peer sends the metadata";
  } else if (situation.availability && *situation.availability < 1) {
    reason = "the connected peers lack parts of it (availability " + to_text(*situation.availability) + ")";
  } else {
    reason = "the connected peers send nothing";
  }
  if (situation.failing_trackers > 0)
    reason += "; " + std::to_string(situation.failing_trackers) + " of " +
              base::to_counted(situation.trackers, "tracker") +
              (situation.failing_trackers == 1 ? " fails" : " fail");
  return reason;
}

}  // namespace sluice::fetch
