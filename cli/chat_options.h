#pragma once
// `run --chat` and conversations at a terminal share these parts: variables of the chat template, and the
// sampling that the model's authors recommend.

#include <span>
#include <string>
#include <vector>

#include "cli/console.h"
#include "cli/run_options.h"
#include "format/json.h"
#include "runtime/runtime.h"
#include "text/text.h"

namespace sluice::cli {

/// Error{usage} for an entry that is not NAME=VALUE. A VALUE that is JSON counts as that (true, 3, ["a"]),
/// any other as a text.
[[nodiscard]] format::Json parse_chat_variables(std::span<const std::string> entries);

/// Takes the recommended sampling over unless the user gave options of sampling, and says so.
void use_recommended_sampling(const runtime::Model& model, RunOptions& values, Console& console);

}  // namespace sluice::cli
