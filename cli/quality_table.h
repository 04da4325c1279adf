#pragma once
// The quality report of a conversion for people.

#include <cstdint>
#include <vector>

#include "cli/console.h"
#include "convert/convert.h"

namespace sluice::cli {

/// Relative errors by kind of tensor, and the worst experts.
void print_quality(const convert::QualityReport& quality, Console& console);

/// Prints how much of the calibration text the experts saw.
void print_under_calibrated(std::uint64_t calibration_tokens,
                            const std::vector<convert::UnderCalibratedExpert>& experts, Console& console);

}  // namespace sluice::cli
