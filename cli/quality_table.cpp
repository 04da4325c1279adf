// Prints what rounding has cost. Errors are relative RMS errors of the weights, so kinds of tensors with
// different magnitudes compare; the figures for every tensor are in the container and in --json of inspect.

#include "cli/quality_table.h"

#include <algorithm>
#include <string>

#include "base/text.h"
#include "cli/table.h"

namespace sluice::cli {

void print_quality(const convert::QualityReport& quality, Console& console) {
  if (console.quiet()) return;
  Table table({2, 3});
  // One row stands for all tensors of a kind: a model has thousands of tensors.
  for (const auto& kind : quality.kinds)
    table.add_row({"  " + kind.name, kind.type, format_number("%.2f", kind.bits_per_weight),
                   format_number("%.5f", kind.relative_error)});
  console.print("types, bits a weight and relative RMS error of the weights:");
  console.print(table);
  // A mean over a kind hides a single bad expert, so the worst ones are named.
  std::string worst = "worst experts (layer.expert):";
  for (const auto& expert : quality.worst_experts)
    worst += " " + std::to_string(expert.layer) + "." + std::to_string(expert.expert) +
             format_number(" %.5f", expert.relative_error);
  // Types that keep every bit have no errors to tell.
  const bool exact = std::ranges::all_of(quality.worst_experts,
                                         [](const auto& expert) { return expert.relative_error == 0; });
  if (!exact) console.print(worst);
}

void print_under_calibrated(std::uint64_t calibration_tokens,
                            const std::vector<convert::UnderCalibratedExpert>& experts, Console& console) {
  const std::string line = "calibrated on " + with_commas(calibration_tokens) + " tokens";
  if (experts.empty()) {
    console.print(line + "; every expert saw enough of them");
    return;
  }
  console.print(line + "; " + base::to_counted(experts.size(), "expert") +
                " saw too few tokens and got their layer's mean, too; use a longer text");
}

}  // namespace sluice::cli
