#pragma once
// One line about a text that was generated: tokens, rates, and why it ended.

#include <cstdint>
#include <string>

#include "cli/run_options.h"
#include "runtime/runtime.h"

namespace sluice::cli {

/// "[prompt 5 tokens, 80.1/s; text 12 tokens, 25.0/s; first token 0.06 s; end of text; seed 7]".
/// `reused_from` names what the reused tokens of the prompt were taken from.
[[nodiscard]] std::string statistics_line(const runtime::Generation& generation, std::uint64_t prompt_tokens,
                                          std::uint64_t reused_tokens, const std::string& reused_from,
                                          const RunOptions& values);

}  // namespace sluice::cli
