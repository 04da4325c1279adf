#include "cli/generation_report.h"

#include "base/text.h"
#include "cli/table.h"

namespace sluice::cli {
namespace {

/// Why the text ended, in words; --json has runtime::to_string().
std::string describe_end(runtime::StopReason reason, const RunOptions& values) {
  switch (reason) {
    case runtime::StopReason::eos: return "end of text";
    case runtime::StopReason::length:
      return values.tokens_max < 0 ? "stopped at the end of the context"
                                   : "stopped at -n " + std::to_string(values.tokens_max);
    case runtime::StopReason::interrupt: return "stopped by Ctrl-C";
    case runtime::StopReason::stop_text: return "stop text found";
  }
  return {};
}

}  // namespace

std::string statistics_line(const runtime::Generation& generation, std::uint64_t prompt_tokens,
                            std::uint64_t reused_tokens, const std::string& reused_from,
                            const RunOptions& values) {
  std::string line = "[prompt " + base::to_counted(prompt_tokens - reused_tokens, "token") +
                     format_number(", %.1f/s", generation.prefill_tokens_per_s);
  if (reused_tokens > 0) line += ", " + std::to_string(reused_tokens) + " more from " + reused_from;
  line += "; text " + base::to_counted(generation.ids.size(), "token") +
          format_number(", %.1f/s", generation.decode_tokens_per_s) +
          format_number("; first token %.2f s; ", generation.first_token_s) +
          describe_end(generation.stop, values);
  if (values.sampling.temperature > 0) line += "; seed " + std::to_string(values.sampling.seed);
  return line + "]";
}

}  // namespace sluice::cli
