#include "cli/residency.h"

#include "base/text.h"
#include "cli/table.h"

namespace sluice::cli {
namespace {

/// Returns 0 before the first use, because 0 / 0 would be NaN, which JSON cannot hold.
double hit_rate(const runtime::ResidencyStats& stats) {
  const double uses = static_cast<double>(stats.hits + stats.misses);
  return uses > 0 ? static_cast<double>(stats.hits) / uses : 0;
}

}  // namespace

format::Json residency_json(const runtime::ResidencyStats& stats) {
  // Counts of an expert cache would be zeros that look like measurements.
  if (!stats.streams) return format::Json::object({{"streams", false}});
  return format::Json::object({{"streams", true},
                               {"experts", stats.expert_count},
                               {"experts_held", stats.experts_held},
                               {"expert_bytes", stats.expert_bytes},
                               {"hits", stats.hits},
                               {"misses", stats.misses},
                               {"hit_rate", hit_rate(stats)},
                               {"bytes_read", stats.bytes_read},
                               {"read_s", stats.read_s},
                               {"stall_s", stats.stall_s}});
}

void warn_of_memory(const runtime::ResidencyStats& stats, Console& console) {
  if (stats.limit_too_low) {
    console.warn(
        "--memory has no effect, because attention weights, keys and values and two experts take more: the "
        "whole file is mapped, and the kernel decides what stays in memory");
  }
}

std::string residency_line(const runtime::ResidencyStats& stats) {
  if (!stats.streams) return "memory: the whole model is mapped";
  return "memory: holds " + std::to_string(stats.experts_held) + " of " + std::to_string(stats.expert_count) +
         " experts; " + format_number("%.1f %%", hit_rate(stats) * 100) + " of " +
         std::to_string(stats.hits + stats.misses) + " uses were there, " +
         base::to_human_bytes(stats.bytes_read) + " were read in " + format_number("%.3f s", stats.read_s) +
         ", of which computing waited " + format_number("%.3f s", stats.stall_s);
}

}  // namespace sluice::cli
